"""Shape-based averaging: the mean of the raters' signed distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from mrprism.core.patterns import ABSENT, PatternTable, grow, survey
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import (
    MARGIN,
    confusion_counts,
    each_structure,
    rates,
    survey_region,
)

_SAME = 1e-9  # pixels; mean distances below this are zero but for rounding


def shape_average(
    masks: Masks,
    rated: Rated,
    *,
    spacing_mm: Sequence[float] | None = None,
    margin: int | None = MARGIN,
) -> Prediction:
    """Inside where the raters' mean signed distance to their outlines is negative; probability 0 or 1.

    Outlines are averaged as shapes: two circles of radius 4 and 6 give one of radius 5, where a vote can
    only give one of the two. Distances run to the edge between pixels. An empty mask has no outline; it
    counts as far outside as the deepest point of any other rater lies inside (and a full one the other
    way round).

    Args:
        spacing_mm: Pixel size along each axis. None: square pixels.
        margin: Pixels around all marks in which the confusion is measured; None: the whole field.

    Returns:
        ``ties``: where the mean distance is zero; they go to the background.

    Source: Rohlfing, Maurer, "Shape-based averaging", IEEE TIP 16(1), 2007, doi:10.1109/TIP.2006.884936.
    """
    raters, structures, *space = masks.shape
    probability = np.zeros((structures, *space), np.float32)
    ties = np.zeros((structures, *space), bool)
    confusion = np.full((raters, structures, 2, 2), 0.5)
    for c, drawn, present in each_structure(masks, rated):
        _, box = survey(drawn, present)
        if box is None:
            confusion[present, c, 0] = 1.0, 0.0
            continue
        near = grow(box, 1, tuple(space))  # a ring of background is all that distances inside can reach
        distance = _mean_distance(drawn[present][(slice(None), *near)], spacing_mm)
        probability[c][near] = distance < -_SAME
        ties[c][near] = np.abs(distance) <= _SAME
        confusion[:, c] = _against(drawn, present, probability[c], margin)
    return Prediction(probability=probability, confusion=confusion, ties=ties)


def _mean_distance(
    drawn: Bool[np.ndarray, "R *space"], spacing_mm: Sequence[float] | None
) -> Float[np.ndarray, "*space"]:
    """Mean over raters of the distance to the outline, negative inside."""
    from scipy.ndimage import distance_transform_edt

    outlined = [mask.any() and not mask.all() for mask in drawn]
    half = 0.5 * (min(spacing_mm) if spacing_mm is not None else 1.0)
    total = np.zeros(drawn.shape[1:])
    deepest = furthest = half
    for mask in drawn[outlined]:
        inside = distance_transform_edt(mask, sampling=spacing_mm)
        outside = distance_transform_edt(~mask, sampling=spacing_mm)
        deepest, furthest = max(deepest, inside.max()), max(furthest, outside.max())
        total += np.where(mask, half - inside, outside - half)
    for mask in drawn[np.logical_not(outlined)]:
        total += -furthest if mask.all() else deepest
    return np.asarray(total / len(drawn))


def _against(
    drawn: Bool[np.ndarray, "R *space"],
    present: Bool[np.ndarray, " R"],
    consensus: Float[np.ndarray, "*space"],
    margin: int | None,
) -> Float[np.ndarray, "R 2 2"]:
    """Each rater's confusion against a hard consensus, counted as one more rater."""
    stacked: list[NDArray[np.bool_]] = [*drawn, consensus > 0.5]
    table, _ = survey_region(stacked, np.append(present, True), margin)
    raters = PatternTable(table.patterns[:, :-1], table.counts, table.labels)
    confusion = rates(confusion_counts(raters, (table.patterns[:, -1] == 1).astype(np.float64)))
    confusion[(raters.patterns == ABSENT).all(axis=0)] = 0.5
    return confusion
