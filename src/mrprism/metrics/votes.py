"""Whether the predicted number of votes means what it says: "how many of R mark this pixel" is an ordered answer."""

import numpy as np
from jaxtyping import Float, Integer

from mrprism.metrics.pieces import pieces

NEVER = 1e-12  # no probability is nearer to 0 or 1, so that no division by zero comes


def ranked_probability_score(
    at_least: Float[np.ndarray, "K *space"], votes: Integer[np.ndarray, "*space"], raters: int
) -> float:
    """Mean over pixels and levels of (P_k - [votes ≥ k])², k = 1..R: the Brier score of an ordered answer.

    In [0, 1], lower is better; with one rater it is the Brier score. Proper: nothing is gained by saying what one
    does not believe, and a vote beside the one that came costs less than one far away.

    Args:
        at_least: Of level k the probability that more than (k - 1/2) / K of the raters mark the pixel: with K = R
            that at least k of them do. Where fewer rated a case, the same shares are asked of them.

    Source: Epstein, "A scoring system for probability forecasts of ranked categories", Journal of Applied
    Meteorology 8(6), 1969; of votes: arXiv:2605.02437.
    """
    levels = len(at_least)
    flat, voted = at_least.reshape(levels, -1), votes.reshape(-1)
    total = 0.0
    for part in pieces(flat.shape[1]):
        count = voted[part]
        for k in range(1, levels + 1):
            there = count > (2 * k - 1) * raters // (2 * levels)  # more than (k - 1/2) / levels of them
            off = np.subtract(flat[k - 1, part], there, dtype=np.float64)
            total += float(off @ off)
    return total / (levels * flat.shape[1])


def binomial_at_least(probability: Float[np.ndarray, "*space"], raters: int) -> Float[np.ndarray, "R *space"]:
    """P(at least k of R), k = 1..R, if each rater marked a pixel by themselves with this probability.

    What a method that gives one number a pixel says of the votes, taken at its word.
    """
    p = np.clip(probability.astype(np.float64), NEVER, 1 - NEVER)
    odds = p / (1 - p)
    exactly = np.ones_like(p)
    for _ in range(raters):  # a power takes longer
        exactly *= 1 - p
    below = exactly.copy()
    found = np.empty((raters, *p.shape), np.float32)
    for k in range(1, raters + 1):
        found[k - 1] = np.clip(1 - below, 0, 1)
        exactly *= odds
        exactly *= (raters - k + 1) / k
        below += exactly
    return found


def score_of_votes(
    probability: Float[np.ndarray, "*space"],
    at_least: Float[np.ndarray, "K *space"] | None,
    votes: Integer[np.ndarray, "*space"],
    raters: int,
) -> float:
    """`ranked_probability_score` of what a method says of votes; of one that says nothing, as if raters were independent."""
    if at_least is not None:
        return ranked_probability_score(at_least, votes, raters)
    flat, voted = np.asarray(probability).reshape(-1), votes.reshape(-1)
    total = 0.0
    for part in pieces(flat.size):
        some = binomial_at_least(flat[part], raters)
        total += ranked_probability_score(some, voted[part], raters) * some.shape[1]
    return total / flat.size
