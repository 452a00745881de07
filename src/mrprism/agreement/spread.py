"""Is this model, or this reader, within the readers' spread? A test with a stated null.

The idea is Williams': compare how well the candidate agrees with the readers to how well the readers
agree among themselves. Per case, with D the Dice of two masks and R readers,

    d = mean over readers r of D(candidate, r)  −  mean over pairs r < s of D(r, s)

which is 0 on average for a candidate who draws as one more reader would.

Source of the comparison: Williams, "Comparing the joint agreement of several raters with another
rater", Biometrics 32, 1976.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from mrprism.agreement.bootstrap import Estimate, estimate, mean, not_computed, resample
from mrprism.agreement.candidate import CandidateMasks
from mrprism.agreement.case import dice, pairs
from mrprism.agreement.cases import Cases, patient
from mrprism.core.errors import InputError
from mrprism.core.patterns import count_patterns
from mrprism.metrics.claims import LEVEL, apart_from_zero, stated

AT_ONCE = 50  # permutations of thousands of patients that are drawn together
NULL_MARGIN = (
    "the candidate's mean Dice to the readers is lower than the readers' mean Dice among themselves by "
    "{margin:g} or more; rejected when the 95 % interval of the difference (whole patients resampled) "
    "lies above −{margin:g}"
)
NULL_EXCHANGE = (
    "the candidate is exchangeable with the readers; p is the share of random swaps, patient by patient, of "
    "the candidate with one of the readers (or with nobody) that give a difference as low as the one seen"
)


@dataclass(frozen=True)
class Spread:
    """The answer for one candidate and structure."""

    structure: str
    candidate: str
    to_readers: float  # mean Dice of the candidate to the readers
    among_readers: float  # mean Dice of the readers among themselves, on the same cases
    difference: Estimate  # of the two; NaN: no case has the candidate and two readers
    margin: float
    p: float  # exchangeability, one-sided: does the candidate agree less than a reader would?
    left_out: int  # cases without the candidate or without two readers
    trained_on: int = 0  # cases left out because the candidate learned from them
    chosen_on: int = 0  # ... because its weights were chosen on them
    unknown: tuple[str, ...] = ()  # masks of the candidate that are of no case the readers did
    p_margin: float = (
        math.nan
    )  # of a reader: that the difference is −margin, among all readers and structures

    def __repr__(self) -> str:
        return (
            f"Spread('{self.candidate}' on '{self.structure}': {self.verdict}, difference {self.difference})"
        )

    @property
    def verdict(self) -> str:
        """`within`: worse by the margin or more is ruled out; `outside`: it is certain; else `undecided`.

        With fewer patients than could show anything it is always `undecided`. Where every reader is tested,
        `p_margin`, which knows how many they are, must bear it out as well.
        """
        low, high = float(self.difference.low), float(self.difference.high)
        if (
            not stated(low, high, int(self.difference.patients), beside=-self.margin)
            or self.p_margin >= LEVEL
        ):
            return "undecided"
        return "within" if low > -self.margin else "outside"

    @property
    def null(self) -> str:
        """What `within` rejects, in words."""
        return NULL_MARGIN.format(margin=self.margin)


def within_spread(
    dataset: Cases,
    candidate: str | Mapping[str, Bool[np.ndarray, "C *space"]],
    *,
    margin: float = 0.05,
    seed: int = 0,
    resamples: int = 1000,
    name: str = "candidate",
) -> tuple[Spread, ...]:
    """Test whether a model or a reader is within the readers' spread, structure by structure.

    Null hypothesis: the candidate's mean Dice to the readers is lower than the readers' mean Dice among
    themselves by `margin` or more. It is rejected, and the verdict is `within`, when the 95 % bootstrap
    interval of the difference (patients resampled with replacement) lies above −margin; the verdict is
    `outside` when it lies below. Beside it stands the p-value of a permutation test whose null is that
    the candidate is exchangeable with the readers (candidate and one reader swapped patient by patient).

    Args:
        dataset: The readers' masks.
        candidate: The name of one of the data set's raters, who is then compared to the others; or a
            model's masks by case name. Cases the mapping lacks are left out and counted.
        margin: How much lower a mean Dice would still be called within the spread.
        seed: Of the resampling.
        resamples: How many bootstrap resamples and how many permutations.
        name: What a model is called in the answer.

    Raises:
        InputError: The rater is unknown or anonymous, a mask has another shape than the readers', or
            no case has the candidate and two readers.
    """
    if isinstance(candidate, str):
        if dataset.task.anonymous:
            raise InputError(
                f"'{candidate}' cannot be tested: the raters of {dataset.name} are anonymous, so a slot is "
                "not one person; only a model's masks can be compared to them"
            )
        if candidate not in dataset.task.raters:
            known = ", ".join(dataset.task.raters)
            raise InputError(f"unknown rater '{candidate}' in {dataset.name}; known: {known}")
        name = candidate
    raters, structures = len(dataset.task.raters), len(dataset.task.structures)
    place = dataset.task.raters.index(candidate) if isinstance(candidate, str) else raters
    size = raters if isinstance(candidate, str) else raters + 1
    scores = np.full((structures, len(dataset), size, size), np.nan)
    groups = []
    for index in range(len(dataset)):
        sample = dataset[index]
        groups.append(patient(sample))
        masks, rated = sample.masks, sample.rated
        if not isinstance(candidate, str):
            if sample.name not in candidate:
                continue
            drawn = candidate.on(sample) if isinstance(candidate, CandidateMasks) else candidate[sample.name]
            if drawn.shape != masks.shape[1:]:
                raise InputError(
                    f"{name} has a mask of shape {drawn.shape} for case '{sample.name}'; "
                    f"the readers' masks are {masks.shape[1:]}"
                )
            masks = np.concatenate([masks, drawn[None]])
            rated = np.concatenate([rated, np.ones((1, structures), bool)])
        for c in range(structures):
            if rated[:, c].sum() > 2 and rated[place, c]:
                joint = count_patterns(masks[:, c], rated[:, c]).pairs()
                both = rated[:, None, c] & rated[None, :, c]
                scores[c, index] = np.where(both, dice(joint.astype(float)), np.nan)
    answers = tuple(
        spread_test(
            scores[c], place, groups, margin=margin, seed=seed, resamples=resamples, structure=s, name=name
        )
        for c, s in enumerate(dataset.task.structures)
    )
    if isinstance(candidate, CandidateMasks):
        answers = tuple(replace(a, unknown=candidate.unknown) for a in answers)
    if isinstance(candidate, CandidateMasks) and candidate.seen:
        splits = list(candidate.seen.values())
        trained, chosen = splits.count("train"), splits.count("val")
        answers = tuple(
            replace(a, trained_on=trained, chosen_on=chosen, left_out=a.left_out - trained - chosen)
            for a in answers
        )
    if not any(answer.difference.cases for answer in answers):
        raise InputError(f"no case of {dataset.name} has {name} and at least two readers")
    return answers


def spread_test(
    scores: Float[np.ndarray, "case reader reader"],
    candidate: int,
    groups: Sequence[str],
    *,
    margin: float = 0.05,
    seed: int = 0,
    resamples: int = 1000,
    structure: str = "",
    name: str = "candidate",
) -> Spread:
    """The test of `within_spread`, on Dice of every two of the readers and the candidate.

    Args:
        scores: Symmetric; NaN where one of the two is absent. The diagonal is not read.
        candidate: Which row is the candidate.
        groups: The patient of each case.
        margin, seed, resamples: See `within_spread`.
        structure, name: Carried into the answer.
    """
    means = _means(np.where(np.eye(scores.shape[1], dtype=bool), np.nan, scores))
    return _test(*means, candidate, groups, margin, seed, resamples, structure, name)


def readers_tests(
    pair_scores: Float[np.ndarray, "case pair"],
    names: Sequence[str],
    groups: Sequence[str],
    *,
    margin: float,
    seed: int,
    resamples: int,
    structure: str,
    structures: int = 1,
) -> tuple[Spread, ...]:
    """The test of every reader against the others, from the Dice of every two (see `case.pairs`).

    So many verdicts are corrected for each other (`metrics.claims`): where all readers draw exactly at the margin, the
    chance that anybody is called within or outside is 5 %, over all readers and `structures`.
    """
    first, second = pairs(len(names))
    to_others, among = np.full((2, len(pair_scores), len(names)), np.nan)
    for case, scores in enumerate(pair_scores):  # one at a time: hundreds of readers make large squares
        square = np.full((1, len(names), len(names)), np.nan)
        square[0, first, second] = square[0, second, first] = scores
        (to_others[case],), (among[case],) = _means(square)
    beyond = _by_patient(
        to_others - among + margin, np.unique(np.asarray(groups, str), return_inverse=True)[1]
    )
    p = np.minimum(structures * apart_from_zero(beyond, seed=seed), 1.0)
    return tuple(
        replace(
            _test(to_others, among, reader, groups, margin, seed, resamples, structure, name),
            p_margin=float(p[reader]),
        )
        for reader, name in enumerate(names)
    )


def _by_patient(values: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Sums over the cases of each patient, (patient, k); NaN where nothing is known of any of them."""
    sums, counts = np.zeros((2, int(patient.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(sums, patient, np.nan_to_num(values))
    np.add.at(counts, patient, ~np.isnan(values))
    return np.where(counts > 0, sums, np.nan)


def _test(
    to_others: np.ndarray,
    among: np.ndarray,
    candidate: int,
    groups: Sequence[str],
    margin: float,
    seed: int,
    resamples: int,
    structure: str,
    name: str,
) -> Spread:
    differences = to_others - among  # (case, reader): each in the candidate's place
    usable = ~np.isnan(differences[:, candidate])
    kept = np.asarray(groups, str)[usable]
    if not usable.any():
        return Spread(structure, name, np.nan, np.nan, not_computed(()), margin, np.nan, len(usable))
    drawn = resample(kept.tolist(), resamples, seed)
    values = differences[usable]
    own = values[:, candidate]
    return Spread(
        structure=structure,
        candidate=name,
        to_readers=float(to_others[usable, candidate].mean()),
        among_readers=float(among[usable, candidate].mean()),
        difference=estimate(lambda weights: mean(own, weights), drawn, np.ones(len(own), bool)),
        margin=margin,
        p=_exchange(values, candidate, kept, seed, resamples),
        left_out=int((~usable).sum()),
    )


def _means(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean score of each reader to the others, and of those others among themselves; (case, reader)."""
    known = ~np.isnan(scores)
    own, own_count = np.where(known, scores, 0.0).sum(axis=2), known.sum(axis=2)
    total, count = own.sum(axis=1, keepdims=True), own_count.sum(axis=1, keepdims=True)
    rest, rest_count = total - 2 * own, count - 2 * own_count  # pairs without this reader, both ways round
    usable = (own_count > 0) & (rest_count > 0)
    to_others = np.where(usable, own / np.maximum(own_count, 1), np.nan)
    return to_others, np.where(usable, rest / np.maximum(rest_count, 1), np.nan)


def _exchange(
    differences: np.ndarray, candidate: int, groups: np.ndarray, seed: int, permutations: int
) -> float:
    names, index = np.unique(groups, return_inverse=True)
    of_patient = np.zeros((len(names), differences.shape[1]))
    np.add.at(of_patient, index, differences)  # NaN: this reader misses a case of the patient
    known = ~np.isnan(of_patient)
    places = np.argsort(~known, axis=1, kind="stable")  # those who can stand in come first
    generator, everyone, permuted = np.random.default_rng(seed), np.arange(len(names)), []
    for start in range(0, permutations, AT_ONCE):
        random = generator.random((min(AT_ONCE, permutations - start), len(names)))
        picked = places[everyone, (random * known.sum(axis=1)).astype(int)]
        permuted += of_patient[everyone, picked].sum(axis=1).tolist()
    seen = of_patient[:, candidate].sum()
    as_low = np.array(permuted) <= seen + 1e-12 * len(differences)
    return float((1 + as_low.sum()) / (1 + permutations))
