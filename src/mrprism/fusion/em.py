"""Expectation-maximisation for raters with confusion matrices, on a table of vote patterns.

One loop serves STAPLE (prior fixed, one image), its many-label form, Dawid-Skene (prior estimated) and both
pooled over a data set (each case its own prior, skill shared). Everything is computed from logarithms, so
300 raters or a probability of 1e-300 are no trouble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64
from numpy.typing import NDArray

from mrprism.core.patterns import ABSENT
from mrprism.fusion.by_pattern import rates

_TINY = 1e-300  # stands for a probability of zero under the logarithm


@dataclass(frozen=True)
class Estimate:
    """What EM found."""

    posterior: Float[np.ndarray, "P K"]  # P(true label | votes) for each pattern
    confusion: Float[np.ndarray, "R K K"]  # P(drawn | true), [true, drawn]; uniform where nothing is known
    prior: Float[np.ndarray, "G K"]  # P(true label) in each case
    log_likelihood: tuple[float, ...]  # after each E-step, with the log prior of the skill where there is one
    restarted: bool = False  # the labels had come out inverted


def expectation_maximisation(
    index: Int[np.ndarray, "P R"],
    counts: Int64[np.ndarray, " P"],
    size: int,
    *,
    prior: Float[np.ndarray, "G K"] | None = None,
    case: Int[np.ndarray, " P"] | None = None,
    pseudo: Float[np.ndarray, "K K"] | None = None,
    learn_prior: bool = False,
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> Estimate:
    """Estimate consensus and skill from votes.

    It starts from the vote shares and an M-step. E-step: the posterior of each pattern, given prior and
    confusion. M-step: each rater's confusion, given the posterior. Should the consensus come out against
    the votes (label inversion), it starts again from the plurality; should that invert too, the vote
    shares stand.

    Args:
        index: Each rater's label as 0..K-1; ABSENT (-1) where there is none, which adds no factor.
        counts: Pixels of each pattern.
        size: K.
        prior: P(true label) of each case. None: the mean vote share of the case.
        case: Which case a pattern's pixels belong to. None: all one.
        pseudo: Dirichlet pseudo-pixels added to every rater's counts, [true, drawn]; MAP instead of
            maximum likelihood.
        learn_prior: Estimate the prior of each case too, from the posterior.
        iterations: At most so many rounds.
        tolerance: Stop when no entry of a confusion moves by more.
    """
    case = np.zeros(len(counts), np.int64) if case is None else case
    given = np.stack([(index == k).sum(axis=1) for k in range(size)], axis=1).astype(np.float64)
    present = given.sum(axis=1, keepdims=True)
    voted = counts * (present[:, 0] > 0)
    share = np.divide(given, present, out=np.full(given.shape, 1 / size), where=present > 0)
    prior = _rows_to_one(_per_case(share * voted[:, None], case)) if prior is None else prior
    best = (given == given.max(axis=1, keepdims=True)).astype(np.float64)
    lead = best / best.sum(axis=1, keepdims=True)
    drew = [(index == k).astype(np.float64) for k in range(size)]
    restarted = False
    for start in (share, lead):
        estimate = _climb(drew, counts, case, prior, start, pseudo, learn_prior, iterations, tolerance)
        if not _inverted(estimate.posterior, share, voted):
            break
        restarted = True
    else:
        estimate = Estimate(share, _skill(drew, share, counts, pseudo), prior, ())
    confusion = estimate.confusion
    confusion[~(index != ABSENT).any(axis=0)] = 1 / size
    return Estimate(estimate.posterior, confusion, estimate.prior, estimate.log_likelihood, restarted)


def posterior_given(
    index: Int[np.ndarray, "P R"], confusion: Float[np.ndarray, "R K K"], prior: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "P K"]:
    """The E-step alone: P(true label | votes) of each pattern for raters of known skill."""
    drew = [(index == k).astype(np.float64) for k in range(len(prior))]
    case = np.zeros(len(index), np.int64)
    posterior, _ = _posterior(drew, confusion, case, prior[None])
    return posterior


def _climb(
    drew: list[NDArray[np.float64]],
    counts: NDArray[np.int64],
    case: NDArray[np.integer[Any]],
    prior: NDArray[np.float64],
    posterior: NDArray[np.float64],
    pseudo: NDArray[np.float64] | None,
    learn_prior: bool,
    iterations: int,
    tolerance: float,
) -> Estimate:
    confusion = _skill(drew, posterior, counts, pseudo)
    trace: list[float] = []
    for _ in range(iterations):
        if learn_prior:
            prior = _rows_to_one(_per_case(posterior * counts[:, None], case))
        posterior, evidence = _posterior(drew, confusion, case, prior)
        penalty = 0.0 if pseudo is None else float((pseudo * np.log(np.maximum(confusion, _TINY))).sum())
        trace.append(float(counts @ evidence) + penalty)
        before, confusion = confusion, _skill(drew, posterior, counts, pseudo)
        if np.abs(confusion - before).max() <= tolerance:
            break
    return Estimate(posterior, confusion, prior, tuple(trace))


def _posterior(
    drew: list[NDArray[np.float64]],
    confusion: NDArray[np.float64],
    case: NDArray[np.integer[Any]],
    prior: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    joint = np.log(np.maximum(prior, _TINY))[case]
    skill = np.log(np.maximum(confusion, _TINY))
    for k, votes in enumerate(drew):
        joint = joint + votes @ skill[:, :, k]
    top = joint.max(axis=1, keepdims=True)
    likely = np.exp(joint - top)
    total = likely.sum(axis=1, keepdims=True)
    return likely / total, (top + np.log(total))[:, 0]


def _skill(
    drew: list[NDArray[np.float64]],
    posterior: NDArray[np.float64],
    counts: NDArray[np.int64],
    pseudo: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    mass = (posterior * counts[:, None]).T
    expected = np.stack([(mass @ votes).T for votes in drew], axis=2)
    return rates(expected if pseudo is None else expected + pseudo)


def _per_case(mass: NDArray[np.float64], case: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    total = np.zeros((int(case.max(initial=0)) + 1, mass.shape[1]))
    np.add.at(total, case, mass)
    return total


def _rows_to_one(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    total = mass.sum(axis=1, keepdims=True)
    share = np.full(mass.shape, 1 / mass.shape[1])
    np.divide(mass, total, out=share, where=total > 0)
    return share


def _inverted(
    posterior: Float[np.ndarray, "P K"], share: Float[np.ndarray, "P K"], counts: Int64[np.ndarray, " P"]
) -> bool:
    """Whether a rater's vote agrees with the consensus less often than chance would have it."""
    total = counts.sum()
    if not total:
        return False
    agreement = (counts @ (posterior * share)).sum() / total
    chance = ((counts @ posterior / total) * (counts @ share / total)).sum()
    return bool(agreement < chance - 1e-9)
