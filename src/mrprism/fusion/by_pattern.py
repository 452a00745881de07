"""Fusing by vote pattern: a rule on the short table, then one painting of the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray

from mrprism.core.errors import InputError
from mrprism.core.patterns import ABSENT, PatternTable, Region, grow, paint, size_of, survey
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Probability, Rated

MARGIN = 10  # pixels around everything marked that belong to the region of interest


@dataclass(frozen=True)
class PatternFusion:
    """What a rule decides about each pattern of a table."""

    probability: Float[np.ndarray, " P"]  # that a pixel showing the pattern lies inside
    confusion: Float[np.ndarray, "R 2 2"]  # P(drawn | true) in the region of interest, [true, drawn]
    ties: Bool[np.ndarray, " P"] | None = None  # patterns in which the vote is even


Rule = Callable[[PatternTable], PatternFusion]


def fuse_by_pattern(masks: Masks, rated: Rated, rule: Rule, margin: int | None) -> Prediction:
    """Fuse each structure by itself: count, apply the rule, paint.

    Outside the region of interest the probability is 0. A structure nobody marked comes back empty,
    without asking the rule.
    """
    raters, structures, *space = masks.shape
    probability = np.zeros((structures, *space), np.float32)
    confusion = np.full((raters, structures, 2, 2), 0.5)
    ties = np.zeros((structures, *space), bool)
    tied = False
    for c, drawn, present in each_structure(masks, rated):
        table, region = survey_region(drawn, present, margin)
        if region is None:
            confusion[present, c, 0] = 1.0, 0.0
            continue
        fused = rule(table)
        confusion[:, c] = fused.confusion
        paint(table, drawn, present, fused.probability.astype(np.float32), probability[c], region=region)
        if fused.ties is not None:
            tied = True
            if fused.ties.any():
                paint(table, drawn, present, fused.ties, ties[c], region=region)
    return Prediction(probability=probability, confusion=confusion, ties=ties if tied else None)


def each_structure(masks: Masks, rated: Rated) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Number, masks (R, *space) and presence (R,) of each structure.

    Raises:
        InputError: A structure was drawn by no rater.
    """
    for c in range(masks.shape[1]):
        if not rated[:, c].any():
            raise InputError(f"structure {c}: no rater drew it, so there is nothing to fuse")
        yield c, masks[:, c], rated[:, c]


def survey_region(
    labels: Any, rated: NDArray[np.bool_], margin: int | None
) -> tuple[PatternTable, Region | None]:
    """The table of the region of interest, and that region; None when nobody marked anything.

    The region is the box around all marks grown by ``margin`` pixels, or the whole field when ``margin``
    is None. Far background matters: it changes what STAPLE answers.
    """
    table, box = survey(labels, rated)
    if box is None:
        return table, None
    space = labels[0].shape
    region = tuple(slice(0, size) for size in space) if margin is None else grow(box, margin, space)
    return table.without(table.pixels - size_of(region)), region


def confusion_counts(table: PatternTable, probability: Float[np.ndarray, " P"]) -> Float[np.ndarray, "R 2 2"]:
    """Expected pixels by consensus and drawing, [true, drawn], for each rater."""
    inside = np.stack([1 - probability, probability], axis=1) * table.counts[:, None]
    drawn = [(table.patterns == value).astype(np.float64) for value in (0, 1)]
    return np.stack([(inside.T @ d).T for d in drawn], axis=2)


def skill_counts(
    masks: Masks, rated: Rated, probability: Probability, *, margin: int | None = MARGIN
) -> Float[np.ndarray, "R C 2 2"]:
    """Expected pixels by consensus and drawing, [true, drawn], in the region of interest of each structure.

    0 for absent raters. Where nobody marked anything the region is the whole field.
    """
    counts = np.zeros((*rated.shape, 2, 2))
    for c, drawn, present in each_structure(masks, rated):
        table, region = survey_region(drawn, present, margin)
        if region is None:
            counts[:, c] = confusion_counts(table, np.zeros(len(table.counts)))
            continue
        inside = probability[c][region]
        total = inside.sum(dtype=np.float64)
        for r in np.flatnonzero(present):
            marked = drawn[r][region]
            both = inside.sum(where=marked, dtype=np.float64)
            counts[r, c] = [
                [marked.size - marked.sum() - (total - both), marked.sum() - both],
                [total - both, both],
            ]
    return counts


def rates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of counts (..., K, K) as P(drawn | true); a row without any count is uniform: nothing is known."""
    total = counts.sum(axis=-1, keepdims=True)
    share = np.full(counts.shape, 1 / counts.shape[-1])
    np.divide(counts, total, out=share, where=total > 0)
    return share


def dice_to(table: PatternTable, probability: Float[np.ndarray, " P"]) -> Float[np.ndarray, " R"]:
    """Dice of each rater with a consensus; 1 where both are empty, NaN for absent raters.

    A rater absent at some pixels is compared on the others.
    """
    counts = confusion_counts(table, probability)
    size = 2 * counts[:, 1, 1] + counts[:, 0, 1] + counts[:, 1, 0]
    dice = np.divide(2 * counts[:, 1, 1], size, out=np.ones(len(size)), where=size > 0)
    return np.where((table.patterns != ABSENT).any(axis=0), dice, np.nan)


def vote_fraction(table: PatternTable) -> Float[np.ndarray, " P"]:
    """Share of the raters present who marked the pixel; 0 where nobody is present."""
    return np.asarray(table.votes()[:, 1] / np.maximum(table.present(), 1))


def pairwise_dice(table: PatternTable) -> Float[np.ndarray, "R R"]:
    """Dice of every two raters on what both did; 1 where both are empty, NaN where they never met."""
    joint: Int64[np.ndarray, "R R 2 2"] = table.pairs()
    size = 2 * joint[..., 1, 1] + joint[..., 0, 1] + joint[..., 1, 0]
    dice = np.divide(2 * joint[..., 1, 1], size, out=np.ones(size.shape), where=size > 0)
    return np.where(joint.sum(axis=(2, 3)) > 0, dice, np.nan)
