"""What was found: an `Agreement`, and itself as tidy tables with a row a statistic, pair, rater, case or size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.agreement.bootstrap import LEVEL, Estimate
from mrprism.agreement.case import pairs
from mrprism.agreement.notebook import agreement_html
from mrprism.agreement.ratio import row_mean
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
        """Tidy tables by name: `overall`, `pairs`, `raters`, `spread`, `cases`, `sizes`."""
        return {name: Rows(rows) for name, rows in tables(self).items()}

    def to_json(self) -> Row:
        """The tables and what they were made with, ready for `json.dumps` (undefined: None)."""
        return to_json(self)


def tables(agreement: Agreement) -> dict[str, list[Row]]:
    """Tables by name; undefined values are None."""
    found: dict[str, list[Row]] = {
        "overall": [],
        "pairs": [],
        "raters": [],
        "spread": [],
        "cases": [],
        "sizes": [],
    }
    for part in agreement.structures:
        found["overall"] += [
            _overall_row(agreement, part, key, value, "") for key, value in part.overall.items()
        ]
        if part.subset is not None:
            names = ", ".join(agreement.task.raters[r] for r in part.subset.raters)
            found["overall"] += [
                _overall_row(agreement, part, key, value, names) for key, value in part.subset.overall.items()
            ]
        found["pairs"] += _pair_rows(agreement, part)
        found["raters"] += _rater_rows(agreement, part)
        found["spread"] += [spread_row(spread) for spread in part.spread]
        found["sizes"] += [
            {
                "structure": part.structure,
                "case": case,
                "rater": rater,
                "size": number(size),
                "unit": agreement.unit,
            }
            for case, row in zip(agreement.cases, part.sizes, strict=True)
            for rater, size in zip(agreement.task.raters, row, strict=True)
        ]
    for place in _case_order(agreement):
        for part in agreement.structures:
            row = {
                "case": agreement.cases[place],
                "patient": agreement.patients[place],
                "structure": part.structure,
            }
            found["cases"].append(row | {key: number(values[place]) for key, values in part.cases.items()})
    return found


def to_json(agreement: Agreement) -> Row:
    """Everything in the tables and how it was made; undefined values are None."""
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
        "tables": tables(agreement),
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


def _overall_row(
    agreement: Agreement, part: StructureAgreement, key: str, value: Estimate, raters: str
) -> Row:
    """A statistic of all raters, or of those that are named."""
    row = {"structure": part.structure, "statistic": key, "unit": _unit(agreement, key), **_numbers(value)}
    return {**row, "only_raters": raters, "remark": "" if value.computed else "not computed"}


def _numbers(found: Estimate, place: int | tuple[()] = ()) -> Row:
    keys = ("value", "low", "high")
    counts = ("cases", "patients", "undefined", "left_out")
    return {
        **{key: number(getattr(found, key)[place]) for key in keys},
        "interval": str(found.by[place]),
        **{key: int(getattr(found, key)[place]) for key in counts},
    }


def _pair_rows(agreement: Agreement, part: StructureAgreement) -> list[Row]:
    raters = agreement.task.raters
    rows = []
    for place, (first, second) in enumerate(zip(*pairs(len(raters)), strict=True)):
        for key, value in part.pairs.items():
            who = {"structure": part.structure, "first": raters[first], "second": raters[second]}
            rows.append({**who, "statistic": key, "unit": _unit(agreement, key), **_numbers(value, place)})
    return rows


def _rater_rows(agreement: Agreement, part: StructureAgreement) -> list[Row]:
    return [
        {
            "structure": part.structure,
            "rater": rater,
            "statistic": key,
            "unit": _unit(agreement, key),
            **_numbers(value, place),
        }
        for place, rater in enumerate(agreement.task.raters)
        for key, value in part.raters.items()
    ]


def _unit(agreement: Agreement, statistic: str) -> str:
    if statistic in IN_SIZES:
        return agreement.unit
    return agreement.distance_unit if statistic.startswith("hd95") else ""


def _case_order(agreement: Agreement) -> list[int]:
    hardest = agreement.hardest()
    return hardest + [place for place in range(len(agreement.cases)) if place not in set(hardest)]
