"""ConP, the Converging Prism of MrPrism: a U-Net decoder steered by how far each rater is trusted.

Source: Wu et al., "Multi-rater Prism", arXiv:2212.00601, section 4.1; equation numbers are the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.attention import KEY_GRID, LARGEST_GRID, attend, fit, grid_of, positions, tokens
from mrprism.learn.networks.convlstm import ConvLSTMStep
from mrprism.learn.networks.grid import IMAGES, NORM, Grid, pooled
from mrprism.learn.networks.unet import Decoder, Head, Up

Integration = Literal["attention", "concat", "convlstm"]


class ConP(nn.Module):
    """Converging Prism: a U-Net decoder that a confidence per rater steers (section 4.1)."""

    def __init__(
        self,
        widths: Sequence[int],
        raters: int,
        structures: int,
        integration: Integration,
        rounds: int,
        grid: Grid = IMAGES,
    ) -> None:
        super().__init__()
        self.decoder = Decoder(widths, rounds=rounds, grid=grid)
        ups: Sequence[Up] = list(self.decoder.ups)  # type: ignore[arg-type]
        steered = [widths[-1], *(up.from_below.out_channels for up in ups[:2])]  # strides 32, 16 and 8
        self.embedding = ConfidenceEmbedding(raters * structures, steered, grid)
        self.integrate = nn.ModuleList(
            INTEGRATIONS[integration](width, grid=grid, level=level)
            for width, level in zip(steered, (5, 4, 3), strict=True)
        )
        self.head = Head(self.decoder.width, structures, grid=grid)

    def forward(
        self,
        features: Sequence[Tensor],
        skips: Sequence[Tensor],
        weights: Float[Tensor, "#B R C *small"],
        size: Sequence[int],
        round: int,
    ) -> Float[Tensor, "B C *space"]:
        grids = [features[-1].shape[2:], skips[0].shape[2:], skips[1].shape[2:]]
        embedded = self.embedding(weights.flatten(1, 2), grids)
        x = features[-1]
        for stage, (up, skip) in enumerate(zip(self.decoder.ups, skips, strict=True)):
            if stage < len(self.integrate):
                x = self.integrate[stage](x, embedded[stage].expand(len(x), *embedded[stage].shape[1:]))
            x = up(x, skip, round)
        logits: Tensor = self.head(x, size)
        return logits


class ConfidenceEmbedding(nn.Module):
    """Separable convolutions from confidence maps to the sizes of ConP's features (Figure 7).

    Depth-wise convolutions change the resolution, point-wise ones the channels.
    """

    def __init__(self, maps: int, widths: Sequence[int], grid: Grid = IMAGES) -> None:
        super().__init__()
        w32, w16, w8 = widths
        self.to_stride_8 = nn.Sequential(grid.point(maps, 64), nn.ReLU(), grid.point(64, w8))
        self.to_stride_16 = nn.Sequential(nn.ReLU(), _separable(w8, w16, grid, 3))
        self.to_stride_32 = nn.Sequential(nn.ReLU(), _separable(w16, w32, grid, 4))

    def forward(
        self, weights: Float[Tensor, "B maps *small"], grids: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        fine = self.to_stride_8(weights if _is_one(weights) else pooled(weights, grids[2]))
        fine = fine.expand(*fine.shape[:2], *grids[2])
        middle = self.to_stride_16(fine)
        coarse = self.to_stride_32(middle)
        return [fit(x, grid) for x, grid in zip((coarse, middle, fine), grids, strict=True)]


def _separable(width_in: int, width_out: int, grid: Grid, level: int) -> nn.Sequential:
    depthwise = grid.conv(width_in, width_in, grid.kernel(level), grid.strides[level], groups=width_in)
    return nn.Sequential(depthwise, grid.point(width_in, width_out))


def _is_one(weights: Float[Tensor, "B maps *small"]) -> bool:
    """Whether they hold for the whole image."""
    return weights.shape[2:].numel() == 1


class Attention(nn.Module):
    """Features chosen by embedded confidence: query from the one, key and value from the other (eq. 7)."""

    def __init__(self, width: int, heads: int = 4, *, grid: Grid = IMAGES, level: int = 5) -> None:
        """
        Args:
            grid, level: Not used; every integration takes them.
        """
        super().__init__()
        self.heads = heads
        self.norm_features, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        last = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), last)
        for parameter in (*self.out.parameters(), *last.parameters()):
            nn.init.zeros_(parameter)  # begins as the plain U-Net and learns as fast

    def forward(
        self, features: Float[Tensor, "B c *small"], confidence: Float[Tensor, "B c *small"]
    ) -> Float[Tensor, "B c *small"]:
        grid = grid_of(features.shape[2:], LARGEST_GRID)
        few = grid_of(grid, KEY_GRID)
        w = tokens(confidence, grid)
        seen = self.norm_features(tokens(features, few))
        queries_at, keys_at = positions(grid, w.shape[-1], w), positions(few, w.shape[-1], w)  # E_w, E_f
        attended = attend(self.query(w + queries_at), self.key(seen + keys_at), self.value(seen), self.heads)
        # the query rides along: what ConP is told about the raters must reach its output, not only its gaze
        x = w + self.out(attended)
        x = x + self.mlp(self.norm_mlp(tokens(features, grid) + x))
        return features + fit(x.transpose(1, 2).unflatten(-1, grid), features.shape[2:])


class Concat(nn.Module):
    """Table 4's "Concat": features and confidence side by side, one convolution."""

    def __init__(self, width: int, grid: Grid = IMAGES, level: int = 5) -> None:
        super().__init__()
        join = grid.conv(2 * width, width, grid.kernel(level), bias=False)
        self.join = nn.Sequential(join, NORM[grid.dims](width), nn.ReLU())

    def forward(
        self, features: Float[Tensor, "B c *small"], confidence: Float[Tensor, "B c *small"]
    ) -> Float[Tensor, "B c *small"]:
        joined: Tensor = self.join(torch.cat([features, confidence], 1))
        return joined


INTEGRATIONS: dict[str, type[nn.Module]] = {
    "attention": Attention,
    "concat": Concat,
    "convlstm": ConvLSTMStep,
}
