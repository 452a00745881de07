"""One pass over a data set: every statistic of how much its raters differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.agreement.bootstrap import Estimate, estimate, mean, resample
from mrprism.agreement.case import CaseMeasures, bias_of, combine, measure, overlap_of, pairs
from mrprism.agreement.cases import Cases, patient
from mrprism.agreement.chance import Tally, cohen_kappa, fleiss_of, gwet_of, krippendorff_of, stack
from mrprism.agreement.ratio import ratio
from mrprism.agreement.spread import Spread, spread_test
from mrprism.agreement.volumes import ICC_KINDS, bland_altman_of, complete, icc_of
from mrprism.errors import InputError
from mrprism.sample import MultiRaterSample, Task

PAIRS_AT_ONCE = 512  # bounds the memory of resampling when there are hundreds of raters


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
    groups: int = field(default=0)  # patients resampled

    def __getitem__(self, structure: str) -> StructureAgreement:
        return next(part for part in self.structures if part.structure == structure)

    def matrix(self, structure: str, statistic: str) -> Float[np.ndarray, "R R"]:
        """A statistic of every two raters (`dice`, `hd95`, `cohen_kappa`); NaN on the diagonal."""
        raters = len(self.task.raters)
        square = np.full((raters, raters), np.nan)
        first, second = pairs(raters)
        square[first, second] = square[second, first] = self[structure].pairs[statistic].value
        return square

    def hardest(self) -> list[int]:
        """Places of the cases, those people most disagree on first (mean pairwise Dice, over structures)."""
        scores = np.stack([part.cases["dice"] for part in self.structures])
        score = ratio(np.where(np.isnan(scores), 0, scores).sum(axis=0), (~np.isnan(scores)).sum(axis=0))
        order = np.argsort(np.where(np.isnan(score), np.inf, score), kind="stable")
        return [int(i) for i in order if not np.isnan(score[i])]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Tidy tables by name: `overall`, `pairs`, `raters`, `spread`, `cases`, `sizes`."""
        from mrprism.agreement.tables import tables

        return tables(self)

    def to_json(self) -> dict[str, Any]:
        """The tables and what they were made with, ready for `json.dumps` (undefined: None)."""
        from mrprism.agreement.tables import to_json

        return to_json(self)


def agree(
    dataset: Cases, *, seed: int = 0, resamples: int = 1000, margin: float = 0.05, distances: bool = True
) -> Agreement:
    """Measure how much the raters of a data set differ.

    Args:
        dataset: Opened with `mrprism.datasets.open_dataset`; read once, case by case.
        seed: Of the bootstrap; equal seeds give equal intervals.
        resamples: How many times the patients are drawn again. 0: no intervals.
        margin: Of `within_spread`, tested for each reader.
        distances: Also HD95, which takes most of the time.

    Raises:
        InputError: The data set is empty, or no case was outlined by two raters.
    """
    task = dataset.task
    if not len(dataset):
        raise InputError(f"{dataset.name} has no cases; agreement needs at least one")
    if len(task.raters) < 2:
        found = f"one rater only, {task.raters[0]}" if task.raters else "no rater"
        raise InputError(f"{dataset.name} has {found}; agreement needs at least two")
    names, groups, patients = [], [], []
    measures: list[list[CaseMeasures]] = [[] for _ in task.structures]
    dimensions = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        _check(sample, task)
        names.append(sample.name)
        groups.append(patient(sample))
        patients.append(sample.group)
        dimensions.add(sample.masks.ndim - 2)
        for c in range(len(task.structures)):
            measures[c].append(
                measure(sample.masks[:, c], sample.rated[:, c], sample.spacing_mm, distances=distances)
            )
    if not any(case.rated.sum() > 1 for cases in measures for case in cases):
        raise InputError(f"no case of {dataset.name} was outlined by two raters; there is nothing to compare")

    pixel = combine(measures[0], "pixel_size")
    metric = not np.isnan(pixel).all()
    flat = dimensions == {2}
    weights = resample(groups, resamples, seed)
    parts = tuple(
        _structure(name, cases, pixel if metric else np.ones(len(pixel)), weights, groups, task, seed, margin)
        for name, cases in zip(task.structures, measures, strict=True)
    )
    return Agreement(
        name=dataset.name,
        task=task,
        cases=tuple(names),
        patients=tuple(patients),
        unit=("mm²" if flat else "mm³") if metric else ("px" if flat else "voxels"),
        distance_unit="mm" if metric else "px",
        structures=parts,
        seed=seed,
        resamples=resamples,
        margin=margin,
        groups=len(set(groups)),
    )


def _check(sample: MultiRaterSample, task: Task) -> None:
    expected = (len(task.raters), len(task.structures))
    if sample.masks.shape[:2] != expected or sample.rated.shape != expected:
        raise InputError(
            f"case '{sample.name}' has masks of {sample.masks.shape[:2]} raters and structures and "
            f"{sample.rated.shape} marks of who rated; the data set has {expected}"
        )


def _structure(
    name: str,
    cases: list[CaseMeasures],
    pixel: np.ndarray,
    weights: np.ndarray,
    groups: list[str],
    task: Task,
    seed: int,
    margin: float,
) -> StructureAgreement:
    tallies = stack([case.tally for case in cases])
    rated = combine(cases, "rated")
    several = rated.sum(axis=1) > 1
    pair_dice, pair_hd95 = combine(cases, "dice"), combine(cases, "hd95")
    known = ~np.isnan(pixel)
    if pixel.size and not known.all():  # millimetres are absent where unknown, never wrong
        pair_hd95 = np.where(known[:, None], pair_hd95, np.nan)
    sizes = combine(cases, "drawn") * pixel[:, None]
    extents = np.stack([combine(cases, key) for key in ("any", "all", "majority", "dissent", "ties")], axis=1)
    by_case = _cases(
        tallies, pair_dice, pair_hd95, rated, np.where(several[:, None], extents * pixel[:, None], np.nan)
    )
    overall = _overall(tallies, by_case, sizes, weights, several, task.anonymous)
    of_pairs: dict[str, Estimate] = {}
    of_raters: dict[str, Estimate] = {}
    spread: tuple[Spread, ...] = ()
    if not task.anonymous:
        of_pairs = _pairs(cases, pair_dice, pair_hd95, sizes, rated, weights)
        overall["cohen_kappa"] = _mean_cohen(cases, weights, by_case["fleiss_kappa"], several)
        of_raters = _raters(cases, sizes, pixel, known, rated, weights)
        if len(task.raters) > 2:
            spread = tuple(_spreads(name, pair_dice, groups, task, weights, seed, margin))
    return StructureAgreement(name, overall, of_pairs, of_raters, spread, by_case, sizes, pair_dice)


def _cases(
    tallies: Tally, pair_dice: np.ndarray, pair_hd95: np.ndarray, rated: np.ndarray, extents: np.ndarray
) -> dict[str, np.ndarray]:
    found = ~np.isnan(pair_dice)
    outer, consensus, majority, dissent, ties = extents.T
    return {
        "raters": rated.sum(axis=1),
        "dice": _row_mean(pair_dice),
        "lowest_dice": np.where(
            found.any(axis=1), np.where(found, pair_dice, np.inf).min(axis=1, initial=np.inf), np.nan
        ),
        "hd95": _row_mean(pair_hd95),
        "fleiss_kappa": fleiss_of(tallies),
        "gwet_ac1": gwet_of(tallies),
        "krippendorff_alpha": krippendorff_of(tallies),
        "any_rater": outer,
        "all_raters": consensus,
        "majority": majority,
        "dissent": dissent,
        "dissent_share": ratio(dissent, outer),
        "ties": ties,
    }


def _overall(
    tallies: Tally,
    by_case: dict[str, np.ndarray],
    sizes: np.ndarray,
    weights: np.ndarray,
    several: np.ndarray,
    anonymous: bool,
) -> dict[str, Estimate]:
    count = int(several.sum())
    overall = {}
    for key in ("dice", "hd95"):
        values = by_case[key]
        defined = int((~np.isnan(values)).sum())
        overall[key] = estimate(lambda w, v=values: mean(v, w), weights, defined, count - defined)
    for key, statistic in (
        ("fleiss_kappa", fleiss_of),
        ("gwet_ac1", gwet_of),
        ("krippendorff_alpha", krippendorff_of),
    ):
        empty = int((several & np.isnan(by_case[key])).sum())
        overall[key] = estimate(lambda w, s=statistic: s(tallies.weighted(w)), weights, count, empty)
    # ICC1 alone asks nothing of who sits in which slot
    kinds = [kind for kind in ICC_KINDS if not anonymous or kind.startswith("ICC1")]
    full = int(complete(sizes).sum())
    for kind in kinds:
        place = ICC_KINDS.index(kind)
        overall[kind] = estimate(lambda w, p=place: icc_of(sizes, w)[:, p], weights, full, len(sizes) - full)
    for key in ("any_rater", "all_raters", "majority", "dissent"):
        values = by_case[key]
        defined = int((~np.isnan(values)).sum())
        overall[key] = estimate(lambda w, v=values: mean(v, w), weights, defined, count - defined)
    outer, dissent = np.nan_to_num(by_case["any_rater"]), np.nan_to_num(by_case["dissent"])
    drawn = int((outer > 0).sum())
    overall["dissent_share"] = estimate(
        lambda w: ratio(w @ dissent, w @ outer), weights, drawn, count - drawn
    )
    return overall


def _pairs(
    cases: list[CaseMeasures],
    pair_dice: np.ndarray,
    pair_hd95: np.ndarray,
    sizes: np.ndarray,
    rated: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Estimate]:
    first, second = pairs(rated.shape[1])
    both = (rated[:, first] & rated[:, second]).sum(axis=0)
    confusion = combine(cases, "confusion")
    differences = sizes[:, first] - sizes[:, second]
    no_kappa = (np.isnan(cohen_kappa(confusion)) & rated[:, first] & rated[:, second]).sum(axis=0)
    collected: dict[str, list[Estimate]] = {}
    for start in range(0, len(first), PAIRS_AT_ONCE):
        chunk = slice(start, start + PAIRS_AT_ONCE)
        n = both[chunk]
        for key, values in (("dice", pair_dice[:, chunk]), ("hd95", pair_hd95[:, chunk])):
            defined = (~np.isnan(values)).sum(axis=0)
            found = estimate(lambda w, v=values: mean(v, w), weights, defined, n - defined)
            collected.setdefault(key, []).append(found)
        joint = confusion[:, chunk]
        kappa = estimate(lambda w, j=joint: cohen_kappa(np.tensordot(w, j, 1)), weights, n, no_kappa[chunk])
        collected.setdefault("cohen_kappa", []).append(kappa)
        gaps = differences[:, chunk]
        measured = (~np.isnan(gaps)).sum(axis=0)
        for place, key in enumerate(("size_difference", "size_lower_limit", "size_upper_limit")):
            limits = estimate(
                lambda w, g=gaps, p=place: bland_altman_of(g, w)[..., p], weights, measured, n - measured
            )
            collected.setdefault(key, []).append(limits)
    return {key: _join(found) for key, found in collected.items()}


def _mean_cohen(
    cases: list[CaseMeasures], weights: np.ndarray, fleiss: np.ndarray, several: np.ndarray
) -> Estimate:
    """Mean over the pairs of raters of their Cohen's kappa."""
    confusion = combine(cases, "confusion")
    undefined = int((several & np.isnan(fleiss)).sum())

    def statistic(w: np.ndarray) -> np.ndarray:
        total = np.zeros(len(w))
        count = np.zeros(len(w))
        for start in range(0, confusion.shape[1], PAIRS_AT_ONCE):
            kappa = cohen_kappa(np.tensordot(w, confusion[:, start : start + PAIRS_AT_ONCE], 1))
            total += np.where(np.isnan(kappa), 0, kappa).sum(axis=1)
            count += (~np.isnan(kappa)).sum(axis=1)
        return ratio(total, count)

    return estimate(statistic, weights, int(several.sum()), undefined)


def _raters(
    cases: list[CaseMeasures],
    sizes: np.ndarray,
    pixel: np.ndarray,
    known: np.ndarray,
    rated: np.ndarray,
    weights: np.ndarray,
) -> dict[str, Estimate]:
    others = combine(cases, "others")  # (case, R, 5)
    there = ~np.isnan(others[..., 0])
    n = there.sum(axis=0)
    physical = np.nan_to_num(others * pixel[:, None, None])
    found = {}
    vote = physical[..., 1] + physical[..., 3] / 2
    empty = (there & (vote == 0)).sum(axis=0)
    for place, key in enumerate(("over_drawn", "under_drawn", "bias")):
        found[key] = estimate(
            lambda w, p=place: bias_of(np.tensordot(w, physical, 1))[..., p], weights, n, empty
        )
    overlap = overlap_of(others)
    distance = np.where(known[:, None], combine(cases, "others_hd95"), np.nan)
    measured = {
        "dice_to_others": overlap[..., 0],
        "sensitivity_to_others": overlap[..., 1],
        "precision_to_others": overlap[..., 2],
        "hd95_to_others": distance,
    }
    for key, values in measured.items():
        defined = (~np.isnan(values)).sum(axis=0)
        found[key] = estimate(lambda w, v=values: mean(v, w), weights, defined, n - defined)
    sized = (~np.isnan(sizes)).sum(axis=0)
    found["size"] = estimate(lambda w: mean(sizes, w), weights, sized, rated.sum(axis=0) - sized)
    return found


def _spreads(
    name: str,
    pair_dice: np.ndarray,
    groups: list[str],
    task: Task,
    weights: np.ndarray,
    seed: int,
    margin: float,
) -> Iterator[Spread]:
    raters = len(task.raters)
    first, second = pairs(raters)
    scores = np.full((len(pair_dice), raters, raters), np.nan)
    scores[:, first, second] = scores[:, second, first] = pair_dice
    for place, rater in enumerate(task.raters):
        yield spread_test(
            scores,
            place,
            groups,
            margin=margin,
            seed=seed,
            resamples=len(weights) - 1,
            structure=name,
            name=rater,
        )


def _row_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))


def _join(found: list[Estimate]) -> Estimate:
    return Estimate(
        *(
            np.concatenate([getattr(e, key) for e in found])
            for key in ("value", "low", "high", "cases", "undefined")
        )
    )
