"""What a clinician asks of a rater: how far outside the others' outline they draw, and how steadily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from mrprism.core.sample import Samples, Task
from mrprism.core.workers import ALONE, Workers, in_order
from mrprism.fusion.one_case import some_structures
from mrprism.fusion.pooling import PooledObservers, pool_observers

Unit = Literal["mm", "px"]


@dataclass(frozen=True)
class OutlineRow:
    """How one rater draws one structure; None where nothing is known."""

    structure: str
    rater: str
    cases: int  # in which somebody else drew it, too
    unit: Unit
    outside: float | None  # median over cases of how far outside the others' outline; negative: inside
    outside_low: float | None
    outside_high: float | None
    spread: float | None  # standard deviation of their outline around that
    spread_low: float | None
    spread_high: float | None
    missed: float | None  # share of the pieces that are there of which they marked nothing
    added: float | None  # share of the pieces they marked that are not there
    interval: str  # how low and high (95 %) were found


def outline_table(
    displaced: Float[np.ndarray, "N R C 2"],
    pieces: Float[np.ndarray, "N R C 2 2"],
    raters: Sequence[str],
    structures: Sequence[str],
    groups: Sequence[str],
    unit: Unit,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[OutlineRow]:
    """Each rater's place and spread over a data set, with 95 % intervals by a bootstrap over patients.

    The place is the median over cases; the spread joins how much it varies from case to case (by the median
    deviation) and how wavy the outline is within a case. Neither is moved far by a few failed outlines.

    Args:
        displaced, pieces: The fields of each case's ``Prediction`` by the outline model.
        groups: The patient of each case.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for c, structure in enumerate(structures):
        for r, rater in enumerate(raters):
            known = np.isfinite(displaced[:, r, c, 0])
            values = displaced[known, r, c]
            members = np.unique(np.array(groups)[known], return_inverse=True)[1].ravel()
            found = _place(values) if len(values) else (None, None)
            bounds: list[tuple[float | None, float | None]] = [(None, None)] * 2
            patients = int(members.max(initial=-1)) + 1
            how = "none: never beside another rater"
            if patients == 1:
                how = "none: one patient"
            elif patients and not resamples:
                how = "none: not asked for"
            elif patients:
                drawn = [_place(values[_resample(members, patients, rng)]) for _ in range(resamples)]
                low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
                bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
                how = f"bootstrap over {patients} patients"
            total = pieces[:, r, c].sum(axis=0)
            rows.append(
                OutlineRow(
                    structure=structure,
                    rater=rater,
                    cases=len(values),
                    unit=unit,
                    outside=found[0],
                    outside_low=bounds[0][0],
                    outside_high=bounds[0][1],
                    spread=found[1],
                    spread_low=bounds[1][0],
                    spread_high=bounds[1][1],
                    missed=_share(total[1, 0], total[1].sum()),
                    added=_share(total[0, 1], total[:, 1].sum()),
                    interval=how,
                )
            )
    return rows


def tell(row: OutlineRow) -> str:
    """The row as a clinician would say it: "1.3 mm outside (0.9 to 1.7), ± 0.8 mm"."""
    if row.outside is None or row.spread is None:
        return "–"
    side, sign = ("outside", 1) if row.outside >= 0 else ("inside", -1)
    text = f"{sign * row.outside:.1f} {row.unit} {side}"
    if row.outside_low is not None and row.outside_high is not None:
        low, high = sorted((sign * row.outside_low, sign * row.outside_high))
        # a rounded -0.04 is no minus
        text += f" ({round(low, 1) + 0.0:.1f} to {round(high, 1) + 0.0:.1f})"
    return f"{text}, ± {row.spread:.1f} {row.unit}"


def outline_rows(
    cases: Samples,
    task: Task,
    groups: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    workers: Workers = ALONE,
) -> list[OutlineRow]:
    """The table of a data set: the outline model over all cases, or, if raters are anonymous, no rows.

    Args:
        cases: Read twice, one at a time.
        groups: The patient of each case.
        resamples: Of the patients; 0: no intervals.
        workers: Who reads and fuses the cases; what comes of it is the same.

    Raises:
        InputError: No rater at all drew any structure of any case.
    """
    if task.anonymous:
        return []
    pooled = pool_observers(cases, workers=workers)
    displaced = np.full((len(cases), len(task.raters), len(task.structures), 2), np.nan)
    pieces = np.zeros((len(cases), len(task.raters), len(task.structures), 2, 2))
    found = in_order(partial(_outlines, cases, pooled), range(len(cases)), workers)
    for number, (drawn, case) in enumerate(found):
        if case is not None:
            displaced[number][:, drawn], pieces[number][:, drawn] = case
    return outline_table(
        displaced, pieces, task.raters, task.structures, groups, pooled.unit, resamples=resamples, seed=seed
    )


def _outlines(
    cases: Samples, pooled: PooledObservers, number: int
) -> tuple[list[int], tuple[Any, Any] | None]:
    """The structures somebody drew on a case, and how far outside and with which pieces each rater did."""
    drawn, fused = some_structures(cases[number], "outline", pooled, number)
    return drawn, None if fused is None else (fused.displaced, fused.pieces)


def _place(values: Float[np.ndarray, "N 2"]) -> tuple[float, float]:
    """Median displacement, and the spread around it."""
    place = float(np.median(values[:, 0]))
    between = 1.4826 * float(np.median(np.abs(values[:, 0] - place)))
    return place, float(np.sqrt(between**2 + np.median(values[:, 1] ** 2)))


def _resample(members: Int[np.ndarray, " N"], patients: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cases of patients drawn with replacement, each patient with all of theirs."""
    times = np.bincount(rng.integers(patients, size=patients), minlength=patients)
    return np.repeat(np.arange(len(members)), times[members])


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 1e-9 else None
