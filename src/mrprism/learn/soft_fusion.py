"""Fusions that gradients pass through: masks and a confidence in each rater make one consensus.

`mrprism.fusion` counts vote patterns and is exact; these are the formulas a network learns with. Equation
numbers are those of Wu et al., "Multi-rater Prism", arXiv:2212.00601.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.learn.space import aside

CLEAR = 7.0  # log-odds of what all raters agree on, one in a thousand in doubt; seven raters' votes reach it
CLEAREST = 0.98  # confidences stay within [1 - CLEAREST, CLEAREST], so that log-odds stay within ±3.9


def log_odds(probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(p / (1 − p)) of a probability kept away from certainty."""
    return torch.logit(probability, eps=1 - CLEAREST)


def summed(
    maps: Float[Tensor, "B R C *space"], weights: Float[Tensor, "#B R C"]
) -> Float[Tensor, "B C *space"]:
    """Σ w z over raters, one weight for a whole map; without a copy of the maps, which are the largest there are."""
    weights = weights.expand(len(maps), -1, -1)
    each = [torch.bmm(weights[:, None, :, c], maps[:, :, c].flatten(2))[:, 0] for c in range(maps.shape[2])]
    together: Tensor = torch.stack(each, 1).unflatten(2, maps.shape[3:])
    return together


def weighted_share(
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    weights: Float[Tensor, "#B R C *#space"],
) -> Float[Tensor, "B C *space"]:
    """Σ w z / Σ w over those who rated."""
    present = weights * aside(rated, masks)
    together = summed(masks, present.flatten(2)) if _is_one(present) else (present * masks).sum(1)
    return together / present.sum(1).clamp(min=1e-6)


def mean_vote(
    masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
) -> Float[Tensor, "B C *space"]:
    """The share of those who rated that marked each pixel."""
    return weighted_share(masks, rated, aside(torch.ones_like(rated, dtype=masks.dtype), masks))


def fuse_log_odds(
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    weights: Float[Tensor, "#B R C *#space"],
) -> Float[Tensor, "B C *space"]:
    """Log-odds of the consensus: eq. 4 with both terms of Proposition 4, the uniform prior p_u being 0."""
    trusted = weights * aside(rated, masks)
    if _is_one(trusted):  # Σ w (2z − 1) without a map for each rater
        return summed(masks, 2 * trusted.flatten(2)) - trusted.sum(1)
    return ((2 * masks - 1) * trusted).sum(1)


def settle(
    logits: Float[Tensor, "B C *space"],
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    votes: Float[Tensor, "B C *space"] | None = None,
) -> Float[Tensor, "B C *space"]:
    """A consensus that is clear wherever all agree.

    Weights read where raters differ say little about the rest; two or four small ones would leave the
    background in doubt.

    Args:
        votes: The share of the masks, where it is known already.
    """
    if votes is None:  # who stands in for a rater votes as they most likely would
        votes = mean_vote(masks.round(), rated)
    logits = torch.where(votes == 1, logits.clamp(min=CLEAR), logits)
    return torch.where((votes == 0) & aside(rated.any(1), votes), logits.clamp(max=-CLEAR), logits)


def _is_one(weights: Float[Tensor, "#B R C *small"]) -> bool:
    """Whether there is one weight for the image."""
    return weights.shape[3:].numel() == 1


def fuse_share(
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    weights: Float[Tensor, "#B R C *#space"],
) -> Float[Tensor, "B C *space"]:
    """Log-odds of the share of votes for the structure, each vote weighing its log-odds."""
    return torch.logit(weighted_share(masks, rated, weights), eps=1e-6)


def fuse_ratio(
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    confidence: Float[Tensor, "#B R C *#space"],
) -> Float[Tensor, "B C *space"]:
    """Log-odds of the mean mask weighted by each rater's share of the confidence, as in the released code."""
    return log_odds(weighted_share(masks, rated, confidence))


def fuse_verbatim(
    masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"], raters: Float[Tensor, "B R C *space"]
) -> Float[Tensor, "B C *space"]:
    """Eq. 4 as printed: softmax over structure and background of Σ log z̃ · z, from DivP's logits.

    It inverts the vote (DESIGN): kept so that the paper's own cell can be run.
    """
    marked = (masks * aside(rated, masks) * F.logsigmoid(raters)).sum(1)
    unmarked = ((1 - masks) * aside(rated, masks) * F.logsigmoid(-raters)).sum(1)
    return marked - unmarked
