"""Division that knows 0/0."""

from __future__ import annotations

from typing import Any

import numpy as np


def ratio(above: Any, below: Any) -> np.ndarray:
    """`above / below`, and NaN (undefined, to be counted and not averaged) where `below` is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    out = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below != 0)
    return out


def row_mean(values: np.ndarray) -> np.ndarray:
    """Mean along the last axis of what is not NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))
