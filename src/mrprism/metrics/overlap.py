"""How much two outlines, or two maps of probability, overlap."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer, UInt64

from mrprism.metrics.bits import count, pack

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
    return mean_dice(Cuts(probability), VotedCuts(votes, raters), thresholds, empty)


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
    return np.asarray(votes > voted_level(raters, threshold))


@cache
def voted_level(raters: int, threshold: float) -> int:
    """The largest number of votes that is no more than a share of the raters."""
    if raters < 1:
        raise ValueError("a vote needs at least one rater")
    share = Fraction(str(threshold))
    return share.numerator * raters // share.denominator


class Cut(NamedTuple):
    """Masks as bits, one for each threshold, and how many pixels each has."""

    words: UInt64[np.ndarray, "threshold word"]
    sizes: Int64[np.ndarray, " threshold"]


class _Kept:
    """Cuts of one map, each made once."""

    def __init__(self) -> None:
        self.words: dict[float, UInt64[np.ndarray, " word"]] = {}
        self.made: dict[tuple[float, ...], Cut] = {}

    def at(self, thresholds: tuple[float, ...]) -> Cut:
        if thresholds not in self.made:
            words = np.stack([self._words(threshold) for threshold in thresholds])
            self.made[thresholds] = Cut(words, count(words))
        return self.made[thresholds]

    def _words(self, threshold: float) -> UInt64[np.ndarray, " word"]:
        level = self.level(threshold)
        if level not in self.words:
            mask = self.mask(level)
            self.words[level] = pack(mask, mask.ndim)
        return self.words[level]

    def level(self, threshold: float) -> float:
        return threshold

    def mask(self, level: float) -> Bool[np.ndarray, "*space"]:
        raise NotImplementedError


class Cuts(_Kept):
    """A map of probability cut at thresholds, kept as bits."""

    def __init__(self, probability: Float[np.ndarray, "*space"]) -> None:
        super().__init__()
        self.probability = probability

    def mask(self, level: float) -> Bool[np.ndarray, "*space"]:
        return above(self.probability, level)


class VotedCuts(_Kept):
    """Counts of votes cut at shares, kept as bits; a mask is one vote out of one, and has one cut."""

    def __init__(self, votes: Integer[np.ndarray, "*space"], raters: int) -> None:
        super().__init__()
        self.votes, self.raters = votes, raters

    def level(self, threshold: float) -> float:
        return float(voted_level(self.raters, threshold))

    def mask(self, level: float) -> Bool[np.ndarray, "*space"]:
        return np.asarray(self.votes > int(level))


def mean_dice(
    predicted: Cuts, target: VotedCuts, thresholds: Sequence[float] = THRESHOLDS, empty: Empty = "one"
) -> float:
    """`soft_dice` of maps whose cuts are kept for further metrics."""
    one, other = predicted.at(tuple(thresholds)), target.at(tuple(thresholds))
    sizes = one.sizes + other.sizes
    scores = np.where(
        sizes > 0, 2 * count(one.words & other.words) / np.maximum(sizes, 1), _both_empty(empty)
    )
    counted = scores[~np.isnan(scores)]
    return float(np.mean(counted)) if len(counted) else float("nan")


def iou_at_half(predicted: Cuts, target: VotedCuts) -> float:
    """`iou` of both cut at one half."""
    one, other = predicted.at((0.5,)), target.at((0.5,))
    both = int(count(one.words & other.words)[0])
    union = int(one.sizes[0] + other.sizes[0]) - both
    return both / union if union else _both_empty("one")


def _both_empty(empty: Empty) -> float:
    return 1.0 if empty == "one" else float("nan")
