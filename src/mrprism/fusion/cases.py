"""Fusing the cases of a data set, and what they say together about each rater."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv

from mrprism.core.brief import brief
from mrprism.core.errors import InputError, unknown
from mrprism.core.patterns import PatternTable
from mrprism.core.prediction import Prediction
from mrprism.core.rows import Rows
from mrprism.core.sample import MultiRaterSample, Samples
from mrprism.fusion import BY_DISTANCE, FUSIONS
from mrprism.fusion.by_pattern import MARGIN, survey_region
from mrprism.fusion.drawing import look
from mrprism.fusion.em import expectation_maximisation
from mrprism.fusion.observers import Observers, Sight, observe, sample
from mrprism.fusion.outline import outline
from mrprism.fusion.staple import fuse_with_skill, pseudo_pixels

BLOCK = 1 << 22  # numbers of a bootstrap in memory at a time
POOLED = ("staple", "dawid-skene", "outline")  # the methods whose skill can be shared by all cases
EM = ("staple", "dawid-skene")


def fuse_cases(cases: Samples, method: str, *, pooled: bool = False, **options: Any) -> Iterator[Prediction]:
    """Fuse every case of a data set, one after the other.

    Args:
        cases: Read twice when pooled; one case is in memory at a time.
        method: A name in ``FUSIONS``.
        pooled: Estimate one skill per rater from all cases together (``pool_skill``), and fuse each case
            with it, instead of rating the raters anew on every image. Raters must be the same persons
            from case to case.
        options: Of the fusion; when pooled, of ``pool_skill``.

    Raises:
        InputError: An unknown method, one that cannot be pooled, or a case whose structure nobody drew.
    """
    known(method)
    skill = pool(cases, method, **options) if pooled else None
    for number in range(len(cases)):
        case = cases[number]
        yield fuse_case(case, method, skill.of(number) if skill else None, **options)


def fuse_case(
    case: MultiRaterSample, method: str, skill: CaseSkill | CaseObservers | None = None, **options: Any
) -> Prediction:
    """Fuse one case, by a method alone or with the skill found by ``pool_skill``."""
    known(method)
    _check_options(method, options)
    try:
        if skill is None:
            if method in BY_DISTANCE:
                options = {"spacing_mm": case.spacing_mm, **options}
            return FUSIONS[method](case.masks, case.rated, **options)
        margin = options.get("margin", MARGIN)
        if isinstance(skill, CaseObservers):
            return outline(
                case.masks, case.rated, spacing_mm=skill.spacing_mm, margin=margin, observers=skill.observers
            )
        return fuse_with_skill(case.masks, case.rated, skill.confusion, skill.prior, margin=margin)
    except InputError as error:
        raise InputError(f"case '{case.name}': {error}") from error


def some_structures(
    case: MultiRaterSample,
    method: str,
    skill: PooledSkill | PooledObservers | None = None,
    number: int = 0,
    **options: Any,
) -> tuple[list[int], Prediction | None]:
    """Fuse what somebody drew of a case: which structures that is, and their fusion; None for nothing at all."""
    drawn = np.flatnonzero(case.rated.any(axis=0)).tolist()
    if not drawn:
        return [], None
    some = case
    if len(drawn) < len(case.rated[0]):  # a selection is a copy
        some = replace(case, masks=case.masks[:, drawn], rated=case.rated[:, drawn], reference=None)
    return drawn, fuse_case(some, method, None if skill is None else skill.of(number, drawn), **options)


def known(method: str) -> None:
    """Refuse a method that does not exist."""
    if method not in FUSIONS:
        raise unknown("method", method, FUSIONS)


def _check_options(method: str, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(FUSIONS[method]).parameters.values()
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in options:
        if name not in own and not any_name:
            raise unknown(f"option of {method}", name, own)


def poolable(method: str) -> None:
    """Refuse a method whose skill cannot be shared by all cases."""
    if method not in POOLED:
        raise InputError(
            f"skill can be pooled for {', '.join(POOLED[:-1])} and {POOLED[-1]}, not for '{method}'"
        )


def pool(cases: Samples, method: str, **options: Any) -> PooledSkill | PooledObservers:
    """What all cases together say about the raters, for a method that can be pooled.

    Raises:
        InputError: Another method, or nobody drew anything.
    """
    poolable(method)
    if method == "outline":
        options.pop("margin", None)
        return pool_observers(cases, **options)
    return pool_skill(cases, method, **options)


@dataclass(frozen=True)
class CaseSkill:
    """What fusing one case of a pool needs."""

    confusion: Float[np.ndarray, "R C 2 2"]
    prior: Float[np.ndarray, " C"]

    __repr__ = brief


@dataclass(frozen=True)
class PooledSkill:
    """Skill shared by all cases, and each case's own prior."""

    confusion: Float[np.ndarray, "R C 2 2"]  # P(drawn | true); 0.5 for who rated nothing
    prior: Float[np.ndarray, "N C"]  # P(inside) in the region of interest of each case

    __repr__ = brief

    def of(self, number: int, structures: Sequence[int] | None = None) -> CaseSkill:
        """What fusing this case needs, for some structures or all."""
        some = list(range(self.prior.shape[1])) if structures is None else list(structures)
        return CaseSkill(self.confusion[:, some], self.prior[number, some])


@dataclass(frozen=True)
class CaseObservers:
    """What fusing one case by the outline model needs."""

    observers: tuple[Observers, ...]  # of each structure
    spacing_mm: tuple[float, ...] | None  # None: distances are in pixels


@dataclass(frozen=True)
class PooledObservers:
    """How each rater draws each structure, over all cases."""

    observers: tuple[Observers, ...]
    spacings: tuple[tuple[float, ...] | None, ...]  # of each case; all None unless all are known

    @property
    def unit(self) -> Literal["mm", "px"]:
        return "px" if None in self.spacings else "mm"

    def of(self, number: int, structures: Sequence[int] | None = None) -> CaseObservers:
        """What fusing this case needs, for some structures or all."""
        some = range(len(self.observers)) if structures is None else structures
        return CaseObservers(tuple(self.observers[c] for c in some), self.spacings[number])


def pool_observers(cases: Samples) -> PooledObservers:
    """Estimate how far outside each rater draws, and how steadily, from the outlines of all cases.

    Args:
        cases: Read once, one at a time (twice if only some have a pixel size); a few hundred distances are kept.

    Raises:
        InputError: Nobody drew anything.
    """
    if not len(cases):
        raise InputError("no cases to pool")
    sights, spacings = _sights(cases, in_mm=True)
    if None in spacings and any(spacings):  # millimetres and pixels cannot be averaged
        sights, spacings = _sights(cases, in_mm=False)
    raters = cases[0].rated.shape[0]
    return PooledObservers(tuple(observe(some, raters) for some in sights), tuple(spacings))


def _sights(cases: Samples, in_mm: bool) -> tuple[list[list[Sight]], list[tuple[float, ...] | None]]:
    """What is kept of every case for each structure, and the unit of its distances (None: pixels)."""
    sights: list[list[Sight]] = [[] for _ in range(cases[0].rated.shape[1])]
    spacings = []
    nobody = True
    for number in range(len(cases)):
        case = cases[number]
        nobody = nobody and not case.rated.any()
        spacings.append(case.spacing_mm if in_mm else None)
        for c, some in enumerate(sights):
            present = case.rated[:, c]
            drawing = look(case.masks[:, c], present, spacing_mm=spacings[-1]) if present.any() else None
            if drawing is not None:
                some.append(sample(drawing))
    if nobody:
        raise InputError("no rater at all drew any structure of any case, so there is nothing to fuse")
    return sights, spacings


def pool_skill(
    cases: Samples,
    method: str = "staple",
    *,
    margin: int | None = MARGIN,
    prior: float | None = None,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> PooledSkill:
    """Estimate one confusion per rater and structure from the vote patterns of all cases.

    Each case keeps its own prior and region of interest; cases weigh by the size of that region. With
    "staple" the prior of a case is its mean vote, with "dawid-skene" it is estimated.

    Args:
        cases: Read once, one at a time; only their pattern tables are kept.
        method: "staple" or "dawid-skene".
        margin, prior, skill_prior, iterations, tolerance: As for the method; ``prior`` is STAPLE's.

    Raises:
        InputError: Another method, or nobody drew anything.
    """
    if method not in EM:
        raise InputError(f"skill is estimated by {' or '.join(EM)}, not by '{method}'")
    if not len(cases):
        raise InputError("no cases to pool")
    tables = []
    rated = np.zeros_like(cases[0].rated)
    for number in range(len(cases)):
        case = cases[number]
        tables.append([_table(case, c, margin) for c in range(case.rated.shape[1])])
        rated |= case.rated
    if not rated.any():
        raise InputError("no rater at all drew any structure of any case, so there is nothing to fuse")
    raters, structures = rated.shape
    confusion = np.full((raters, structures, 2, 2), 0.5)
    priors = np.zeros((len(cases), structures))
    for c in range(structures):
        drawn_on = [(n, table) for n, row in enumerate(tables) if (table := row[c]) is not None]
        if not drawn_on:
            continue
        numbers = [n for n, _ in drawn_on]
        case_of = np.concatenate([np.full(len(t.counts), i) for i, (_, t) in enumerate(drawn_on)])
        estimate = expectation_maximisation(
            np.concatenate([t.indices() for _, t in drawn_on]),
            np.concatenate([t.counts for _, t in drawn_on]),
            2,
            prior=None if prior is None else np.tile([1 - prior, prior], (len(drawn_on), 1)),
            case=case_of,
            pseudo=pseudo_pixels(skill_prior, 2),
            learn_prior=method == "dawid-skene",
            iterations=iterations,
            tolerance=tolerance,
        )
        confusion[:, c] = estimate.confusion
        priors[numbers, c] = estimate.prior[:, 1]
    return PooledSkill(confusion, priors)


def _table(case: MultiRaterSample, structure: int, margin: int | None) -> PatternTable | None:
    """The patterns of one structure; None where nobody drew it, or all saw nothing."""
    if not case.rated[:, structure].any():
        return None
    table, region = survey_region(case.masks[:, structure], case.rated[:, structure], margin)
    return None if region is None else table


@dataclass(frozen=True)
class SkillRow:
    """How far one rater can be trusted on one structure; None where nothing is known."""

    structure: str
    rater: str
    cases: int
    sensitivity: float | None
    sensitivity_low: float | None
    sensitivity_high: float | None
    specificity: float | None
    specificity_low: float | None
    specificity_high: float | None
    dice: float | None  # expected Dice with the consensus, pixels of all cases together
    dice_low: float | None
    dice_high: float | None
    interval: str  # how low and high (95 %) were found


def skill_table(
    counts: Float[np.ndarray, "N R C 2 2"],
    raters: Sequence[str],
    structures: Sequence[str],
    groups: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Rows[SkillRow]:
    """Each rater's skill over a data set with 95 % intervals.

    Intervals are percentiles of a bootstrap over patients. A rater seen on one patient only gets
    Jeffreys' Beta interval over pixels instead, which takes neighbouring pixels for independent and is
    therefore too narrow; the row says so.

    Where only one rater drew, the consensus is their own mask and says nothing about them: that is not counted.

    Args:
        counts: ``skill_counts`` of each case.
        groups: The patient of each case.
    """
    present = np.asarray(counts.any(axis=(-2, -1)))
    counts = counts * (present.sum(axis=1, keepdims=True) > 1)[..., None, None]
    names = sorted(set(groups))
    place = {name: number for number, name in enumerate(names)}
    by_group = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(by_group, [place[group] for group in groups], counts)
    rows: Rows[SkillRow] = Rows()
    for c, resampled in _resampled(by_group, resamples, seed):
        for r, rater in enumerate(raters):
            mine = by_group[:, r, c]
            seen = mine.any(axis=(1, 2))
            total = mine.sum(axis=0)
            if seen.sum() > 1:
                bounds = [_percentiles(values) for values in _scores(resampled[:, r])]
                how = f"bootstrap over {len(names)} patients"
            else:
                bounds = [_beta(total[1, 1], total[1, 0]), _beta(total[0, 0], total[0, 1]), (None, None)]
                how = (
                    "beta over pixels, too narrow: one patient" if seen.any() else _why_none(present[:, r, c])
                )
            sensitivity, specificity, dice = (_known(value) for value in _scores(total))
            rows.append(
                SkillRow(
                    structures[c],
                    rater,
                    int(counts[:, r, c].any(axis=(1, 2)).sum()),
                    sensitivity,
                    *bounds[0],
                    specificity,
                    *bounds[1],
                    dice,
                    *bounds[2],
                    how,
                )
            )
    return rows


def _resampled(
    by_group: Float[np.ndarray, "P R C 2 2"], resamples: int, seed: int
) -> Iterator[tuple[int, Float[np.ndarray, "B R 2 2"]]]:
    """Each structure's number, and its counts in every resample of the patients.

    The draws, resamples × patients of them, are made anew for each block of structures and never kept: memory
    is bounded by blocks of both, whatever the number of patients.
    """
    patients, raters, structures = by_group.shape[:3]
    some = max(1, BLOCK // (resamples * raters * 4))
    few = max(1, BLOCK // patients)
    for first in range(0, structures, some):
        block = by_group[:, :, first : first + some]
        flat = block.reshape(patients, -1)
        draw = np.random.default_rng(seed)
        drawn = [
            draw.multinomial(patients, np.full(patients, 1 / patients), min(few, resamples - done)).astype(
                float
            )
            @ flat
            for done in range(0, resamples, few)
        ]
        sums = np.concatenate(drawn).reshape(resamples, *block.shape[1:])
        for c in range(block.shape[2]):
            yield first + c, sums[:, :, c]


def _why_none(present: Bool[np.ndarray, " N"]) -> str:
    return "none: always alone" if present.any() else "none: did not rate"


def _scores(counts: Float[np.ndarray, "*draws 2 2"]) -> tuple[Float[np.ndarray, "*draws"], ...]:
    """Sensitivity, specificity, Dice; NaN where undefined."""
    hit, miss = counts[..., 1, 1], counts[..., 1, 0]
    clear, extra = counts[..., 0, 0], counts[..., 0, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.asarray(hit / (hit + miss)),
            np.asarray(clear / (clear + extra)),
            np.asarray(2 * hit / (2 * hit + miss + extra)),
        )


def _percentiles(values: Float[np.ndarray, " B"]) -> tuple[float | None, float | None]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None, None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _beta(right: float, wrong: float) -> tuple[float | None, float | None]:
    if right + wrong <= 0:
        return None, None
    low, high = (float(betaincinv(right + 0.5, wrong + 0.5, p)) for p in (0.025, 0.975))
    return low, high


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
