"""DivP, the Diverging Prism of MrPrism: what each rater would mark, read from the segmentation alone.

Source: Wu et al., "Multi-rater Prism", arXiv:2212.00601, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.attention import (
    LARGEST_GRID,
    SelfAttention,
    fit,
    grid_of,
    spread,
    tokens,
    untokened,
)
from mrprism.learn.networks.grid import CONV, IMAGES, Grid, means, pooled
from mrprism.learn.soft_fusion import log_odds
from mrprism.learn.space import cropped


class DivP(nn.Module):
    """Diverging Prism: from the segmentation to what each rater would mark (section 4.2).

    A stem to at most 32 x 32 (of volumes 16 x 16 x 16), patches of 2 x 2 of that as tokens, four self-attention blocks, the last with
    one head per rater; then each head's tokens meet the segmentation's own fine features. A straight path
    lets a rater be the segmentation seen through a blur of their own, moved outwards or inwards, which most
    raters nearly are; the rest of the network learns what is left.
    """

    scales = (1, 2, 4, 8)  # the straight path's blurs: means over so many pixels at stride 2

    def __init__(
        self, raters: int, structures: int, width: int = 64, per_rater: int = 8, grid: Grid = IMAGES
    ) -> None:
        super().__init__()
        self.raters, self.structures, self.grid = raters, structures, grid
        self.step = grid.strides[0]
        phases = math.prod(self.step)
        self.fine = nn.Sequential(
            grid.conv(structures, 32, grid.kernel(0, 5), self.step), nn.ReLU(inplace=True)
        )
        self.coarse = nn.Sequential(
            grid.conv(32, width, grid.kernel(1), grid.strides[1]), nn.ReLU(inplace=True)
        )
        self.patches = CONV[grid.dims](width, width, 2, stride=2)
        self.blocks = nn.ModuleList(SelfAttention(width, heads=4) for _ in range(3))
        self.heads = SelfAttention(width, heads=raters, width_out=raters * per_rater)
        self.from_fine = grid.point(32, raters * per_rater)
        straight = torch.zeros(raters, structures, len(self.scales))
        straight[..., 0] = 1.0
        self.straight = nn.Parameter(straight)
        self.out = nn.Parameter(0.1 * torch.randn(raters, structures * phases, per_rater))
        self.bias = nn.Parameter(torch.zeros(raters, structures * phases, 1))

    def forward(
        self, segmentation: Float[Tensor, "B C *space"], first: Sequence[int] | None = None
    ) -> Float[Tensor, "B R C ..."]:
        """Logits of each rater's mask, the four pixels of every 2 x 2 apart, (B, R, C, 2, 2, h, w): see `interleave`.

        Of a volume it is the eight voxels of every 2 x 2 x 2, or those of 1 x 2 x 2 where slices are thick.

        Args:
            segmentation: Probabilities; DivP sees nothing else.
            first: Which pixel of every block is wanted, and no other: (B, R, C, h, w).
        """
        segmentation = segmentation.contiguous()  # whatever order ConP's maps have
        fine = self.fine(segmentation)
        coarse = self.coarse(fine)
        stem = [max(2, n) for n in grid_of(coarse.shape[2:], LARGEST_GRID)]  # a patch needs two
        patches = self.patches(pooled(coarse, stem))
        grid = grid_of(patches.shape[2:], LARGEST_GRID)
        x = tokens(patches, grid)
        for block in (*self.blocks, self.heads):
            x = block(x, grid)
        weight, bias = self.from_fine.weight.flatten(1), self.from_fine.bias
        assert bias is not None
        few = spread(untokened(x + bias, grid), fine.shape[2:]).flatten(2)
        # a convolution of each pixel, as the product it is: maps of rows come out, whatever order these have
        per_rater = torch.baddbmm(few, weight.expand(len(few), -1, -1), fine.flatten(2)).relu_()
        out: Tensor = self.out
        lift: Tensor = self.bias
        phases = tuple(self.step)
        if first is not None:
            here = int(np.ravel_multi_index(tuple(first), phases))
            size, phases = math.prod(phases), ()
            out, lift = out[:, here::size], lift[:, here::size]
        logits = self._drawn(per_rater, self._blurs(segmentation).flatten(3), out, lift)
        drawn: Tensor = logits.unflatten(2, (self.structures, *phases)).unflatten(-1, fine.shape[2:])
        return drawn

    def _drawn(
        self,
        per_rater: Float[Tensor, "B f N"],
        blurs: Float[Tensor, "B C K N"],
        out: Float[Tensor, "R o width"],
        bias: Float[Tensor, "R o 1"],
    ) -> Float[Tensor, "B R o N"]:
        """What features and the straight path say together, in two products: these are the largest maps there are."""
        few, (outputs, width) = len(per_rater), out.shape[1:]
        # each rater's phases of a structure see that structure's blurs, and a one for the bias
        phases = outputs // self.structures
        own = torch.eye(self.structures, device=blurs.device, dtype=self.straight.dtype)
        straight = torch.einsum("rck,cd->rcdk", self.straight, own).flatten(2)
        straight = straight.repeat_interleave(phases, 1)
        straight = torch.cat([straight, bias], 2).flatten(0, 1)
        seen = F.pad(blurs.flatten(1, 2), (0, 0, 0, 1), value=1.0)
        logits = torch.bmm(straight.expand(few, -1, -1), seen).view(few * self.raters, outputs, -1)
        features = per_rater.view(few * self.raters, width, -1)
        out = out.expand(few, -1, -1, -1).reshape(few * self.raters, outputs, width)
        return torch.baddbmm(logits, out, features).view(few, self.raters, outputs, -1)

    def _blurs(self, segmentation: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C K *half"]:
        half = means(segmentation, self.step)
        blurs = [fit(means(half, self.grid.near(k, 1)), half.shape[2:]) for k in self.scales]
        return log_odds(torch.stack(blurs, 2))


def interleave(phases: Float[Tensor, "B R C ..."], size: Sequence[int]) -> Float[Tensor, "B R C *space"]:
    """The full-size maps of which `phases` holds every second row and column."""
    dims = len(size)
    pairs = [axis for place in range(3, 3 + dims) for axis in (place + dims, place)]
    whole = phases.permute(0, 1, 2, *pairs)
    for axis in reversed(range(3, 3 + 2 * dims, 2)):
        whole = whole.flatten(axis, axis + 1)
    return cropped(whole, size)


def apart(maps: Float[Tensor, "B C *space"], step: Sequence[int]) -> Float[Tensor, "B C ..."]:
    """The maps with the pixels of every block of `step` apart, as `interleave` takes them; of a size that blocks fill."""
    blocks = [size for n, k in zip(maps.shape[2:], step, strict=True) for size in (n // k, k)]
    dims = len(step)
    axes = [2 + 2 * axis + 1 for axis in range(dims)] + [2 + 2 * axis for axis in range(dims)]
    return maps.reshape(*maps.shape[:2], *blocks).permute(0, 1, *axes)
