"""Who is best in a column of a table, and who is level with the best.

Everything is paired and by patient: scores of a case are averaged over seeds first, differences are
resampled patient by patient (`mrprism.metrics.paired_difference`), and the p-values of one column are
corrected for their number (Holm).

A bootstrap of very few patients finds everything significant. No p-value is therefore taken below
2^(1 - patients), the least that a test by exchanging the methods' names could give: with five patients
nothing is significant. Patients say nothing about how a training turns out the next time, so with several
seeds the best must be ahead with each of them, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mrprism.metrics import Difference, paired_difference

RESAMPLES = 5000
LEVEL = 0.05  # chance of calling any difference of a column real when none is


@dataclass(frozen=True)
class Against:
    """A competitor beside the best of its column."""

    difference: Difference  # the best minus this one
    p: float  # after Holm's correction; NaN where unknown
    every_seed: bool = True  # the best is ahead with each seed both have

    @property
    def significant(self) -> bool:
        return self.p < LEVEL and self.every_seed


@dataclass(frozen=True)
class Competitor:
    """One line of a table in one column."""

    name: str  # unique
    values: Mapping[str, float]  # case to score, the mean over seeds; NaN: not defined
    seeds: Mapping[int, float] = field(default_factory=dict)  # mean of each seed


@dataclass(frozen=True)
class Verdict:
    """What a column says."""

    best: str
    alone: bool  # the best differs from every other by more than chance
    others: Mapping[str, Against]

    def level(self, name: str) -> bool:
        """Whether a line is the best, or cannot be told from it."""
        if name == self.best:
            return not self.alone
        return name in self.others and not self.others[name].significant


def judge(
    competitors: Sequence[Competitor], groups: Mapping[str, str], better: Literal["higher", "lower"]
) -> Verdict | None:
    """Compare the best of a column with each of the others.

    Args:
        groups: The patient of each case.

    Returns:
        None with fewer than two that have any value.
    """
    sign = 1.0 if better == "higher" else -1.0
    means = {c.name: mean for c in competitors if not np.isnan(mean := _mean(c.values))}
    known = [c for c in competitors if c.name in means]
    if len(known) < 2:
        return None
    best = max(known, key=lambda c: sign * means[c.name])
    others = [c for c in known if c is not best]
    tests = [_test(best.values, c.values, groups) for c in others]
    corrected = holm([p for _, p in tests])
    against = {
        c.name: Against(test[0], p, _ahead(best, c, sign))
        for c, test, p in zip(others, tests, corrected, strict=True)
    }
    alone = all(a.significant and sign * a.difference.mean > 0 for a in against.values())
    return Verdict(best.name, alone, against)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction: p-values that may be held against one level, however many they are.

    NaN, a difference nothing is known of, stays NaN and counts as a test.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")
    corrected = np.full(len(values), np.nan)
    highest = 0.0
    for place, index in enumerate(order):
        if not np.isnan(values[index]):
            highest = max(highest, min(1.0, (len(values) - place) * float(values[index])))
            corrected[index] = highest
    return [float(value) for value in corrected]


def over_seeds(means: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) of the seeds' means; NaN for the spread of one seed."""
    known = np.array([mean for mean in means if not np.isnan(mean)])
    if not len(known):
        return float("nan"), float("nan")
    return float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def _ahead(best: Competitor, other: Competitor, sign: float) -> bool:
    shared = best.seeds.keys() & other.seeds.keys()
    return all(sign * (best.seeds[seed] - other.seeds[seed]) > 0 for seed in shared)


def _mean(values: Mapping[str, float]) -> float:
    known = [value for value in values.values() if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _test(
    first: Mapping[str, float], second: Mapping[str, float], groups: Mapping[str, str]
) -> tuple[Difference, float]:
    """The mean difference over the cases both have, and its p-value."""
    shared = [case for case in first if not np.isnan(first[case] - second.get(case, np.nan))]
    patients = [groups[case] for case in shared]
    difference = paired_difference(
        np.array([first[case] for case in shared], dtype=np.float64),
        np.array([second[case] for case in shared], dtype=np.float64),
        patients,
        resamples=RESAMPLES,
    )
    return difference, max(difference.p, 2.0 ** (1 - len(set(patients)))) if shared else float("nan")
