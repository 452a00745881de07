"""Whether a difference between two methods is more than chance, by resampling patients."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Difference(NamedTuple):
    """A mean paired difference and its 95 % interval."""

    mean: float
    low: float
    high: float
    p: float = float("nan")  # two-sided, from the share of resampled means on the other side of zero

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero; never for an interval that is not known."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: Float[np.ndarray, " cases"],
    second: Float[np.ndarray, " cases"],
    groups: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Mean of `first - second` over cases, with an interval from resampling whole patients.

    Cases of one patient are alike and are drawn together. Cases where either value is NaN are
    left out. With fewer than two patients the interval is unknown (NaN).

    Source: percentile bootstrap, Efron and Tibshirani, "An introduction to the bootstrap", 1993.
    """
    change = first.astype(np.float64) - second.astype(np.float64)
    known = ~np.isnan(change)
    if not known.any():
        return Difference(float("nan"), float("nan"), float("nan"))
    _, patient = np.unique(np.asarray(groups, dtype=str)[known], return_inverse=True)
    total = np.bincount(patient, weights=change[known])
    cases = np.bincount(patient)
    mean = float(total.sum() / cases.sum())
    if len(cases) < 2:
        return Difference(mean, float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).integers(len(cases), size=(resamples, len(cases)))
    means = total[drawn].sum(axis=1) / cases[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Difference(mean, float(low), float(high), min(1.0, 2 * (1 + beyond) / (1 + resamples)))
