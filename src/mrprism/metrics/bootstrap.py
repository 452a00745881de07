"""Whether a difference between two methods is more than chance, by patient."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mrprism.metrics.claims import LEVEL, apart_from_zero, stated

_AT_ONCE = 1 << 20  # patients drawn at a time, which bounds the memory
FEW = 20  # patients below which percentiles of resamples are too narrow; Student's t stands in for them


class Difference(NamedTuple):
    """A mean paired difference and its 95 % interval."""

    mean: float
    low: float
    high: float
    p: float = float("nan")  # two-sided, by exchanging signs patient by patient
    patients: int = 0

    @property
    def significant(self) -> bool:
        """Whether it may be stated: enough patients, and interval and test bear it out."""
        return stated(self.low, self.high, self.patients) and self.p < LEVEL


def paired_difference(
    first: Float[np.ndarray, " cases"],
    second: Float[np.ndarray, " cases"],
    groups: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Mean of `first - second` over cases, with an interval that takes whole patients.

    Cases of one patient are alike and are drawn together. Cases where either value is NaN are
    left out. With fewer than two patients the interval is unknown (NaN), with fewer than `FEW` it is
    Student's, for percentiles of resamples of a few patients leave out the truth too often.

    Source: percentile bootstrap, Efron and Tibshirani, "An introduction to the bootstrap", 1993; its
    narrowness with few: Hesterberg, "What teachers should know about the bootstrap", The American
    Statistician 69(4), 2015.
    """
    change = first.astype(np.float64) - second.astype(np.float64)
    known = ~np.isnan(change)
    if not known.any():
        return Difference(float("nan"), float("nan"), float("nan"))
    _, patient = np.unique(np.asarray(groups, dtype=str)[known], return_inverse=True)
    total = np.bincount(patient, weights=change[known])
    cases = np.bincount(patient)
    patients, mean = len(cases), float(total.sum() / cases.sum())
    if patients < 2:
        return Difference(mean, float("nan"), float("nan"), patients=patients)
    p = float(apart_from_zero(total[:, None], seed=seed)[0])
    if patients < FEW:
        half = float(student_half((total - mean * cases)[:, None] / cases.mean())[0])
        return Difference(mean, mean - half, mean + half, p, patients)
    generator, step = np.random.default_rng(seed), max(1, _AT_ONCE // patients)
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        drawn = generator.integers(patients, size=(min(step, resamples - start), patients))
        means[start : start + step] = total[drawn].sum(axis=1) / cases[drawn].sum(axis=1)
    low, high = np.percentile(means, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    return Difference(mean, float(low), float(high), p, patients)


def student_half(influence: Float[np.ndarray, "patient k"]) -> Float[np.ndarray, "k"]:
    """Half of the 95 % interval of k statistics, by Student's t.

    Args:
        influence: What each patient moves the statistic, times the number of patients: of a mean, the
            patient's value minus the mean.
    """
    from scipy.special import stdtrit

    patients = len(influence)
    error = np.sqrt((influence**2).sum(axis=0) / (patients * (patients - 1)))
    return np.asarray(stdtrit(patients - 1, 1 - LEVEL / 2) * error)
