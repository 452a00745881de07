"""Intervals by resampling patients, and by Student's t where they are few.

Cases of one patient are not independent, so whole patients are drawn, with replacement. A resample
is a row of weights (how often each case was drawn). Every statistic is a function from weights to values, so
all resamples are computed in a few array operations; a block of them at a time, which bounds the memory.

Percentiles of resamples of a few patients are too narrow, and of two or three they are nonsense. With fewer
than `FEW` the interval is therefore the classical one: how far each patient moves the statistic says its
standard error (Gwet's for kappas, where a patient is one subject; the usual one for means), times Student's t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.agreement.ratio import ratio
from mrprism.core.brief import size
from mrprism.metrics.bootstrap import FEW

LEVEL = 0.95
STEP = 1e-4  # by which a patient's weight is moved to see what that does; errors are of its square
BLOCK = 1 << 20  # weights held at a time
AT_ONCE = 64  # patients whose weights are moved together
NOISE = 1e-8  # of the value: what the numerical slope makes of no change at all
PERCENTILES, STUDENT, CLASSICAL_F = "percentiles", "Student's t", "F"  # where an interval comes from

Statistic = Callable[[Float[np.ndarray, "resample case"]], np.ndarray]
Counts = np.ndarray | np.integer | int
EVERYWHERE = (-np.inf, np.inf)


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval; arrays of one shape, () for a single number."""

    value: np.ndarray  # NaN: undefined
    low: np.ndarray  # NaN too where there are fewer than two patients
    high: np.ndarray
    cases: np.ndarray  # cases the value rests on
    patients: np.ndarray  # ... of so many patients
    undefined: np.ndarray  # cases that could have counted and were 0/0
    left_out: np.ndarray  # cases that could not count: a rater is absent, or the spacing is unknown
    by: np.ndarray  # where the interval comes from, "" where there is none
    computed: bool = field(default=True, kw_only=True)

    def __repr__(self) -> str:
        return f"Estimate({self})" if self.value.ndim == 0 else f"Estimate of {size(self.value.shape)} values"

    def __str__(self) -> str:
        """The value and its interval; of many values how many there are."""
        if self.value.ndim:
            return repr(self)
        interval = "" if np.isnan(self.low) else f" ({self.low:z.2f} to {self.high:z.2f})"
        return f"{self.value:z.2f}{interval}"

    def __getitem__(self, place: Any) -> Estimate:
        """The estimate at a place of the arrays."""
        fields = (self.value, self.low, self.high, self.cases, self.patients)
        more = (self.undefined, self.left_out, self.by)
        return Estimate(*(np.asarray(part[place]) for part in (*fields, *more)), computed=self.computed)


@dataclass(frozen=True)
class Resampling:
    """Who is resampled, and how often each case was drawn."""

    draws: np.ndarray  # (resample, patient) how often
    patient: np.ndarray  # (case,) the number of its patient

    def weights(self) -> Iterator[np.ndarray]:
        """How often each case was drawn, (resample, case), a block of resamples after the other."""
        step = max(1, BLOCK // max(1, len(self.patient)))
        for start in range(0, len(self.draws), step):
            yield self.draws[start : start + step, self.patient].astype(float)

    def of(self, there: np.ndarray) -> np.ndarray:
        """Patients with a case where `there` (case, ...) is true."""
        order = np.argsort(self.patient, kind="stable")
        starts = np.flatnonzero(np.diff(self.patient[order], prepend=-1))
        if not len(order):
            return np.zeros(there.shape[1:], int)
        return np.asarray(np.logical_or.reduceat(there[order], starts, axis=0).sum(axis=0))


def resample(groups: Sequence[str], resamples: int, seed: int) -> Resampling:
    """Draw the patients again, whole.

    Args:
        groups: The patient of each case.
        resamples: 0: no intervals.
    """
    names, index = np.unique(np.asarray(groups, str), return_inverse=True)
    generator, chance = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    draws = np.zeros((resamples, len(names)), np.min_scalar_type(len(names)))
    for row in draws:  # one at a time: numpy counts in 64 bits
        row[:] = generator.multinomial(len(names), chance)
    return Resampling(draws, index)


def estimate(
    statistic: Statistic,
    drawn: Resampling,
    there: np.ndarray,
    undefined: Counts = 0,
    *,
    left_out: Counts = 0,
    span: tuple[float | np.ndarray, float | np.ndarray] = EVERYWHERE,
) -> Estimate:
    """Evaluate a statistic on the data and say how sure it is.

    Args:
        statistic: From weights (resample, case) to values (resample, ...).
        there: (case, ...) the cases that count.
        undefined, left_out: How many could have counted and were 0/0, and how many could not count.
        span: The ends of the statistic's scale, at which intervals are cut; arrays have the shape of a value's end.
    """
    value = np.array(np.asarray(statistic(np.ones((1, len(drawn.patient)))), float)[0])
    shape = value.shape
    patients = np.broadcast_to(drawn.of(there), shape)
    few = patients < FEW
    low, high = np.full(shape, np.nan), np.full(shape, np.nan)
    if not few.all() and len(drawn.draws):
        low, high = interval(np.concatenate([np.asarray(statistic(w), float) for w in drawn.weights()]))
    by = np.where(np.isnan(low), "", PERCENTILES)
    if len(drawn.draws) and few.any():
        wanted = there & few if there.shape[1:] == shape else there
        moved = np.unique(drawn.patient[wanted.reshape(len(there), -1).any(axis=1)])
        half = _student(statistic, drawn, moved, patients)
        half = np.where(half > NOISE * np.abs(value), half, np.nan)  # equal in all patients, but for rounding
        low, high = np.where(few, value - half, low), np.where(few, value + half, high)
        by = np.where(few, np.where(np.isnan(low), "", STUDENT), by)
    return Estimate(
        value,
        np.asarray(np.clip(low, *span)),
        np.asarray(np.clip(high, *span)),
        np.broadcast_to(there.sum(axis=0), shape).copy(),
        patients.copy(),
        np.broadcast_to(undefined, shape).copy(),
        np.broadcast_to(left_out, shape).copy(),
        np.asarray(by),
    )


def not_computed(shape: tuple[int, ...]) -> Estimate:
    """In the place of what was not asked for."""
    unknown, none = np.full(shape, np.nan), np.zeros(shape, int)
    return Estimate(unknown, unknown, unknown, none, none, none, none, np.full(shape, ""), computed=False)


def _student(statistic: Statistic, drawn: Resampling, moved: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Half an interval; NaN with fewer than two patients, or where none of them moves anything."""
    from scipy.special import stdtrit

    squares = np.zeros(patients.shape)
    for start in range(0, len(moved), AT_ONCE):
        some = drawn.patient == moved[start : start + AT_ONCE, None]
        slope = (statistic(1.0 + STEP * some) - statistic(1.0 - STEP * some)) / (2 * STEP)
        squares += (np.nan_to_num(slope) ** 2).sum(axis=0)
    rest = np.where(patients > 1, patients - 1, np.nan)
    half = stdtrit(rest, (1 + LEVEL) / 2) * np.sqrt(squares * patients / rest)
    return np.where(half > 0, half, np.nan)


def interval(values: Float[np.ndarray, "resample *rest"]) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5 and 97.5 % percentiles over the resamples in which the statistic is defined."""
    if not len(values):
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    ordered = np.sort(values, axis=0)  # what is undefined comes last
    last = (~np.isnan(values)).sum(axis=0) - 1

    def at(share: float) -> np.ndarray:
        place = share * np.maximum(last, 0)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, np.maximum(last, 0))
        ends = [np.take_along_axis(ordered, rank[None], axis=0)[0] for rank in (below, above)]
        return np.asarray(ends[0] + (place - below) * (ends[1] - ends[0]))

    return at((1 - LEVEL) / 2), at((1 + LEVEL) / 2)


def mean(
    values: Float[np.ndarray, "case *rest"], weights: Float[np.ndarray, "resample case"]
) -> Float[np.ndarray, "resample *rest"]:
    """Weighted mean over the cases where the value is defined."""
    defined = ~np.isnan(values)
    total = np.tensordot(weights, np.where(defined, values, 0.0), 1)
    return ratio(total, np.tensordot(weights, defined.astype(float), 1))
