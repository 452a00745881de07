"""Intervals by resampling patients.

Cases of one patient are not independent, so whole patients are drawn, with replacement. A resample
is a row of weights (how often each case was drawn); the first row is the data as they are. Every
statistic is a function from weights to values, so all resamples are computed in a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.agreement.ratio import ratio
from mrprism.core.brief import size

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % percentile interval; arrays of one shape, () for a single number."""

    value: np.ndarray  # NaN: undefined
    low: np.ndarray  # NaN too where there are fewer than two patients to draw from
    high: np.ndarray
    cases: np.ndarray  # cases the value rests on
    undefined: np.ndarray  # cases that could have counted and were 0/0

    def __repr__(self) -> str:
        return f"Estimate({self})" if self.value.ndim == 0 else f"Estimate of {size(self.value.shape)} values"

    def __str__(self) -> str:
        """The value and its interval; of many values how many there are."""
        if self.value.ndim:
            return repr(self)
        interval = "" if np.isnan(self.low) else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f}{interval}"

    def __getitem__(self, place: Any) -> Estimate:
        """The estimate at a place of the arrays."""
        fields = (self.value, self.low, self.high, self.cases, self.undefined)
        return Estimate(*(np.asarray(field[place]) for field in fields))


def resample(groups: Sequence[str], resamples: int, seed: int) -> Float[np.ndarray, "resample case"]:
    """Weights of each case: a first row of ones, then one row a resample of the patients."""
    names, index = np.unique(np.asarray(groups, str), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), resamples
    )
    return np.concatenate([np.ones((1, len(index))), draws[:, index].astype(float)])


def estimate(
    statistic: Callable[[Float[np.ndarray, "resample case"]], np.ndarray],
    weights: Float[np.ndarray, "resample case"],
    cases: np.ndarray | int,
    undefined: np.ndarray | int = 0,
) -> Estimate:
    """Evaluate a statistic on the data (first row of the weights) and on their resamples."""
    values = np.asarray(statistic(weights), float)
    low, high = interval(values[1:])
    shape = values.shape[1:]
    counted = np.broadcast_to(cases, shape).copy()
    # resamples of a single case or patient all equal the data; an interval of width 0 would be a lie
    one_patient = len(weights) < 2 or not np.ptp(weights[1:], axis=0).any()
    unsure = (counted < 2) | one_patient
    low, high = np.where(unsure, np.nan, low), np.where(unsure, np.nan, high)
    return Estimate(np.asarray(values[0]), low, high, counted, np.broadcast_to(undefined, shape).copy())


def interval(values: Float[np.ndarray, "resample *rest"]) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5 and 97.5 % percentiles over the resamples in which the statistic is defined."""
    low, high = np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    defined = ~np.isnan(values).all(axis=0) if len(values) else np.zeros(values.shape[1:], bool)
    if defined.any():
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low[defined], high[defined] = np.nanquantile(values[:, defined], tails, axis=0)
    return low, high


def mean(
    values: Float[np.ndarray, "case *rest"], weights: Float[np.ndarray, "resample case"]
) -> Float[np.ndarray, "resample *rest"]:
    """Weighted mean over the cases where the value is defined."""
    defined = ~np.isnan(values)
    total = np.tensordot(weights, np.where(defined, values, 0.0), 1)
    return ratio(total, np.tensordot(weights, defined.astype(float), 1))
