"""How far each rater is to be trusted, from masks and a segmentation: a chance of agreeing, or its log-odds."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.learn.soft_fusion import log_odds, mean_vote
from mrprism.learn.space import aside

EQUAL = 0.75  # the confidence everyone has before anything is known
CALIBRATION_RATE = 0.03  # of the running means, each step
DISPUTED = 2.5  # rates are counted as if ten evenly divided pixels had already shown what is usual


def agreement(
    segmentation: Float[Tensor, "B C *space"], raters: Float[Tensor, "B R C *space"]
) -> Float[Tensor, "B R C *space"]:
    """Chance that a rater's mark and the segmentation agree: a = ỹ s + (1 − ỹ)(1 − s)."""
    y = segmentation[:, None]
    return torch.addcmul(1 - y, 2 * y - 1, raters)


def tally(
    masks: Float[Tensor, "B R C *space"],
    segmentation: Float[Tensor, "B C *space"],
    votes: Float[Tensor, "B C *space"],
) -> tuple[Float[Tensor, "B R C 2"], Float[Tensor, "B 1 C 2"]]:
    """How often each rater was right where the vote is divided, and how often they could have been.

    Returns:
        Pixels, each weighing the vote's variance: marked inside the segmentation and left out outside it;
        and all pixels inside and outside, by which those are to be divided.
    """
    band = votes * (1 - votes)
    sides = torch.stack([band * segmentation, band * (1 - segmentation)], 2).flatten(3)
    # structure by structure: the maps of all raters are large, and are read where they lie
    each = [maps.flatten(2) @ sides[:, c].mT for c, maps in enumerate(masks.unbind(2))]
    inside, outside = torch.stack(each, 2).unbind(-1)
    chances = sides.sum(-1)[:, None]
    return torch.stack([inside, chances[..., 1] - outside], -1), chances


def skill(
    hits: Float[Tensor, "*B R C 2"],
    chances: Float[Tensor, "*B #R C 2"],
    usual: float | Float[Tensor, "*#B #R C 1"],
) -> Float[Tensor, "*B R C"]:
    """Log-odds of a rater's confidence: the mean of those of their sensitivity and specificity.

    By Bayes a vote moves the consensus by log-odds(sensitivity) + log-odds(specificity), twice this, between
    marked and unmarked. The constant that Bayes adds beside it is left out. It would be the same at every
    pixel, so all it does is make the consensus larger or smaller as a whole; and then who draws large or
    small seems the better rater, and the consensus grows or shrinks on. The plain share of pixels on
    which a rater is right, one coin, drifts likewise.

    Args:
        hits, chances: See `tally`; few of them leave the rates near what is `usual`.
    """
    return log_odds((hits + DISPUTED * usual) / (chances + DISPUTED)).mean(-1)


def read_masks(
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    segmentation: Float[Tensor, "B C *space"],
) -> Float[Tensor, "B R C *one"]:
    """How far to trust each given mask: its agreement with the segmentation where masks differ.

    No weights, any number of raters, their order free: for raters who are slots and not persons, or whom
    training never saw. With few pixels in dispute it stays near what the image's masks show together.
    """
    counts = tally(masks, (segmentation > 0.5).float(), mean_vote(masks, rated))
    return aside(trust_of_masks(*counts, rated), masks)


def trust_of_masks(
    hits: Float[Tensor, "B R C 2"], chances: Float[Tensor, "B 1 C 2"], rated: Bool[Tensor, "B R C"]
) -> Float[Tensor, "B R C"]:
    """`read_masks` from counts, which of a case seen in parts are the sums over its parts."""
    there = rated[..., None].float()
    hits, chances = hits * there, chances * there
    usual = skill(hits.sum(1, keepdim=True), chances.sum(1, keepdim=True), EQUAL).sigmoid()
    return skill(hits, chances, usual[..., None]).sigmoid()


def calibrated(
    read: Float[Tensor, "B R C *small"], counted: Float[Tensor, "R C"], usual: Float[Tensor, "R C"]
) -> Float[Tensor, "B R C *small"]:
    """Confidence from what was read, moved so that its mean in training is what was counted.

    Args:
        read: Log-odds.
        counted, usual: The running means of `count_in`.
    """
    return (read + aside((log_odds(counted) - usual)[None], read)).sigmoid()


@torch.no_grad()
def count_in(
    counted: Float[Tensor, "R C"],
    usual: Float[Tensor, "R C"],
    read: Float[Tensor, "B R C"],
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    segmentation: Float[Tensor, "B C *space"],
    votes: Float[Tensor, "B C *space"] | None = None,
) -> None:
    """Count how often each rater's real masks agree with the segmentation where raters differ.

    Pooled over the training set: Dawid and Skene, "Maximum likelihood estimation of observer
    error-rates", Applied Statistics 28(1), 1979, with the segmentation as the consensus.

    Args:
        counted: A running mean of each rater's confidence by counting; changed in place.
        usual: The same mean of the log-odds that were read for it; changed in place.
        read: Those of this batch.
        votes: The share of the masks, where it is known already.
    """
    there = rated.float()
    votes = mean_vote(masks, rated) if votes is None else votes
    hits, chances = tally(masks, (segmentation > 0.5).float(), votes)
    hits, chances = (hits * there[..., None]).sum(0), (chances * there[..., None]).sum(0)
    cases = there.sum(0)
    rate = CALIBRATION_RATE * (cases > 0)
    counted.lerp_(skill(hits, chances, counted[..., None]).sigmoid(), rate)
    usual.lerp_((read * there).sum(0) / cases.clamp(min=1), rate)


def random_confidence(
    masks: Float[Tensor, "B R C *space"], *, each_pixel: bool
) -> Float[Tensor, "1 R C *small"]:
    """Eq. 14 of MrPrism's paper as a chance of agreeing, the same for the whole batch.

    a₀ = 0.5 + ψ/2, so that no rater starts worse than chance.
    """
    _, raters, structures, *pixels = masks.shape
    one = (1,) * len(pixels)
    average = torch.empty(1, raters, 1, *one, device=masks.device).uniform_(0.1, 0.9)
    places = pixels if each_pixel else one
    disturbance = 0.2 * torch.randn(1, raters, 1, *places, device=masks.device)
    return (0.5 + (average + disturbance).clamp(0, 1) / 2).expand(-1, -1, structures, *places)
