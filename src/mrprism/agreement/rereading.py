"""The same rater again: how well people agree with themselves, beside how well they agree with one another.

Each further reading is held against the same rater's first one. What two raters share is measured on the same
cases and from first readings alone, so that the two numbers can be set side by side. Masks that are empty both
times count as Dice 1, as everywhere here; since in some studies most are, the mean over what was marked at least
once stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mrprism.agreement.bootstrap import Estimate, Resampling, estimate, mean
from mrprism.agreement.case import CaseMeasures, combine
from mrprism.agreement.ratio import row_mean
from mrprism.datasets.outlined import Outlined
from mrprism.datasets.pieces import shared

ZERO_TO_ONE, DIFFERENCES = (0.0, 1.0), (-1.0, 1.0)
SAME, OTHER, GAP = "the same rater", "different raters", "difference"
STATISTICS = ("dice", "dice_where_drawn")


@dataclass(frozen=True)
class Rereading:
    """One structure; all of it on the cases that somebody read again."""

    structure: str
    same: dict[str, Estimate]  # statistic: of all who read again, mean over them and then over cases
    other: dict[str, Estimate]  # ... of every two raters' first readings of those cases
    gap: dict[str, Estimate]  # ... the first less the second, case by case
    raters: dict[str, Estimate]  # (R,) each; NaN: never asked again. Anonymous: none

    def __repr__(self) -> str:
        same, other = self.same["dice"], self.other["dice"]
        return f"Rereading('{self.structure}', Dice {same} of {SAME}, {other} of {OTHER}, {same.cases} cases)"


def reread(case: Outlined, structure: int) -> np.ndarray:
    """(2, R): Dice of each rater's further readings with the first, mean over them; then where anything is marked.

    NaN: the rater read once, or marked nothing at any time.
    """
    found = np.full((2, len(case.rated), max(1, len(case.readings))), np.nan)
    for number, again in enumerate(case.readings):
        for r in range(len(case.rated)):
            one, other = case.pieces.get((r, structure)), again.get((r, structure))
            if one is None or other is None:
                continue
            total = one.pixels + other.pixels
            dice = 2 * shared(one, other) / total if total else 1.0
            found[:, r, number] = dice, dice if total else np.nan
    return np.stack([row_mean(part) for part in found])


def summarise_rereading(
    structure: str, reread_: list[np.ndarray], cases: list[CaseMeasures], drawn: Resampling, anonymous: bool
) -> Rereading | None:
    """The statistics of a structure; None where nobody read it again.

    Args:
        reread_: What `reread` says of each case.
        cases: The first readings of the same cases.
    """
    again = np.stack(reread_)  # (case, 2, R)
    if np.isnan(again[:, 0]).all():
        return None
    confusion, dice = combine(cases, "confusion"), combine(cases, "dice")
    marked = confusion[..., 0, 1] + confusion[..., 1, 0] + confusion[..., 1, 1] > 0
    pairs = np.stack([dice, np.where(marked, dice, np.nan)], axis=1)  # (case, 2, pair)
    same: dict[str, Estimate] = {}
    other: dict[str, Estimate] = {}
    gap: dict[str, Estimate] = {}
    raters: dict[str, Estimate] = {}
    for place, key in enumerate(STATISTICS):
        own, asked = again[:, place], ~np.isnan(again[:, 0])
        mine = row_mean(own)
        theirs = np.where(np.isnan(mine), np.nan, row_mean(pairs[:, place]))
        same[key] = _mean(mine, asked.any(axis=1), drawn, ZERO_TO_ONE)
        other[key] = _mean(theirs, asked.any(axis=1), drawn, ZERO_TO_ONE)
        gap[key] = _mean(mine - theirs, asked.any(axis=1), drawn, DIFFERENCES)
        if not anonymous:
            raters[key] = _mean(own, asked, drawn, ZERO_TO_ONE)
    return Rereading(structure, same, other, gap, raters)


def rereading_rows(
    found: Rereading, names: tuple[str, ...], numbers: Callable[[Estimate], Iterator[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Rows of a table: all raters first, then each who read again.

    Args:
        numbers: An estimate as columns, one row for each of its places.
    """
    for who, values in ((SAME, found.same), (OTHER, found.other), (GAP, found.gap)):
        for key, value in values.items():
            what = {"structure": found.structure, "rater": "", "between": who, "statistic": key}
            yield {**what, **next(numbers(value))}
    for key, value in found.raters.items():
        for rater, row in zip(names, numbers(value), strict=True):
            if row["cases"]:
                what = {"structure": found.structure, "rater": rater, "between": SAME, "statistic": key}
                yield {**what, **row}


def said(found: Rereading) -> str:
    """What it comes to, in a sentence."""
    same, other, gap = (part["dice"] for part in (found.same, found.other, found.gap))
    cases = f"{same.cases} case{'s' if same.cases != 1 else ''}"
    return (
        f"Asked again about the {found.structure} on {cases}, a rater agrees with themselves by a Dice of {same}; "
        f"two raters agree there by {other}; the difference is {gap}"
    )


def _mean(values: np.ndarray, there: np.ndarray, drawn: Resampling, span: tuple[float, float]) -> Estimate:
    defined = ~np.isnan(values)
    undefined = np.asarray((there & ~defined).sum(axis=0))
    return estimate(partial(mean, values), drawn, defined, undefined, span=span)
