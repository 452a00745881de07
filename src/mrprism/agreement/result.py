"""What was found: an `Agreement`, and itself as tidy tables with a row a statistic, pair, rater, case or size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.agreement.bootstrap import LEVEL, Estimate
from mrprism.agreement.case import pairs
from mrprism.agreement.notebook import agreement_html
from mrprism.agreement.ratio import row_mean
from mrprism.agreement.rereading import Rereading, rereading_rows
from mrprism.agreement.spread import NULL_EXCHANGE, Spread
from mrprism.agreement.structure import StructureAgreement
from mrprism.core.brief import counted
from mrprism.core.errors import unknown
from mrprism.core.rows import Rows
from mrprism.core.sample import Task
from mrprism.metrics.bootstrap import FEW

Row = dict[str, Any]
IN_SIZES = {"any_rater", "all_raters", "majority", "dissent", "ties", "size", "size_difference"}
IN_SIZES |= {"size_lower_limit", "size_upper_limit"}
WITHOUT_PERSONS = (
    "The raters are anonymous: a slot is not the same person from case to case. Statistics of persons "
    "(rater against rater, bias, leave-one-rater-out, Cohen, Bland–Altman, ICC2 and ICC3, within the "
    "readers' spread) would mean nothing and are left out."
)


@dataclass(frozen=True)
class Agreement:
    """How much the raters of a data set differ.

    Where a value is undefined (0/0) it is NaN here, null in JSON and empty in CSV, and counted.
    """

    name: str
    task: Task
    cases: tuple[str, ...]
    patients: tuple[str | None, ...]
    unit: str  # of sizes: "mm²", "mm³", "px" or "voxels"
    distance_unit: str  # "mm" or "px"
    structures: tuple[StructureAgreement, ...]
    seed: int
    resamples: int
    margin: float
    groups: int  # patients there are to resample
    candidates: tuple[Spread, ...] = ()  # models that were held against the readers
    again: tuple[Rereading, ...] = ()  # of the structures that somebody read a second time
    against: tuple[Row, ...] = ()  # each rater against the reference, where that is asked for
    outlines: tuple[Row, ...] = ()  # how far outside the others each rater draws, where that is asked for
    copies: tuple[str, ...] = ()  # raters whose masks seem to be corrections of one another, a sentence each

    def __getitem__(self, structure: str) -> StructureAgreement:
        for part in self.structures:
            if part.structure == structure:
                return part
        raise unknown("structure", structure, (part.structure for part in self.structures))

    def __repr__(self) -> str:
        found = ", ".join(f"{part.structure} {part.overall['dice']}" for part in self.structures)
        who = f"{counted(len(self.cases), 'case')}, {counted(len(self.task.raters), 'rater')}"
        return f"Agreement('{self.name}', {who}; mean Dice: {found})"

    def _repr_html_(self) -> str:
        dice = {p.structure: self.matrix(p.structure, "dice") for p in self.structures if p.pairs}
        return agreement_html(repr(self), self.structures, self.task.raters, dice, self.tables()["overall"])

    def to_frame(self, table: str = "overall") -> Any:
        """One of the `tables` as a `pandas.DataFrame`.

        Raises:
            InputError: There is no such table, or pandas is not installed.
        """
        found = self.tables()
        if table not in found:
            raise unknown("table", table, found)
        return Rows(found[table]).to_frame()

    def matrix(self, structure: str, statistic: str) -> Float[np.ndarray, "R R"]:
        """A statistic of every two raters (`dice`, `hd95`, `cohen_kappa`); NaN on the diagonal."""
        raters, known = len(self.task.raters), self[structure].pairs
        if statistic not in known:
            raise unknown("statistic of pairs", statistic, known)
        square = np.full((raters, raters), np.nan)
        first, second = pairs(raters)
        square[first, second] = square[second, first] = self[structure].pairs[statistic].value
        return square

    def hardest(self) -> list[int]:
        """Places of the cases, those people most disagree on first (mean pairwise Dice, over structures)."""
        scores = np.stack([part.cases["dice"] for part in self.structures])
        score = row_mean(scores.T)
        order = np.argsort(np.where(np.isnan(score), np.inf, score), kind="stable")
        return [int(i) for i in order if not np.isnan(score[i])]

    def tables(self) -> dict[str, Rows[Row]]:
        """Tidy tables by name: `overall`, `again`, `pairs`, `raters`, `reference`, `outlines`, `spread`, `cases`,
        `sizes`."""
        return {name: Rows(rows) for name, rows in tables(self).items()}

    def to_json(self) -> Row:
        """The tables and what they were made with, ready for `json.dumps` (undefined: None)."""
        return to_json(self)


TABLES = ("overall", "again", "pairs", "raters", "reference", "outlines", "spread", "cases", "sizes")


def tables(agreement: Agreement) -> dict[str, list[Row]]:
    """Tables by name; undefined values are None."""
    return {name: list(rows_of(agreement, name)) for name in TABLES}


def rows_of(agreement: Agreement, table: str) -> Iterator[Row]:
    """The rows of one of `TABLES`, one after the other: hundreds of raters make hundreds of thousands."""
    if table == "cases":
        yield from _case_rows(agreement)
        return
    if table == "reference":
        yield from agreement.against
        return
    if table == "outlines":
        yield from agreement.outlines
        return
    rows = {
        "overall": _overall_rows,
        "again": _again_rows,
        "pairs": _pair_rows,
        "raters": _rater_rows,
        "spread": lambda _, part: map(spread_row, part.spread),
        "sizes": _size_rows,
    }[table]
    for part in agreement.structures:
        yield from rows(agreement, part)


def to_json(agreement: Agreement) -> Row:
    """Everything in the tables and how it was made; undefined values are None."""
    return {**about(agreement), "tables": tables(agreement)}


def about(agreement: Agreement) -> Row:
    """What the tables were made of, and how."""
    from mrprism import __version__

    task = agreement.task
    return {
        "dataset": agreement.name,
        "cases": len(agreement.cases),
        "patients": agreement.groups,
        "raters": list(task.raters),
        "anonymous": task.anonymous,
        "structures": list(task.structures),
        "size_unit": agreement.unit,
        "distance_unit": agreement.distance_unit,
        "interval": f"{LEVEL:.0%}: percentiles of resamples of whole patients; with fewer than {FEW} patients "
        "Student's t, and for ICCs F",
        "copies": list(agreement.copies),
        "resamples": agreement.resamples,
        "seed": agreement.seed,
        "note": WITHOUT_PERSONS if task.anonymous else None,
        "mrprism": __version__,
    }


def spread_row(spread: Spread) -> Row:
    """A test of `within_spread` as a row."""
    return {
        "structure": spread.structure,
        "candidate": spread.candidate,
        "verdict": spread.verdict,
        "to_readers": number(spread.to_readers),
        "among_readers": number(spread.among_readers),
        "difference": number(spread.difference.value),
        "low": number(spread.difference.low),
        "high": number(spread.difference.high),
        "margin": spread.margin,
        "p_margin": number(spread.p_margin),
        "p_exchangeable": number(spread.p),
        "cases": int(spread.difference.cases),
        "patients": int(spread.difference.patients),
        "left_out": spread.left_out,
        "trained_on": spread.trained_on,
        "chosen_on": spread.chosen_on,
        "null": spread.null,
        "null_of_p": NULL_EXCHANGE,
    }


def number(value: Any) -> int | float | None:
    """A plain number; None where it is undefined."""
    plain = np.asarray(value).item()
    if isinstance(plain, float):
        return plain if np.isfinite(plain) else None
    return int(plain)


def _overall_rows(agreement: Agreement, part: StructureAgreement) -> Iterator[Row]:
    """Statistics of all raters, then of those that are left when some who did few cases are not counted."""
    some = [("", part.overall)]
    if part.subset is not None:
        names = ", ".join(agreement.task.raters[r] for r in part.subset.raters)
        some.append((names, part.subset.overall))
    for raters, found in some:
        for key, value in found.items():
            row = {"structure": part.structure, "statistic": key, "unit": _unit(agreement, key)}
            remark = "" if value.computed else "not computed"
            yield {**row, **next(_numbers(value)), "only_raters": raters, "remark": remark}


def _again_rows(agreement: Agreement, part: StructureAgreement) -> Iterator[Row]:
    for found in agreement.again:
        if found.structure == part.structure:
            yield from rereading_rows(found, agreement.task.raters, _numbers)


def _numbers(found: Estimate) -> Iterator[Row]:
    """The numbers of an estimate, one row for each of its places."""
    names = ("value", "low", "high", "interval", "cases", "patients", "undefined", "left_out")
    floats = [np.ravel(part).tolist() for part in (found.value, found.low, found.high)]
    counts = [
        np.ravel(part).tolist() for part in (found.cases, found.patients, found.undefined, found.left_out)
    ]
    for value, low, high, by, *others in zip(*floats, np.ravel(found.by).tolist(), *counts, strict=True):
        known = (number if math.isfinite(number) else None for number in (value, low, high))
        yield dict(zip(names, (*known, by, *others), strict=True))


def _pair_rows(agreement: Agreement, part: StructureAgreement) -> Iterator[Row]:
    raters, columns = agreement.task.raters, {key: _numbers(value) for key, value in part.pairs.items()}
    if not columns:
        return
    for first, second in zip(*pairs(len(raters)), strict=True):
        for key, numbers in columns.items():
            who = {"structure": part.structure, "first": raters[first], "second": raters[second]}
            yield {**who, "statistic": key, "unit": _unit(agreement, key), **next(numbers)}


def _rater_rows(agreement: Agreement, part: StructureAgreement) -> Iterator[Row]:
    columns = {key: _numbers(value) for key, value in part.raters.items()}
    for rater in agreement.task.raters if columns else ():
        for key, numbers in columns.items():
            who = {"structure": part.structure, "rater": rater}
            yield {**who, "statistic": key, "unit": _unit(agreement, key), **next(numbers)}


def _size_rows(agreement: Agreement, part: StructureAgreement) -> Iterator[Row]:
    for case, row in zip(agreement.cases, part.sizes.tolist(), strict=True):
        for rater, size in zip(agreement.task.raters, row, strict=True):
            known = size if math.isfinite(size) else None
            yield {
                "structure": part.structure,
                "case": case,
                "rater": rater,
                "size": known,
                "unit": agreement.unit,
            }


def _case_rows(agreement: Agreement) -> Iterator[Row]:
    hardest = agreement.hardest()
    listed = set(hardest)
    for place in [*hardest, *(place for place in range(len(agreement.cases)) if place not in listed)]:
        who = {"case": agreement.cases[place], "patient": agreement.patients[place]}
        for part in agreement.structures:
            numbers = {key: number(values[place]) for key, values in part.cases.items()}
            yield {**who, "structure": part.structure, **numbers}


def _unit(agreement: Agreement, statistic: str) -> str:
    if statistic in IN_SIZES:
        return agreement.unit
    return agreement.distance_unit if statistic.startswith("hd95") else ""
