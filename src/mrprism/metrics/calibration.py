"""Whether a predicted probability means what it says.

The target is soft: at each pixel the share of raters who marked it, kept as a count of votes.
A hard reference is one vote out of one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from mrprism.metrics.pieces import pieces


class Reliability(NamedTuple):
    """What was predicted and what was found, in bins of equal width over [0, 1]."""

    pixels: Int64[np.ndarray, " bins"]
    probability: Float[np.ndarray, " bins"]  # mean prediction in the bin; NaN where no pixel fell
    frequency: Float[np.ndarray, " bins"]  # mean share of votes in the bin; NaN where no pixel fell


def reliability(
    probability: Float[np.ndarray, "*space"],
    votes: Integer[np.ndarray, "*space"],
    raters: int,
    *,
    bins: int = 15,
) -> Reliability:
    """The reliability curve of one map of probability; a probability of 1 falls in the last bin."""
    flat, voted = probability.reshape(-1), votes.reshape(-1)
    pixels = np.zeros(bins, np.int64)
    predicted, found = np.zeros(bins), np.zeros(bins)
    for part in pieces(flat.size):
        p = flat[part].astype(np.float64)
        index = np.minimum((p * bins).astype(np.int64), bins - 1)
        pixels += np.bincount(index, minlength=bins)
        predicted += np.bincount(index, weights=p, minlength=bins)
        found += np.bincount(index, weights=voted[part] / raters, minlength=bins)
    some = np.where(pixels > 0, pixels, np.nan)
    return Reliability(pixels, predicted / some, found / some)


def ece(
    probability: Float[np.ndarray, "*space"],
    votes: Integer[np.ndarray, "*space"],
    raters: int,
    *,
    bins: int = 15,
) -> float:
    """Expected calibration error: mean distance of prediction and vote share over bins, by pixels.

    In [0, 1], lower is better. Every pixel of the image counts, background too.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015; the accuracy of a bin is here the mean share of votes in it.
    """
    curve = reliability(probability, votes, raters, bins=bins)
    gap = np.nan_to_num(np.abs(curve.frequency - curve.probability))
    return float(np.sum(curve.pixels * gap) / np.sum(curve.pixels))


def brier(
    probability: Float[np.ndarray, "*space"], votes: Integer[np.ndarray, "*space"], raters: int
) -> float:
    """Mean squared distance of the probability to the share of votes, over all pixels; lower is better."""
    flat, voted = probability.reshape(-1), votes.reshape(-1)
    squares = [
        np.sum((flat[part].astype(np.float64) - voted[part] / raters) ** 2) for part in pieces(flat.size)
    ]
    return float(sum(squares) / flat.size)


def around(marked: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """The region of interest: all within a margin of what is marked; the whole image where nothing is.

    The margin is a twentieth of the image's side, along each axis by itself, and at least 3 pixels (along an axis
    of slices one).
    """

    if not marked.any():
        return np.ones_like(marked)
    margins = [
        max(1 if marked.ndim == 3 and axis == 0 else 3, round(side / 20))
        for axis, side in enumerate(marked.shape)
    ]
    found = marked
    for axis, margin in enumerate(margins):
        up_to = np.moveaxis(np.cumsum(found, axis=axis, dtype=np.int32), axis, 0)
        near = up_to[np.minimum(np.arange(len(up_to)) + margin, len(up_to) - 1)]
        near[margin + 1 :] -= up_to[: -margin - 1]  # how many are marked within the margin
        found = np.moveaxis(near > 0, 0, axis)
    return np.asarray(found)


def ece_in_region(
    probability: Float[np.ndarray, "*space"],
    votes: Integer[np.ndarray, "*space"],
    raters: int,
    *,
    bins: int = 15,
) -> float:
    """`ece` in the region around what any rater marked, so that plain background does not drown it."""
    inside = around(votes > 0)
    return ece(probability[inside], votes[inside], raters, bins=bins)


def contains(outer: Bool[np.ndarray, "*space"], inner: Bool[np.ndarray, "*space"]) -> float:
    """1 where one mask holds all of the other, else 0: its mean over cases is a coverage."""
    return float(not bool((inner & ~outer).any()))
