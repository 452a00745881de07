"""DivP, the Diverging Prism of MrPrism: what each rater would mark, read from the segmentation alone.

Source: Wu et al., "Multi-rater Prism", arXiv:2212.00601, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.attention import LARGEST_GRID, SelfAttention, fit, grid_of
from mrprism.learn.soft_fusion import log_odds


class DivP(nn.Module):
    """Diverging Prism: from the segmentation to what each rater would mark (section 4.2).

    A stem to at most 32 x 32, patches of 2 x 2 of that as tokens, four self-attention blocks, the last with
    one head per rater; then each head's tokens meet the segmentation's own fine features. A straight path
    lets a rater be the segmentation seen through a blur of their own, moved outwards or inwards, which most
    raters nearly are; the rest of the network learns what is left.
    """

    scales = (1, 2, 4, 8)  # the straight path's blurs: means over so many pixels at stride 2

    def __init__(self, raters: int, structures: int, width: int = 64, per_rater: int = 8) -> None:
        super().__init__()
        self.raters, self.structures = raters, structures
        self.fine = nn.Sequential(nn.Conv2d(structures, 32, 5, stride=2, padding=2), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(32, width, 3, stride=2, padding=1), nn.ReLU())
        self.patches = nn.Conv2d(width, width, 2, stride=2)
        self.blocks = nn.ModuleList(SelfAttention(width, heads=4) for _ in range(3))
        self.heads = SelfAttention(width, heads=raters, width_out=raters * per_rater)
        self.from_fine = nn.Conv2d(32, raters * per_rater, 1)
        straight = torch.zeros(raters, structures, len(self.scales))
        straight[..., 0] = 1.0
        self.straight = nn.Parameter(straight)
        self.out = nn.Parameter(0.1 * torch.randn(raters, structures * 4, per_rater))
        self.bias = nn.Parameter(torch.zeros(raters, structures * 4, 1))

    def forward(self, segmentation: Float[Tensor, "B C *space"]) -> Float[Tensor, "B R C 2 2 *small"]:
        """Logits of each rater's mask, the four pixels of every 2 x 2 apart: see `interleave`.

        Args:
            segmentation: Probabilities; DivP sees nothing else.
        """
        fine = self.fine(segmentation)
        coarse = self.coarse(fine)
        x = self.patches(F.adaptive_avg_pool2d(coarse, grid_of(coarse.shape[-2:], LARGEST_GRID)))
        for block in (*self.blocks, self.heads):
            x = block(x)
        per_rater = F.relu(fit(x, fine.shape[-2:]) + self.from_fine(fine))
        logits: Tensor = self.out @ per_rater.flatten(2).unflatten(1, (self.raters, -1)) + self.bias
        logits = logits.unflatten(2, (self.structures, 2, 2)).unflatten(-1, fine.shape[-2:])
        blurred = torch.einsum("rck,bckhw->brchw", self.straight, self._blurs(segmentation))
        return logits + blurred[:, :, :, None, None]

    def _blurs(self, segmentation: Float[Tensor, "B C *space"]) -> Float[Tensor, "B C K *small"]:
        half = F.avg_pool2d(segmentation, 2, ceil_mode=True)
        blurs = [fit(F.avg_pool2d(half, k, ceil_mode=True), half.shape[-2:]) for k in self.scales]
        return log_odds(torch.stack(blurs, 2))


def interleave(
    phases: Float[Tensor, "B R C 2 2 *small"], size: Sequence[int]
) -> Float[Tensor, "B R C *space"]:
    """The full-size maps of which `phases` holds every second row and column."""
    whole = phases.permute(0, 1, 2, 5, 3, 6, 4).flatten(5, 6).flatten(3, 4)
    return whole[..., : size[0], : size[1]]
