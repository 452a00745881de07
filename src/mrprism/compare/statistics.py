"""Who is best in a column of a table, and who is level with the best.

Everything is paired and by patient: scores of a case are averaged over seeds first, then the signs of the
differences are exchanged patient by patient (`mrprism.metrics.claims`). The best is picked because of these
very scores, so its comparisons with the others are corrected for all pairs of methods of the column: where
all are equal, one is called worse in one column of twenty. With five patients nothing is significant.
Patients say nothing about how a training turns out the next time, so with several seeds the best must be
ahead with each of them, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mrprism.metrics import Difference, paired_difference
from mrprism.metrics.claims import LEVEL, all_pairs, suffice

RESAMPLES = 5000


@dataclass(frozen=True)
class Against:
    """A competitor beside the best of its column."""

    difference: Difference  # the best minus this one
    p: float  # corrected for all pairs of the column; NaN where unknown
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
    patients: int  # of the cases any of them has a score of

    @property
    def enough(self) -> bool:
        """Whether there are patients enough to tell any two apart."""
        return suffice(self.patients)

    def level(self, name: str) -> bool:
        """Whether a line is the best, or cannot be told from it; of too few patients nothing is said."""
        if not self.enough:
            return False
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
    cases = sorted({case for c in known for case, value in c.values.items() if not np.isnan(value)})
    patients = [groups[case] for case in cases]
    scores = np.array([[c.values.get(case, np.nan) for c in known] for case in cases], dtype=np.float64)
    first = known.index(best)
    p = all_pairs(scores, patients)[first]
    against = {
        c.name: Against(
            paired_difference(scores[:, first], scores[:, place], patients, resamples=RESAMPLES),
            float(p[place]),
            _ahead(best, c, sign),
        )
        for place, c in enumerate(known)
        if c is not best
    }
    alone = all(a.significant and sign * a.difference.mean > 0 for a in against.values())
    return Verdict(best.name, alone, against, len(set(patients)))


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
