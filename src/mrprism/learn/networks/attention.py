"""Attention over the pixels of feature maps, pooled to a grid so that its cost does not grow with the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LARGEST_GRID = 32  # attention never has more than 32 x 32 queries
# keys and values are pooled to at most 8 x 8: Wang et al., "Pyramid Vision Transformer", ICCV 2021
KEY_GRID = 8


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
        grid = grid_of(maps.shape[-2:], LARGEST_GRID)
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


def grid_of(size: Sequence[int], largest: int) -> tuple[int, int]:
    """Rows and columns of a feature map, `largest` each at most."""
    return min(size[0], largest), min(size[1], largest)


def fit(x: Float[Tensor, "B c *small"], size: Sequence[int]) -> Float[Tensor, "B c *space"]:
    """Maps brought to another size, bilinear; unchanged when the size is right."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def tokens(x: Float[Tensor, "B c *small"], grid: tuple[int, int]) -> Float[Tensor, "B token c"]:
    """Maps pooled to a grid, its places side by side in rows."""
    if tuple(x.shape[-2:]) != grid:
        x = F.adaptive_avg_pool2d(x, grid)
    return x.flatten(2).transpose(1, 2)


def positions(grid: tuple[int, int], width: int, like: Tensor) -> Float[Tensor, "token width"]:
    """Fixed sinusoidal positions, half of the channels for rows and half for columns."""
    quarter = width // 4
    rates = torch.exp(torch.arange(quarter, device=like.device) * (-6.0 / max(quarter, 1)))
    axes = []
    for length in grid:
        angle = torch.arange(length, device=like.device)[:, None] * (32.0 / length) * rates
        axes.append(torch.cat([angle.sin(), angle.cos()], -1))
    rows = axes[0][:, None].expand(*grid, -1)
    columns = axes[1][None].expand(*grid, -1)
    both = torch.cat([rows, columns], -1).flatten(0, 1)
    return F.pad(both, (0, width - both.shape[-1])).to(like.dtype)
