"""The statistics of one structure over all cases, each with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from html import escape
from typing import Any

import numpy as np

from mrprism.agreement.bootstrap import CLASSICAL_F, Estimate, Resampling, estimate, mean, not_computed
from mrprism.agreement.case import CaseMeasures, bias_of, combine, overlap_of, pairs
from mrprism.agreement.chance import Tally, cohen_kappa, fleiss_of, gwet_of, krippendorff_of, stack
from mrprism.agreement.ratio import ratio, row_mean
from mrprism.agreement.spread import Spread, readers_tests
from mrprism.agreement.subset import subset_of
from mrprism.agreement.volumes import ICC_KINDS, bland_altman_of, complete, icc_intervals, icc_of
from mrprism.core.brief import counted
from mrprism.core.rows import Rows, html_table
from mrprism.core.sample import Task
from mrprism.metrics.bootstrap import FEW
from mrprism.metrics.claims import apart_from_zero

PAIRS_AT_ONCE = 512  # bounds the memory of resampling when there are hundreds of raters
OF_SUMS: dict[str, Callable[[Tally], np.ndarray]] = {
    "fleiss_kappa": fleiss_of,
    "gwet_ac1": gwet_of,
    "krippendorff_alpha": krippendorff_of,
}


@dataclass(frozen=True)
class StructureAgreement:
    """All statistics of one structure; sizes in `Agreement.unit`."""

    structure: str
    overall: dict[str, Estimate]  # one number each
    pairs: dict[str, Estimate]  # (pair,) each, in the order of `mrprism.agreement.pairs`; anonymous: none
    raters: dict[str, Estimate]  # (R,) each; anonymous: none
    spread: tuple[Spread, ...]  # each reader within the others' spread? anonymous or fewer than 3: none
    cases: dict[str, np.ndarray]  # (case,) each
    sizes: np.ndarray  # (case, R) what each rater measured
    pair_dice: np.ndarray  # (case, pair)
    subset: Subset | None = None  # ICCs of fewer raters, where not many cases were done by all
    bias_p: np.ndarray | None = None  # (R,) p of each bias being none, corrected for the number of raters

    def __repr__(self) -> str:
        cases, pairs_ = self.pair_dice.shape
        what = f"{counted(cases, 'case')}, {counted(pairs_, 'pair')} of raters"
        return f"StructureAgreement('{self.structure}', mean Dice {self.overall['dice']}, {what})"

    def rows(self) -> Rows[dict[str, Any]]:
        """The statistics of all raters, one a row; those that were not computed are left out."""
        return Rows(
            {
                "statistic": key,
                "value": float(found.value),
                "low": float(found.low),
                "high": float(found.high),
                "cases": int(found.cases),
                "patients": int(found.patients),
            }
            for key, found in self.overall.items()
            if found.computed
        )

    def to_frame(self) -> Any:
        """The statistics of all raters as a `pandas.DataFrame`.

        Raises:
            InputError: pandas is not installed.
        """
        return self.rows().to_frame()

    def _repr_html_(self) -> str:
        rows = self.rows()
        table = html_table(rows.columns, [list(row.values()) for row in rows], len(rows))
        return f"<p>{escape(repr(self))}</p>{table}"


@dataclass(frozen=True)
class Subset:
    """The raters that are left when those who did few cases are left out, and how they agree on sizes."""

    raters: tuple[int, ...]
    overall: dict[str, Estimate]


def summarise(
    name: str,
    cases: list[CaseMeasures],
    pixel: np.ndarray,
    drawn: Resampling,
    groups: list[str],
    task: Task,
    *,
    seed: int,
    margin: float,
    distances: bool = True,
) -> StructureAgreement:
    """Turn the measures of the cases into statistics.

    Args:
        name: The structure.
        cases: In the order of the data set.
        pixel: (case,) size of a pixel; NaN: unknown, and the case's sizes and distances with it.
        drawn: From `resample`.
        groups: The patient of each case.
        task: The raters, and whether they are anonymous.
        seed, margin: Of the tests of `within_spread`.
        distances: Whether HD95 was computed.
    """
    known = np.where(np.isnan(pixel), np.nan, 1.0)[
        :, None
    ]  # millimetres are absent where unknown, never wrong
    pair_dice, pair_hd95 = combine(cases, "dice"), combine(cases, "hd95") * known
    sizes = combine(cases, "drawn") * pixel[:, None]
    tallies = stack([case.tally for case in cases])
    by_case = _by_case(cases, tallies, pair_dice, pair_hd95, pixel)
    overall = _overall(by_case, tallies, sizes, drawn, task.anonymous)
    if not distances:
        overall["hd95"] = not_computed(())
    if task.anonymous:
        return StructureAgreement(name, overall, {}, {}, (), by_case, sizes, pair_dice)
    overall["cohen_kappa"] = _mean_cohen(cases, by_case, drawn)
    of_pairs = _of_pairs(cases, pair_dice, pair_hd95, sizes, drawn)
    of_raters = _of_raters(cases, sizes, pixel, known, drawn)
    if not distances:
        of_pairs["hd95"] = not_computed(of_pairs["dice"].value.shape)
        of_raters["hd95_to_others"] = not_computed((len(task.raters),))
    few = subset_of(sizes)
    return StructureAgreement(
        structure=name,
        overall=overall,
        pairs=of_pairs,
        raters=of_raters,
        spread=readers_tests(
            pair_dice,
            task.raters,
            groups,
            margin=margin,
            seed=seed,
            resamples=len(drawn.draws),
            structure=name,
            structures=len(task.structures),
        )
        if len(task.raters) > 2
        else (),
        cases=by_case,
        sizes=sizes,
        pair_dice=pair_dice,
        subset=None if few is None else Subset(few, _correlations(sizes[:, list(few)], drawn)),
        bias_p=_bias_p(cases, pixel, drawn, seed),
    )


def _bias_p(cases: list[CaseMeasures], pixel: np.ndarray, drawn: Resampling, seed: int) -> np.ndarray:
    """Does a rater draw more, or less, than the others' vote? Corrected for the number of raters."""
    others = combine(cases, "others") * pixel[:, None, None]
    more = others[..., 0] - others[..., 1] - others[..., 3] / 2  # drawn − vote, see `bias_of`
    sums, counts = np.zeros((2, int(drawn.patient.max(initial=-1)) + 1, more.shape[1]))
    np.add.at(sums, drawn.patient, np.nan_to_num(more))
    np.add.at(counts, drawn.patient, ~np.isnan(more))
    return apart_from_zero(np.where(counts > 0, sums, np.nan), seed=seed)


def _by_case(
    cases: list[CaseMeasures], tallies: Tally, pair_dice: np.ndarray, pair_hd95: np.ndarray, pixel: np.ndarray
) -> dict[str, np.ndarray]:
    raters = combine(cases, "rated").sum(axis=1)
    scale = np.where(raters > 1, pixel, np.nan)
    extent = {key: combine(cases, key) * scale for key in ("any", "all", "majority", "dissent", "ties")}
    lowest = np.where(np.isnan(pair_dice), np.inf, pair_dice).min(axis=1, initial=np.inf)
    return {
        "raters": raters,
        "dice": row_mean(pair_dice),
        "lowest_dice": np.where(np.isinf(lowest), np.nan, lowest),
        "hd95": row_mean(pair_hd95),
        **{key: statistic(tallies) for key, statistic in OF_SUMS.items()},
        "any_rater": extent["any"],
        "all_raters": extent["all"],
        "majority": extent["majority"],
        "dissent": extent["dissent"],
        "dissent_share": ratio(extent["dissent"], extent["any"]),
        "ties": extent["ties"],
    }


ONE, PLUS, KAPPA = (0.0, 1.0), (0.0, np.inf), (-1.0, 1.0)  # the scales of shares, of sizes, of kappas
OVER_UNDER_NET = np.array([0.0, 0.0, -1.0]), np.array([np.inf, 1.0, np.inf])  # shares of the others' vote


def _overall(
    by_case: dict[str, np.ndarray], tallies: Tally, sizes: np.ndarray, drawn: Resampling, anonymous: bool
) -> dict[str, Estimate]:
    several = by_case["raters"] > 1
    overall = {
        "dice": _mean_of(by_case["dice"], several, drawn, ONE),
        "hd95": _mean_of(by_case["hd95"], several, drawn, PLUS, by_case["any_rater"]),
    }
    for key, statistic in OF_SUMS.items():
        empty = int((several & np.isnan(by_case[key])).sum())
        overall[key] = estimate(partial(_pooled, statistic, tallies), drawn, several, empty, span=KAPPA)
    for kind, value in _correlations(sizes, drawn).items():
        if not anonymous or kind.startswith("ICC1"):  # the one that asks nothing of who sits in which slot
            overall[kind] = value
    for key in ("any_rater", "all_raters", "majority", "dissent"):
        overall[key] = _mean_of(by_case[key], several, drawn, PLUS, by_case[key])
    outer, dissent = np.nan_to_num(by_case["any_rater"]), np.nan_to_num(by_case["dissent"])
    known = several & ~np.isnan(by_case["any_rater"])
    overall["dissent_share"] = estimate(
        partial(_share, dissent, outer), drawn, outer > 0, int((known & (outer == 0)).sum()),
        left_out=int((several & ~known).sum()), span=ONE,
    )  # fmt: skip
    return overall


def _correlations(sizes: np.ndarray, drawn: Resampling) -> dict[str, Estimate]:
    """ICCs of size over the cases that every rater did; of a few patients with one case each, F's intervals."""
    full = complete(sizes)
    whole = estimate(partial(icc_of, sizes), drawn, full, left_out=int((~full).sum()), span=KAPPA)
    found = {kind: whole[place] for place, kind in enumerate(ICC_KINDS)}
    cases, patients = int(full.sum()), int(drawn.of(full))
    if not len(drawn.draws) or patients >= FEW or patients < cases:
        return found
    ends = icc_intervals(sizes)
    return {
        kind: replace(value, low=np.array(ends[kind][0]), high=np.array(ends[kind][1]),
                      by=np.array("" if np.isnan(ends[kind][0]) else CLASSICAL_F))
        for kind, value in found.items()
    }  # fmt: skip


def _of_pairs(
    cases: list[CaseMeasures],
    pair_dice: np.ndarray,
    pair_hd95: np.ndarray,
    sizes: np.ndarray,
    drawn: Resampling,
) -> dict[str, Estimate]:
    rated = combine(cases, "rated")
    confusion = combine(cases, "confusion")
    first, second = pairs(rated.shape[1])
    collected: dict[str, list[Estimate]] = {}
    for start in range(0, len(first), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        joint, here = confusion[:, some].astype(float), rated[:, first[some]] & rated[:, second[some]]
        gap = sizes[:, first[some]] - sizes[:, second[some]]
        measured = ~np.isnan(gap)
        unknown = here.sum(axis=0) - measured.sum(axis=0)
        limits = estimate(
            partial(bland_altman_of, gap), drawn, measured[..., None], left_out=unknown[:, None]
        )
        found = {
            "dice": _mean_of(pair_dice[:, some], here, drawn, ONE),
            "hd95": _mean_of(pair_hd95[:, some], here, drawn, PLUS, gap),
            "cohen_kappa": estimate(
                partial(_cohen, joint), drawn, here, (here & np.isnan(cohen_kappa(joint))).sum(axis=0),
                span=KAPPA,
            ),
            "size_difference": limits[:, 0],
            "size_lower_limit": limits[:, 1],
            "size_upper_limit": limits[:, 2],
        }  # fmt: skip
        for key, value in found.items():
            collected.setdefault(key, []).append(value)
    return {key: _join(found) for key, found in collected.items()}


def _of_raters(
    cases: list[CaseMeasures], sizes: np.ndarray, pixel: np.ndarray, known: np.ndarray, drawn: Resampling
) -> dict[str, Estimate]:
    others = combine(cases, "others")  # (case, R, 5), see `against_others`
    accompanied = ~np.isnan(others[..., 0])
    size = np.nan_to_num(others * pixel[:, None, None])
    measured = accompanied & ~np.isnan(known)
    empty = (measured & np.isnan(bias_of(others)[..., 2])).sum(axis=0)[:, None]
    unknown = (accompanied & ~measured).sum(axis=0)[:, None]
    bias = estimate(
        partial(_bias, size), drawn, measured[..., None], empty, left_out=unknown, span=OVER_UNDER_NET
    )
    overlap = overlap_of(others)
    return {
        "size": _mean_of(sizes, combine(cases, "rated"), drawn, PLUS, sizes),
        "over_drawn": bias[:, 0],
        "under_drawn": bias[:, 1],
        "bias": bias[:, 2],
        "dice_to_others": _mean_of(overlap[..., 0], accompanied, drawn, ONE),
        "sensitivity_to_others": _mean_of(overlap[..., 1], accompanied, drawn, ONE),
        "precision_to_others": _mean_of(overlap[..., 2], accompanied, drawn, ONE),
        "hd95_to_others": _mean_of(combine(cases, "others_hd95") * known, accompanied, drawn, PLUS, sizes),
    }


def _mean_of(
    values: np.ndarray,
    there: np.ndarray,
    drawn: Resampling,
    span: tuple[float, float],
    sized: np.ndarray | None = None,
) -> Estimate:
    """Mean over cases, counting those that were there and undefined.

    Args:
        sized: NaN where a case that was there has no known spacing, so that nothing in millimetres counts.
    """
    defined = ~np.isnan(values)
    left_out = there & np.isnan(sized) & ~defined if sized is not None else np.zeros(there.shape, bool)
    undefined = there & ~defined & ~left_out
    return estimate(
        partial(mean, values), drawn, defined, undefined.sum(axis=0), left_out=left_out.sum(axis=0), span=span
    )


def _mean_cohen(cases: list[CaseMeasures], by_case: dict[str, np.ndarray], drawn: Resampling) -> Estimate:
    """Mean over the pairs of raters of their Cohen's kappa, each pair weighing as many cases as it shares."""
    rated, confusion, several = combine(cases, "rated"), combine(cases, "confusion"), by_case["raters"] > 1
    first, second = pairs(rated.shape[1])

    def statistic(weights: np.ndarray) -> np.ndarray:
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for start in range(0, len(first), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            kappa = _cohen(confusion[:, some].astype(float), weights)
            shared = weights @ (rated[:, first[some]] & rated[:, second[some]])
            total += (np.nan_to_num(kappa) * shared).sum(axis=1)
            count += (~np.isnan(kappa) * shared).sum(axis=1)
        return ratio(total, count)

    empty = int((several & np.isnan(by_case["fleiss_kappa"])).sum())
    return estimate(statistic, drawn, several, empty, span=KAPPA)


def _pooled(statistic: Callable[[Tally], np.ndarray], tallies: Tally, weights: np.ndarray) -> np.ndarray:
    return statistic(tallies.weighted(weights))


def _share(part: np.ndarray, whole: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return ratio(weights @ part, weights @ whole)


def _cohen(confusion: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return cohen_kappa(np.tensordot(weights, confusion, 1))


def _bias(others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return bias_of(np.tensordot(weights, others, 1))


def _join(found: list[Estimate]) -> Estimate:
    def all_of(key: str) -> np.ndarray:
        return np.concatenate([getattr(one, key) for one in found])

    return Estimate(*(all_of(field.name) for field in fields(Estimate) if field.name != "computed"))
