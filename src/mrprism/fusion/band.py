"""Votes weighed by how often each rater is right where raters differ."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mrprism.core.patterns import ABSENT, PatternTable
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import MARGIN, PatternFusion, confusion_counts, fuse_by_pattern, rates

ROUNDS = 50  # at most
USUAL = 0.75  # how often a rater is right where raters differ
BEFORE = 0.01  # rates are counted as if this share of what is disputed had shown what is usual
FLOOR = 0.55  # nobody is taken for worse, so that no vote is turned round
CLEAREST = 0.98  # nor for better


def band(
    masks: Masks,
    rated: Rated,
    *,
    weights: Float[np.ndarray, "R C"] | None = None,
    margin: int | None = MARGIN,
) -> Prediction:
    """The vote in which each rater weighs the log-odds of being right where raters differ.

    Going round until it stands still: who is right, given the weights; the weights, given that. A pixel counts
    by how divided the raters are, v (1 - v) with v the share of votes; the weight is the mean of the log-odds
    of sensitivity and specificity there. It is what MrPrism counts in training, without any network.

    Args:
        weights: Known weights, for instance counted over a data set; those of absent raters are not used.
        margin: Pixels around all marks in which the confusion is measured; None: the whole field.

    Source: docs/concepts/mrprism.md; counting after Dawid, Skene, "Maximum likelihood estimation of observer
    error-rates using the EM algorithm", Applied Statistics 28(1), 1979.
    """
    if weights is None:
        return fuse_by_pattern(masks, rated, band_rule, margin)
    # `fuse_by_pattern` asks only for structures that somebody marked
    marked = [c for c in range(masks.shape[1]) if masks[rated[:, c], c].any()]
    structures = iter(weights[:, marked].T)
    return fuse_by_pattern(masks, rated, lambda table: fused_with(table, next(structures)), margin)


def band_rule(table: PatternTable) -> PatternFusion:
    """The rule on the table of one structure."""
    return fused_with(table, band_weights(table))


def band_weights(table: PatternTable) -> Float[np.ndarray, " R"]:
    """Each rater's weight, counted on a table of one image or of many together."""
    drew, did = (table.patterns == 1).astype(np.float64), (table.patterns != ABSENT).astype(np.float64)
    share = drew.sum(axis=1) / np.maximum(did.sum(axis=1), 1)
    divided = table.counts * share * (1 - share)
    weights = np.ones(table.raters)
    before = BEFORE * divided.sum()
    if not before:
        return weights
    for _ in range(ROUNDS):
        inside = (_log_odds(drew, did, weights) > 0).astype(np.float64)
        hits = np.stack([(did - drew).T @ (divided * (1 - inside)), drew.T @ (divided * inside)])
        chances = np.stack([did.T @ (divided * (1 - inside)), did.T @ (divided * inside)])
        right = ((hits + before * USUAL) / (chances + before)).clip(1 - CLEAREST, CLEAREST)
        found = np.log(right / (1 - right)).mean(axis=0).clip(min=np.log(FLOOR / (1 - FLOOR)))
        if np.abs(found - weights).max(initial=0) < 1e-6:
            break
        weights = found
    return weights


def fused_with(table: PatternTable, weights: Float[np.ndarray, " R"]) -> PatternFusion:
    """The weighted vote; where all agree it is certain."""
    from scipy.special import expit

    drew, did = (table.patterns == 1).astype(np.float64), (table.patterns != ABSENT).astype(np.float64)
    odds = _log_odds(drew, did, weights)
    chance = np.where(np.abs(odds) < 1e-9, 0.5, expit(odds))  # an even vote, but for rounding
    votes, present = drew.sum(axis=1), did.sum(axis=1)
    chance[votes == present] = 1.0
    chance[votes == 0] = 0.0
    return PatternFusion(chance, rates(confusion_counts(table, chance)), (chance == 0.5) & (present > 0))


def _log_odds(
    drew: Float[np.ndarray, "P R"], did: Float[np.ndarray, "P R"], weights: Float[np.ndarray, " R"]
) -> NDArray[np.float64]:
    return np.asarray((2 * drew - did) @ weights)
