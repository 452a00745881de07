"""Networks that say how many of the raters mark a pixel: one output a level, ordered.

Level k of K says that more than (k - 1/2) / K of those who rated mark the pixel: with K = R, and everybody there, that
at least k of R do. Where fewer rated a case the same shares are asked of them, so that one network learns from ragged
sets of raters.

Source: arXiv:2605.02437, "ordinal votes": cumulative heads trained with the ranked probability score and the usual
binary loss. The order of the levels (no level is more probable than the one before) is by construction here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.learn.space import aside


def ordered(outputs: Float[Tensor, "B KC *space"], levels: int) -> Float[Tensor, "B K C *space"]:
    """Logits of the levels from a network's outputs: the first as it is, each further one lower by a softplus."""
    parts = outputs.unflatten(1, (levels, -1))
    lower = F.softplus(parts[:, 1:])
    logits: Tensor = parts[:, :1] - F.pad(lower, (0,) * (2 * (lower.ndim - 2)) + (1, 0)).cumsum(1)
    return logits


def level_targets(
    masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"], levels: int
) -> tuple[Float[Tensor, "B K C *space"], Bool[Tensor, "B C"]]:
    """What each level should say, 0 or 1, and which cases and structures anybody rated."""
    flags = aside(rated, masks)
    votes = masks.masked_fill(~flags, 0.0).sum(1)
    voters = flags.sum(1)
    k = torch.arange(1, levels + 1, device=masks.device).reshape(1, -1, *(1,) * (masks.ndim - 2))
    there = 2 * levels * votes[:, None].round() > (2 * k - 1) * voters[:, None]
    return there.to(masks.dtype), rated.any(1)


def ranked_loss(
    logits: Float[Tensor, "N K *space"], target: Float[Tensor, "N K *space"]
) -> Float[Tensor, ""]:
    """The ranked probability score, mean over levels and pixels: (P_k - [votes ≥ k])²."""
    return (logits.sigmoid() - target).square().mean()
