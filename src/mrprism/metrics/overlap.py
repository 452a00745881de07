"""How much two outlines, or two maps of probability, overlap."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Integer

Empty = Literal["one", "skip"]  # what two empty masks score: 1, or NaN and left out

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)  # the paper's
QUBIQ_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def dice(
    predicted: Bool[np.ndarray, "*space"], target: Bool[np.ndarray, "*space"], *, empty: Empty = "one"
) -> float:
    """Twice the shared area over the sum of both areas; 0 when only one mask is empty."""
    size = int(np.count_nonzero(predicted)) + int(np.count_nonzero(target))
    if size == 0:
        return _both_empty(empty)
    return 2 * int(np.count_nonzero(predicted & target)) / size


def iou(
    predicted: Bool[np.ndarray, "*space"], target: Bool[np.ndarray, "*space"], *, empty: Empty = "one"
) -> float:
    """The shared area over the area of the union; 0 when only one mask is empty."""
    union = int(np.count_nonzero(predicted | target))
    if union == 0:
        return _both_empty(empty)
    return int(np.count_nonzero(predicted & target)) / union


def soft_dice(
    probability: Float[np.ndarray, "*space"],
    votes: Integer[np.ndarray, "*space"],
    raters: int,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    empty: Empty = "one",
) -> float:
    """Mean Dice of a predicted and a voted map, both cut at each threshold.

    A pixel is inside where its value is strictly greater than the threshold. Against a hard
    reference (one vote out of one) this is the mean Dice of the cuts of `probability` alone.

    Args:
        probability: In [0, 1].
        votes: How many of the `raters` marked each pixel.
        raters: How many looked at this structure; at least 1.
        empty: "skip" leaves out the thresholds at which both cuts are empty.

    Returns:
        In [0, 1]; NaN when `empty` is "skip" and every cut is empty.

    Source: Wu et al., "Multi-rater Prism", arXiv:2212.00601, section 5.2.
    """
    scores = [dice(above(probability, t), voted_above(votes, raters, t), empty=empty) for t in thresholds]
    counted = [score for score in scores if not np.isnan(score)]
    return float(np.mean(counted)) if counted else float("nan")


def qubiq_score(
    probability: Float[np.ndarray, "*space"], votes: Integer[np.ndarray, "*space"], raters: int
) -> float:
    """Mean Dice over nine levels of probability, as the QUBIQ challenges score a soft mask.

    Source: Li et al., "QUBIQ: Uncertainty Quantification for Biomedical Image Segmentation
    Challenge", arXiv:2405.18435.
    """
    return soft_dice(probability, votes, raters, thresholds=QUBIQ_THRESHOLDS)


def above(probability: Float[np.ndarray, "*space"], threshold: float) -> Bool[np.ndarray, "*space"]:
    """Where a probability is strictly greater than a threshold."""
    # The threshold is rounded as the map was: a vote share 3/10 kept in float32 is not above 0.3.
    return np.asarray(probability > probability.dtype.type(threshold))


def voted_above(
    votes: Integer[np.ndarray, "*space"], raters: int, threshold: float
) -> Bool[np.ndarray, "*space"]:
    """Where strictly more than a share of the raters voted, decided in integers."""
    if raters < 1:
        raise ValueError("a vote needs at least one rater")
    share = Fraction(str(threshold))
    return np.asarray(votes > share.numerator * raters // share.denominator)


def _both_empty(empty: Empty) -> float:
    return 1.0 if empty == "one" else float("nan")
