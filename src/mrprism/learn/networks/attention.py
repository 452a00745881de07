"""Attention over the pixels of feature maps, pooled to a grid so that its cost does not grow with the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

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

    def forward(self, x: Float[Tensor, "B token c"], grid: tuple[int, ...]) -> Float[Tensor, "B token d"]:
        """
        Args:
            x: The places of `grid`, row by row.
        """
        few = grid_of(grid, KEY_GRID)
        keys = fewer(x, grid, few)
        queries_at, keys_at = positions(grid, x.shape[-1], x), positions(few, x.shape[-1], x)
        attended = attend(self.query(x + queries_at), self.key(keys + keys_at), self.value(keys), self.heads)
        y = self.norm_attention(self.residual(x) + self.out(attended))
        result: Tensor = self.norm_mlp(y + self.mlp(y))
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


def spread(x: Float[Tensor, "B c *small"], size: Sequence[int]) -> Float[Tensor, "B c *space"]:
    """`fit` of few places to a much finer grid: on a CPU the product is several times faster, gradient included."""
    if tuple(x.shape[2:]) == tuple(size) or x.ndim != 4:
        return fit(x, size)
    rows, columns = (
        smooth(torch.eye(n, device=x.device, dtype=x.dtype)[None, None], (n, m))[0, 0]
        for n, m in zip(x.shape[2:], size, strict=True)
    )
    whole: Tensor = rows.T @ (x @ columns)
    return whole


def tokens(x: Float[Tensor, "B c *small"], grid: tuple[int, ...]) -> Float[Tensor, "B token c"]:
    """Maps pooled to a grid, its places side by side in rows."""
    return pooled(x, grid).flatten(2).transpose(1, 2)


def untokened(x: Float[Tensor, "B token c"], grid: tuple[int, ...]) -> Float[Tensor, "B c *small"]:
    """The maps of which `tokens` made rows."""
    maps: Tensor = x.transpose(1, 2).unflatten(-1, grid)
    return maps


def fewer(
    x: Float[Tensor, "B token c"], grid: tuple[int, ...], few: tuple[int, ...]
) -> Float[Tensor, "B place c"]:
    """Tokens of a grid as the means of those of a coarser one."""
    if few == grid:
        return x
    if any(n % m for n, m in zip(grid, few, strict=True)):
        return tokens(untokened(x, grid), few)
    blocks = [size for n, m in zip(grid, few, strict=True) for size in (m, n // m)]
    means: Tensor = x.unflatten(1, blocks).mean(tuple(range(2, 1 + len(blocks), 2))).flatten(1, -2)
    return means


def positions(grid: tuple[int, ...], width: int, like: Tensor) -> Float[Tensor, "token width"]:
    """Fixed sinusoidal positions, as many of the channels for each axis: of an image half for its rows."""
    if torch.compiler.is_compiling():  # whoever traces keeps no real tensors
        return _positions(grid, width, like.device, like.dtype)
    return _kept_positions(grid, width, like.device, like.dtype)


def _positions(
    grid: tuple[int, ...], width: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "token width"]:
    count = width // (2 * len(grid))
    rates = torch.exp(torch.arange(count, device=device) * (-6.0 / max(count, 1)))
    along = []
    for axis, length in enumerate(grid):
        angle = torch.arange(length, device=device)[:, None] * (32.0 / length) * rates
        shape = [1] * len(grid) + [-1]
        shape[axis] = length
        along.append(torch.cat([angle.sin(), angle.cos()], -1).view(shape).expand(*grid, -1))
    together = torch.cat(along, -1).flatten(0, -2)
    return F.pad(together, (0, width - together.shape[-1])).to(dtype)


@lru_cache(maxsize=64)
def _kept_positions(
    grid: tuple[int, ...], width: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "token width"]:
    """The same, made once: a training asks for a few of them, twenty times a step."""
    with torch.inference_mode(False):  # what predicting has made, training may use
        return _positions(grid, width, device, dtype)
