"""Attention over the pixels of feature maps, pooled to a grid so that its cost does not grow with the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.grid import pooled, smooth

# by dimensions: attention never has more than 32 x 32 queries of an image, 16 x 16 x 16 of a volume
LARGEST_GRID = {2: 32, 3: 16}
# keys and values are pooled to at most 64: Wang et al., "Pyramid Vision Transformer", ICCV 2021
KEY_GRID = {2: 8, 3: 4}


class SelfAttention(nn.Module):
    """Multi-head self-attention, norm, MLP, norm, with residuals (Figure 2 c)."""

    def __init__(self, width: int, heads: int, width_out: int | None = None) -> None:
        super().__init__()
        out = width_out or width
        inner = out if width_out else width
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, out)
        self.residual = nn.Identity() if out == width else nn.Linear(width, out)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(out), nn.LayerNorm(out)
        self.mlp = nn.Sequential(nn.Linear(out, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, maps: Float[Tensor, "B c *small"]) -> Float[Tensor, "B d *small"]:
        grid = grid_of(maps.shape[2:], LARGEST_GRID)
        few = grid_of(grid, KEY_GRID)
        x, keys = tokens(maps, grid), tokens(maps, few)
        queries_at, keys_at = positions(grid, x.shape[-1], x), positions(few, x.shape[-1], x)
        attended = attend(self.query(x + queries_at), self.key(keys + keys_at), self.value(keys), self.heads)
        y = self.norm_attention(self.residual(x) + self.out(attended))
        y = self.norm_mlp(y + self.mlp(y))
        result: Tensor = y.transpose(1, 2).unflatten(-1, grid)
        return result


def attend(
    query: Float[Tensor, "B token c"],
    key: Float[Tensor, "B seen c"],
    value: Float[Tensor, "B seen c"],
    heads: int,
) -> Float[Tensor, "B token c"]:
    """Scaled dot-product attention in several heads."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    # written out: on a CPU, PyTorch's fused attention is three times slower for so few and narrow tokens
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    attended: Tensor = weights @ v
    return attended.transpose(1, 2).flatten(2)


def grid_of(size: Sequence[int], largest: Mapping[int, int]) -> tuple[int, ...]:
    """Places along each axis of a feature map, at most so many, by its dimensions."""
    return tuple(min(n, largest[len(size)]) for n in size)


def fit(x: Float[Tensor, "B c *small"], size: Sequence[int]) -> Float[Tensor, "B c *space"]:
    """Maps brought to another size, linear; unchanged when the size is right."""
    return x if tuple(x.shape[2:]) == tuple(size) else smooth(x, size)


def tokens(x: Float[Tensor, "B c *small"], grid: tuple[int, ...]) -> Float[Tensor, "B token c"]:
    """Maps pooled to a grid, its places side by side in rows."""
    if tuple(x.shape[2:]) != grid:
        x = pooled(x, grid)
    return x.flatten(2).transpose(1, 2)


def positions(grid: tuple[int, ...], width: int, like: Tensor) -> Float[Tensor, "token width"]:
    """Fixed sinusoidal positions, as many of the channels for each axis: of an image half for its rows."""
    count = width // (2 * len(grid))
    rates = torch.exp(torch.arange(count, device=like.device) * (-6.0 / max(count, 1)))
    along = []
    for axis, length in enumerate(grid):
        angle = torch.arange(length, device=like.device)[:, None] * (32.0 / length) * rates
        shape = [1] * len(grid) + [-1]
        shape[axis] = length
        along.append(torch.cat([angle.sin(), angle.cos()], -1).view(shape).expand(*grid, -1))
    together = torch.cat(along, -1).flatten(0, -2)
    return F.pad(together, (0, width - together.shape[-1])).to(like.dtype)
