"""Choosing between fusions without a reference: which one predicts best what a rater left out has drawn?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Samples
from mrprism.core.workers import ALONE, Workers
from mrprism.fusion.one_case import VOTE, fuse_case
from mrprism.fusion.pooling import POOLED, Pooled, PooledObservers, Skill, pool
from mrprism.metrics.overlap import dice

OF_PERSONS = (
    VOTE,
    "outline",
)  # with skill over all cases; staple and band, too, were chosen wrongly more often
OF_MASKS = (VOTE, "simple", "shape-average", "outline")  # raters are no persons: each image by itself
CASES, RATERS = 40, 7  # judged at most, and raters left out of each
RESAMPLES = 2000


@dataclass(frozen=True)
class Choice:
    """Which fusion was taken for a structure, and why."""

    structure: str
    method: str
    pooled: bool  # skill over all cases
    cases: int  # on which fusions were judged
    scores: dict[str, float]  # mean Dice of each fusion of the others with the rater left out
    gain: float | None  # of the method over the vote, in Dice; None: nothing to judge by
    low: float | None  # 95 %, by a bootstrap over cases
    high: float | None
    why: str


@dataclass(frozen=True)
class CaseChoice:
    """What fusing one case needs: method and skill of each structure."""

    parts: tuple[tuple[str, Skill | None], ...]

    def fuse(self, case: MultiRaterSample, margin: int | None) -> Prediction:
        """Each structure by its own method."""
        found = []
        for c, (method, skill) in enumerate(self.parts):
            one = replace(case, masks=case.masks[:, [c]], rated=case.rated[:, [c]], reference=None)
            found.append(fuse_case(one, method, skill, margin=margin))
        probability = np.concatenate([one.probability for one in found])
        return Prediction(
            probability=probability,
            confusion=np.concatenate([one.confusion for one in found], axis=1),
            ties=np.concatenate(
                [np.zeros(one.probability.shape, bool) if one.ties is None else one.ties for one in found]
            ),
        )


@dataclass(frozen=True)
class Chosen:
    """A fusion for each structure, with what it knows from all cases."""

    choices: tuple[Choice, ...]
    pools: dict[str, Pooled | None]

    def of(self, number: int | None, structures: Sequence[int] | None = None) -> CaseChoice:
        """What fusing this case needs, for some structures or all."""
        some = range(len(self.choices)) if structures is None else structures
        parts = []
        for c in some:
            pooled = self.pools[self.choices[c].method]
            parts.append((self.choices[c].method, None if pooled is None else pooled.of(number, [c])))
        return CaseChoice(tuple(parts))


def choose(
    cases: Samples,
    structures: Sequence[str],
    *,
    anonymous: bool,
    seed: int = 0,
    workers: Workers = ALONE,
) -> Chosen:
    """Choose a fusion for each structure by how well it predicts a rater who was left out.

    Of some cases that at least three raters drew, each of some raters is left out in turn, the others are fused,
    and the fusion is compared with what the rater drew. The vote stays unless another fusion predicts better
    by more than chance, paired over cases. Skill over all cases is estimated once, with all raters; the
    fusions judged are not shown the mask they are to predict. Steady raters count more. Where hardly a case has
    three raters nothing can be judged so; the outline model is taken if it tells two raters apart
    (`mrprism.fusion.pairs`), else the vote.

    What all raters do alike no fusion is punished for, here as elsewhere.

    Args:
        anonymous: Raters are not the same persons from case to case.
        workers: Who reads all cases, where skill is estimated.

    Raises:
        InputError: Nobody drew anything.
    """
    if not len(cases):
        raise InputError("no cases to fuse")
    methods = OF_MASKS if anonymous else OF_PERSONS
    pools = {m: pool(cases, m, workers=workers) if m in POOLED and not anonymous else None for m in methods}
    observers = pools.get("outline")
    steady = _steady(observers, cases[0].rated.shape)
    told_apart = [False] * len(structures)
    if isinstance(observers, PooledObservers):
        told_apart = [one.told_apart for one in observers.observers]
    rng = np.random.default_rng(seed)
    rows: list[list[Float[np.ndarray, " M"]]] = [[] for _ in structures]
    at = np.unique(np.linspace(0, len(cases) - 1, 4 * CASES).round().astype(int))
    for number in rng.permutation(at).tolist():
        if min(len(row) for row in rows) >= CASES:
            break
        case = cases[number]
        for c, row in enumerate(rows):
            if len(row) < CASES and case.rated[:, c].sum() >= 3:
                row.append(_predicted(case, number, c, methods, pools, steady[c], rng))
    choices = [
        _choice(structure, methods, np.array(row).reshape(len(row), len(methods)), pools, apart, rng)
        for structure, row, apart in zip(structures, rows, told_apart, strict=True)
    ]
    return Chosen(tuple(_together(choice, choices, pools) for choice in choices), pools)


def _together(choice: Choice, choices: Sequence[Choice], pools: dict[str, Pooled | None]) -> Choice:
    """What is ahead here, if by no more than chance, is taken if it is ahead by more for another structure."""
    best = max(choice.scores, key=lambda method: choice.scores[method], default=VOTE)
    other = next((c for c in choices if c.method == best and c.gain is not None), None)
    if choice.method != VOTE or best == VOTE or other is None:
        return choice
    gain = choice.scores[best] - choice.scores[VOTE]
    name = best + (" over all cases" if pools[best] is not None else "")
    why = (
        f"{name}: predicts a left-out rater better than the vote of the others does by {100 * gain:.1f} points of "
        f"Dice ({choice.cases} cases), which may be chance here, but not for {other.structure}"
    )
    return replace(
        choice, method=best, pooled=pools[best] is not None, gain=gain, low=None, high=None, why=why
    )


def _steady(pooled: Pooled | None, shape: tuple[int, ...]) -> list[Float[np.ndarray, " R"]]:
    """How much each rater's mask says about a fusion, for each structure: by the precision of their outlines.

    Who draws now here, now there, tells little about where the outline is; and of many such who share a bias, a
    fusion that shares it would be thought good.
    """
    raters, structures = shape
    if not isinstance(pooled, PooledObservers):
        return [np.ones(raters)] * structures
    return [1 / observers.spread**2 for observers in pooled.observers]


def _predicted(
    case: MultiRaterSample,
    number: int,
    structure: int,
    methods: Sequence[str],
    pools: dict[str, Pooled | None],
    steady: Float[np.ndarray, " R"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " M"]:
    """Mean Dice of each fusion of the others with the raters left out in turn, the steady counting more."""
    present = np.flatnonzero(case.rated[:, structure])
    left_out = rng.permutation(present)[:RATERS]
    one = replace(case, masks=case.masks[:, [structure]], rated=case.rated[:, [structure]], reference=None)
    scores = np.zeros((len(methods), len(left_out)))
    for column, rater in enumerate(left_out):
        rated = one.rated.copy()
        rated[rater] = False
        others = replace(one, rated=rated)
        for row, method in enumerate(methods):
            pooled = pools[method]
            skill = None if pooled is None else pooled.of(number, [structure])
            fused = fuse_case(others, method, skill).probability[0] > 0.5
            scores[row, column] = dice(fused, one.masks[rater, 0])
    return np.asarray(scores @ steady[left_out] / steady[left_out].sum())


def _choice(
    structure: str,
    methods: Sequence[str],
    scores: Float[np.ndarray, "N M"],
    pools: dict[str, Pooled | None],
    told_apart: bool,
    rng: np.random.Generator,
) -> Choice:
    if len(scores) < 2:
        why = "fewer than two cases were drawn by three raters or more, so nothing can be judged"
        if told_apart:
            why = f"outline over all cases: {why}, but some raters' outlines vary less in themselves"
            return Choice(structure, "outline", True, len(scores), {}, None, None, None, why)
        return Choice(structure, VOTE, False, len(scores), {}, None, None, None, f"vote: {why}")
    means = scores.mean(axis=0)
    best = int(means.argmax())
    gains = scores[:, best] - scores[:, methods.index(VOTE)]
    draws = np.empty(RESAMPLES)
    for number in range(RESAMPLES):  # one at a time: all of them would be 32 MB for each thousand cases
        draws[number] = gains[rng.integers(len(gains), size=len(gains))].mean()
    low, high = (float(bound) for bound in np.percentile(draws, [2.5, 97.5]))
    taken = methods[best] if low > 0 else VOTE
    pooled = pools[taken] is not None
    gain = float(gains.mean())
    told = f"{100 * gain:.1f} points of Dice ({100 * low:.1f} to {100 * high:.1f}, {len(scores)} cases)"
    name = methods[best] + (" over all cases" if pools[methods[best]] is not None else "")
    if taken != VOTE:
        why = f"{name}: predicts a left-out rater better than the vote of the others does, by {told}"
    elif methods[best] == VOTE:
        why = f"vote: no other fusion predicts a left-out rater better ({len(scores)} cases)"
    else:
        why = f"vote: the best other fusion, {name}, is better by {told}, which may be chance"
    known = {method: float(mean) for method, mean in zip(methods, means, strict=True)}
    same = taken == methods[best]
    bounds = (gain, low, high) if same else (0.0, 0.0, 0.0)
    return Choice(structure, taken, pooled, len(scores), known, *bounds, why)
