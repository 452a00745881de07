"""The consensus is what two raters marked, or the only one there."""

from __future__ import annotations

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction


def any_two(masks: np.ndarray, rated: np.ndarray, *, least: int = 2) -> Prediction:
    """Inside is what `least` raters marked; fewer where fewer rated.

    Args:
        masks: (R, C, *space); rated: (R, C).
    """
    alone = np.flatnonzero(~rated.any(0))
    if len(alone):
        raise InputError(f"structure {alone[0]}: no rater drew it")
    there = rated.reshape(*rated.shape, *[1] * (masks.ndim - 2))
    votes = (masks & there).sum(0)
    inside = votes >= np.minimum(least, there.sum(0))
    confusion = np.full((*rated.shape, 2, 2), 0.5)  # P(drawn | true); of the absent nothing is known
    for r, c in np.argwhere(rated):
        for true in (0, 1):
            region = inside[c] == bool(true)
            drawn = masks[r, c][region].mean() if region.any() else float(true)
            confusion[r, c, true] = 1 - drawn, drawn
    return Prediction(probability=inside.astype(np.float32), confusion=confusion)
