"""The statistics of one structure over all cases, each with its interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mrprism.agreement.bootstrap import Estimate, estimate, mean
from mrprism.agreement.case import CaseMeasures, bias_of, combine, overlap_of, pairs
from mrprism.agreement.chance import Tally, cohen_kappa, fleiss_of, gwet_of, krippendorff_of, stack
from mrprism.agreement.ratio import ratio, row_mean
from mrprism.agreement.spread import Spread, spread_test
from mrprism.agreement.volumes import ICC_KINDS, bland_altman_of, complete, icc_of
from mrprism.core.brief import counted
from mrprism.core.sample import Task

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

    def __repr__(self) -> str:
        cases, pairs_ = self.pair_dice.shape
        what = f"{counted(cases, 'case')}, {counted(pairs_, 'pair')} of raters"
        return f"StructureAgreement('{self.structure}', mean Dice {self.overall['dice']}, {what})"


def summarise(
    name: str,
    cases: list[CaseMeasures],
    pixel: np.ndarray,
    weights: np.ndarray,
    groups: list[str],
    task: Task,
    *,
    seed: int,
    margin: float,
) -> StructureAgreement:
    """Turn the measures of the cases into statistics.

    Args:
        name: The structure.
        cases: In the order of the data set.
        pixel: (case,) size of a pixel; NaN: unknown, and the case's sizes and distances with it.
        weights: (resample, case) from `resample`.
        groups: The patient of each case.
        task: The raters, and whether they are anonymous.
        seed, margin: Of the tests of `within_spread`.
    """
    known = np.where(np.isnan(pixel), np.nan, 1.0)[
        :, None
    ]  # millimetres are absent where unknown, never wrong
    pair_dice, pair_hd95 = combine(cases, "dice"), combine(cases, "hd95") * known
    sizes = combine(cases, "drawn") * pixel[:, None]
    tallies = stack([case.tally for case in cases])
    by_case = _by_case(cases, tallies, pair_dice, pair_hd95, pixel)
    overall = _overall(by_case, tallies, sizes, weights, task.anonymous)
    if task.anonymous:
        return StructureAgreement(name, overall, {}, {}, (), by_case, sizes, pair_dice)
    overall["cohen_kappa"] = _mean_cohen(cases, by_case, weights)
    return StructureAgreement(
        structure=name,
        overall=overall,
        pairs=_of_pairs(cases, pair_dice, pair_hd95, sizes, weights),
        raters=_of_raters(cases, sizes, pixel, known, weights),
        spread=_spread(name, pair_dice, groups, task.raters, len(weights) - 1, seed, margin),
        cases=by_case,
        sizes=sizes,
        pair_dice=pair_dice,
    )


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


def _overall(
    by_case: dict[str, np.ndarray], tallies: Tally, sizes: np.ndarray, weights: np.ndarray, anonymous: bool
) -> dict[str, Estimate]:
    several = by_case["raters"] > 1
    count = int(several.sum())
    overall = {key: _mean_of(by_case[key], several, weights) for key in ("dice", "hd95")}
    for key, statistic in OF_SUMS.items():
        empty = int((several & np.isnan(by_case[key])).sum())
        overall[key] = estimate(partial(_pooled, statistic, tallies), weights, count, empty)
    full = int(complete(sizes).sum())
    correlations = estimate(partial(icc_of, sizes), weights, full, len(sizes) - full)
    for place, kind in enumerate(ICC_KINDS):
        if not anonymous or kind.startswith("ICC1"):  # the one that asks nothing of who sits in which slot
            overall[kind] = correlations[place]
    for key in ("any_rater", "all_raters", "majority", "dissent"):
        overall[key] = _mean_of(by_case[key], several, weights)
    outer, dissent = np.nan_to_num(by_case["any_rater"]), np.nan_to_num(by_case["dissent"])
    drawn = int((outer > 0).sum())
    overall["dissent_share"] = estimate(partial(_share, dissent, outer), weights, drawn, count - drawn)
    return overall


def _of_pairs(
    cases: list[CaseMeasures],
    pair_dice: np.ndarray,
    pair_hd95: np.ndarray,
    sizes: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Estimate]:
    rated, confusion = combine(cases, "rated"), combine(cases, "confusion")
    first, second = pairs(rated.shape[1])
    both = rated[:, first] & rated[:, second]
    collected: dict[str, list[Estimate]] = {}
    for start in range(0, len(first), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        joint, here = confusion[:, some], both[:, some]
        empty = (here & np.isnan(cohen_kappa(joint))).sum(axis=0)
        gap = sizes[:, first[some]] - sizes[:, second[some]]
        measured = (~np.isnan(gap)).sum(axis=0)[:, None]
        limits = estimate(
            partial(bland_altman_of, gap), weights, measured, here.sum(axis=0)[:, None] - measured
        )
        found = {
            "dice": _mean_of(pair_dice[:, some], here, weights),
            "hd95": _mean_of(pair_hd95[:, some], here, weights),
            "cohen_kappa": estimate(partial(_cohen, joint), weights, here.sum(axis=0), empty),
            "size_difference": limits[:, 0],
            "size_lower_limit": limits[:, 1],
            "size_upper_limit": limits[:, 2],
        }
        for key, value in found.items():
            collected.setdefault(key, []).append(value)
    return {key: _join(found) for key, found in collected.items()}


def _of_raters(
    cases: list[CaseMeasures], sizes: np.ndarray, pixel: np.ndarray, known: np.ndarray, weights: np.ndarray
) -> dict[str, Estimate]:
    others = combine(cases, "others")  # (case, R, 5), see `against_others`
    accompanied = ~np.isnan(others[..., 0])
    size = np.nan_to_num(others * pixel[:, None, None])
    empty = (accompanied & np.isnan(bias_of(others)[..., 2])).sum(axis=0)[:, None]
    bias = estimate(partial(_bias, size), weights, accompanied.sum(axis=0)[:, None], empty)
    overlap = overlap_of(others)
    return {
        "size": _mean_of(sizes, combine(cases, "rated"), weights),
        "over_drawn": bias[:, 0],
        "under_drawn": bias[:, 1],
        "bias": bias[:, 2],
        "dice_to_others": _mean_of(overlap[..., 0], accompanied, weights),
        "sensitivity_to_others": _mean_of(overlap[..., 1], accompanied, weights),
        "precision_to_others": _mean_of(overlap[..., 2], accompanied, weights),
        "hd95_to_others": _mean_of(combine(cases, "others_hd95") * known, accompanied, weights),
    }


def _spread(
    name: str,
    pair_dice: np.ndarray,
    groups: list[str],
    raters: tuple[str, ...],
    resamples: int,
    seed: int,
    margin: float,
) -> tuple[Spread, ...]:
    if len(raters) < 3:
        return ()
    first, second = pairs(len(raters))
    scores = np.full((len(pair_dice), len(raters), len(raters)), np.nan)
    scores[:, first, second] = scores[:, second, first] = pair_dice
    test = partial(spread_test, scores, groups=groups, margin=margin, seed=seed, resamples=resamples)
    return tuple(test(place, structure=name, name=rater) for place, rater in enumerate(raters))


def _mean_of(values: np.ndarray, there: np.ndarray, weights: np.ndarray) -> Estimate:
    """Mean over cases, counting those that were there and undefined."""
    defined = np.asarray((~np.isnan(values)).sum(axis=0))
    undefined = np.asarray(there.sum(axis=0) - defined)
    return estimate(partial(mean, values), weights, defined, undefined)


def _mean_cohen(cases: list[CaseMeasures], by_case: dict[str, np.ndarray], weights: np.ndarray) -> Estimate:
    """Mean over the pairs of raters of their Cohen's kappa."""
    confusion, several = combine(cases, "confusion"), by_case["raters"] > 1

    def statistic(weights: np.ndarray) -> np.ndarray:
        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for start in range(0, confusion.shape[1], PAIRS_AT_ONCE):
            kappa = _cohen(confusion[:, start : start + PAIRS_AT_ONCE], weights)
            total += np.nan_to_num(kappa).sum(axis=1)
            count += (~np.isnan(kappa)).sum(axis=1)
        return ratio(total, count)

    empty = int((several & np.isnan(by_case["fleiss_kappa"])).sum())
    return estimate(statistic, weights, int(several.sum()), empty)


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

    return Estimate(all_of("value"), all_of("low"), all_of("high"), all_of("cases"), all_of("undefined"))
