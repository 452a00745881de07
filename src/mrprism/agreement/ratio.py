"""Division that knows 0/0."""

from __future__ import annotations

from typing import Any

import numpy as np


def ratio(above: Any, below: Any) -> np.ndarray:
    """`above / below`, and NaN (undefined, to be counted and not averaged) where `below` is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
