"""What all cases of a data set together say about each rater, and fusing a case with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from mrprism.core.brief import brief
from mrprism.core.errors import InputError
from mrprism.core.patterns import PatternTable, merge
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Samples
from mrprism.core.workers import ALONE, Workers, in_order
from mrprism.fusion.band import band, band_weights
from mrprism.fusion.by_pattern import MARGIN, survey_region
from mrprism.fusion.drawing import look
from mrprism.fusion.em import expectation_maximisation
from mrprism.fusion.observers import Observers, Sight, observe, sample
from mrprism.fusion.outline import outline
from mrprism.fusion.staple import fuse_with_skill, pseudo_pixels

POOLED = ("staple", "dawid-skene", "band", "outline")  # the methods whose skill can be shared by all cases
EM = ("staple", "dawid-skene")
MERGED = 64  # tables of so many cases are joined
NOBODY = "no rater at all drew any structure of any case, so there is nothing to fuse"


@runtime_checkable
class Skill(Protocol):
    """What fusing one case needs to know from all of them."""

    def fuse(self, case: MultiRaterSample, margin: int | None) -> Prediction:
        """The consensus of the case."""


@runtime_checkable
class Pooled(Protocol):
    """What all cases together say about the raters."""

    def of(self, number: int | None, structures: Sequence[int] | None = None) -> Skill:
        """What fusing this case needs, for some structures or all; None: a case that was not among them."""


def poolable(method: str) -> None:
    """Refuse a method whose skill cannot be shared by all cases."""
    if method not in POOLED:
        raise InputError(
            f"skill can be pooled for {', '.join(POOLED[:-1])} and {POOLED[-1]}, not for '{method}'"
        )


def pool(cases: Samples, method: str, *, workers: Workers = ALONE, **options: Any) -> Pooled:
    """What all cases together say about the raters, for a method that can be pooled.

    Args:
        workers: Who reads the cases; what comes of it is the same.

    Raises:
        InputError: Another method, or nobody drew anything.
    """
    poolable(method)
    if method in ("outline", "band"):
        options.pop("margin", None)
        pooled = pool_observers if method == "outline" else pool_weights
        return pooled(cases, workers=workers, **options)
    return pool_skill(cases, method, workers=workers, **options)


@dataclass(frozen=True)
class CaseSkill:
    """What fusing one case of a pool needs."""

    confusion: Float[np.ndarray, "R C 2 2"]
    prior: Float[np.ndarray, " C"] | None  # None: the mean vote in the region of interest

    def fuse(self, case: MultiRaterSample, margin: int | None) -> Prediction:
        return fuse_with_skill(case.masks, case.rated, self.confusion, self.prior, margin=margin)

    __repr__ = brief


@dataclass(frozen=True)
class PooledSkill:
    """Skill shared by all cases, and each case's own prior."""

    confusion: Float[np.ndarray, "R C 2 2"]  # P(drawn | true); 0.5 for who rated nothing
    prior: Float[np.ndarray, "N C"]  # P(inside) in the region of interest of each case

    __repr__ = brief

    def of(self, number: int | None, structures: Sequence[int] | None = None) -> CaseSkill:
        """What fusing this case needs, for some structures or all."""
        some = list(range(self.prior.shape[1])) if structures is None else list(structures)
        return CaseSkill(self.confusion[:, some], None if number is None else self.prior[number, some])


@dataclass(frozen=True)
class CaseObservers:
    """What fusing one case by the outline model needs."""

    observers: tuple[Observers, ...]  # of each structure
    spacing_mm: tuple[float, ...] | None  # None: distances are in pixels

    def fuse(self, case: MultiRaterSample, margin: int | None) -> Prediction:
        return outline(
            case.masks, case.rated, spacing_mm=self.spacing_mm, margin=margin, observers=self.observers
        )


@dataclass(frozen=True)
class PooledObservers:
    """How each rater draws each structure, over all cases."""

    observers: tuple[Observers, ...]
    spacings: tuple[tuple[float, ...] | None, ...]  # of each case; all None unless all are known

    @property
    def unit(self) -> Literal["mm", "px"]:
        return "px" if None in self.spacings else "mm"

    def of(self, number: int | None, structures: Sequence[int] | None = None) -> CaseObservers:
        """What fusing this case needs, for some structures or all."""
        some = range(len(self.observers)) if structures is None else structures
        spacing = None if number is None else self.spacings[number]
        return CaseObservers(tuple(self.observers[c] for c in some), spacing)


@dataclass(frozen=True)
class CaseWeights:
    """What fusing one case by weighted votes needs."""

    weights: Float[np.ndarray, "R C"]

    def fuse(self, case: MultiRaterSample, margin: int | None) -> Prediction:
        return band(case.masks, case.rated, weights=self.weights, margin=margin)


@dataclass(frozen=True)
class PooledWeights:
    """How much each rater's vote weighs, over all cases."""

    weights: Float[np.ndarray, "R C"]  # log-odds

    def of(self, number: int | None, structures: Sequence[int] | None = None) -> CaseWeights:
        """What fusing this case needs, for some structures or all."""
        return CaseWeights(self.weights if structures is None else self.weights[:, list(structures)])


def pool_weights(cases: Samples, *, workers: Workers = ALONE) -> PooledWeights:
    """Count how often each rater is right where raters differ, in all cases together.

    Args:
        cases: Read once, one at a time; only their pattern tables are kept.

    Raises:
        InputError: Nobody drew anything.
    """
    if not len(cases):
        raise InputError("no cases to pool")
    raters, structures = cases[0].rated.shape
    tables: list[list[PatternTable]] = [[] for _ in range(structures)]
    rated = False
    found = in_order(partial(_tables, cases, 0), range(len(cases)), workers)
    for number, (own, drew) in enumerate(found):
        rated = rated or bool(drew.any())
        for table, some in zip(own, tables, strict=True):
            if table is not None:
                some.append(table)
        if number % MERGED == 0:  # what is kept stays short
            tables = [[merge(some)] if some else [] for some in tables]
    if not rated:
        raise InputError(NOBODY)
    weights = [band_weights(merge(some)) if some else np.ones(raters) for some in tables]
    return PooledWeights(np.stack(weights, axis=1))


def pool_observers(cases: Samples, *, workers: Workers = ALONE) -> PooledObservers:
    """Estimate how far outside each rater draws, and how steadily, from the outlines of all cases.

    Args:
        cases: Read once, one at a time (twice if only some have a pixel size); a few hundred distances are kept.

    Raises:
        InputError: Nobody drew anything.
    """
    if not len(cases):
        raise InputError("no cases to pool")
    sights, spacings = _sights(cases, workers, in_mm=True)
    if None in spacings and any(spacings):  # millimetres and pixels cannot be averaged
        sights, spacings = _sights(cases, workers, in_mm=False)
    raters = cases[0].rated.shape[0]
    return PooledObservers(tuple(observe(some, raters) for some in sights), tuple(spacings))


def _sights(
    cases: Samples, workers: Workers, in_mm: bool
) -> tuple[list[list[Sight]], list[tuple[float, ...] | None]]:
    """What is kept of every case for each structure, and the unit of its distances (None: pixels)."""
    sights: list[list[Sight]] = [[] for _ in range(cases[0].rated.shape[1])]
    spacings = []
    nobody = True
    for own, spacing, drew in in_order(partial(_sight, cases, in_mm), range(len(cases)), workers):
        nobody = nobody and not drew
        spacings.append(spacing)
        for sight, some in zip(own, sights, strict=True):
            if sight is not None:
                some.append(sight)
    if nobody:
        raise InputError(NOBODY)
    return sights, spacings


def _sight(
    cases: Samples, in_mm: bool, number: int
) -> tuple[list[Sight | None], tuple[float, ...] | None, bool]:
    """What is kept of a case for each structure, the unit of its distances, and whether anybody drew anything."""
    case = cases[number]
    spacing = case.spacing_mm if in_mm else None
    found: list[Sight | None] = []
    for c in range(case.rated.shape[1]):
        present = case.rated[:, c]
        drawing = look(case.masks[:, c], present, spacing_mm=spacing) if present.any() else None
        found.append(None if drawing is None else sample(drawing))
    return found, spacing, bool(case.rated.any())


def pool_skill(
    cases: Samples,
    method: str = "staple",
    *,
    margin: int | None = MARGIN,
    prior: float | None = None,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    iterations: int = 10_000,
    tolerance: float = 1e-7,
    workers: Workers = ALONE,
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
    for own, drew in in_order(partial(_tables, cases, margin), range(len(cases)), workers):
        tables.append(own)
        rated |= drew
    if not rated.any():
        raise InputError(NOBODY)
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


def _tables(
    cases: Samples, margin: int | None, number: int
) -> tuple[list[PatternTable | None], Bool[np.ndarray, "R C"]]:
    """The patterns of each structure of a case, and who rated it."""
    case = cases[number]
    return [_table(case, c, margin) for c in range(case.rated.shape[1])], case.rated


def _table(case: MultiRaterSample, structure: int, margin: int | None) -> PatternTable | None:
    """The patterns of one structure; None where nobody drew it, or all saw nothing."""
    if not case.rated[:, structure].any():
        return None
    table, region = survey_region(case.masks[:, structure], case.rated[:, structure], margin)
    return None if region is None else table
