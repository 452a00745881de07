"""The ranked probability score: worked by hand, and against SciPy's energy distance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, energy_distance

from mrprism.metrics import binomial_at_least, brier, ranked_probability_score
from mrprism.metrics.votes import score_of_votes


def test_by_hand() -> None:
    """Two pixels, three raters; 2 and 0 votes."""
    at_least = np.array([[0.9, 0.4], [0.5, 0.1], [0.2, 0.0]], np.float32)
    by_hand = (0.1**2 + 0.5**2 + 0.2**2 + 0.4**2 + 0.1**2 + 0) / 6
    assert ranked_probability_score(at_least, np.array([2, 0]), 3) == pytest.approx(by_hand)


def test_with_one_rater_it_is_the_brier_score() -> None:
    draw = np.random.default_rng(0)
    p, votes = draw.random((5, 6), np.float32), draw.integers(0, 2, (5, 6))
    assert ranked_probability_score(p[None], votes, 1) == pytest.approx(brier(p, votes, 1))


@pytest.mark.parametrize("raters", [2, 4, 7])
def test_as_scipy_has_it(raters: int) -> None:
    """Half the squared energy distance between the predicted distribution of votes and the one that came."""
    draw = np.random.default_rng(raters)
    chances = draw.dirichlet(np.ones(raters + 1), 20)
    votes = draw.integers(0, raters + 1, 20)
    at_least = 1 - chances.cumsum(axis=1)[:, :-1]
    numbers = np.arange(raters + 1)
    theirs = [
        energy_distance(numbers, [v], chance) ** 2 / 2 for v, chance in zip(votes, chances, strict=True)
    ]
    assert ranked_probability_score(at_least.T, votes, raters) == pytest.approx(np.mean(theirs) / raters)


def test_nothing_is_gained_by_another_answer_than_the_true_one() -> None:
    draw = np.random.default_rng(1)
    truth = np.array([0.8, 0.5, 0.1])
    votes = (draw.random((20_000, 1)) < truth).sum(axis=1)  # the same threshold for all: levels are nested
    votes = np.searchsorted(1 - truth, draw.random(20_000))
    score = {
        shift: ranked_probability_score(np.tile((truth + shift)[:, None], 20_000), votes, 3)
        for shift in (-0.1, 0, 0.1)
    }
    assert min(score, key=lambda shift: score[shift]) == 0


@pytest.mark.parametrize("raters", [1, 3, 8])
def test_independent_raters_are_binomial(raters: int) -> None:
    p = np.array([0.0, 1e-4, 0.3, 0.5, 0.97, 1.0], np.float32)
    theirs = np.stack([binom.sf(k - 1, raters, p.astype(np.float64)) for k in range(1, raters + 1)])
    np.testing.assert_allclose(binomial_at_least(p, raters), theirs, atol=1e-6)


def test_fewer_raters_are_asked_at_the_same_shares() -> None:
    """Of two raters one marks: more than 1/6 and not more than 1/2 or 5/6 of them."""
    at_least = np.array([[1.0], [0.0], [0.0]])
    assert ranked_probability_score(at_least, np.array([1]), 2) == 0
    assert ranked_probability_score(np.ones((3, 1)), np.array([2]), 2) == 0


def test_of_one_probability_the_binomial_is_scored() -> None:
    draw = np.random.default_rng(3)
    p, votes = draw.random((9, 4), np.float32), draw.integers(0, 6, (9, 4))
    expected = ranked_probability_score(binomial_at_least(p, 5), votes, 5)
    assert score_of_votes(p, None, votes, 5) == pytest.approx(expected)
