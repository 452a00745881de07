"""Fusions that count votes: soft vote, majority, weighted, best rater, and the vote over label maps.

Voting needs no model of the raters. What each would do where nobody agrees is declared: ties go to the
background unless asked otherwise, and are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from mrprism.core.errors import InputError
from mrprism.core.patterns import ABSENT, PatternTable, count_patterns, paint
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import (
    MARGIN,
    PatternFusion,
    confusion_counts,
    fuse_by_pattern,
    pairwise_dice,
    rates,
    vote_fraction,
)

Tie = Literal["background", "foreground"]


def soft_vote(masks: Masks, rated: Rated, *, margin: int | None = MARGIN) -> Prediction:
    """The share of raters who marked each pixel, among those who rated.

    ``ties`` are the pixels where the vote is even. ``confusion`` is each rater against this share, in the
    region of interest (box of the union grown by ``margin`` pixels; None: the whole field).

    Source: Kittler, Hatef, Duin, Matas, "On combining classifiers", IEEE TPAMI 20(3), 1998,
    doi:10.1109/34.667881 (the sum rule).
    """
    return fuse_by_pattern(masks, rated, soft_vote_rule, margin)


def majority(
    masks: Masks, rated: Rated, *, ties: Tie = "background", margin: int | None = MARGIN
) -> Prediction:
    """Inside where more than half of those who rated say so; the probability is 0 or 1.

    Votes are compared as integers. A tie goes where ``ties`` says; tied pixels stand in the result's
    ``ties``.

    Source: Lam, Suen, "Application of majority voting to pattern recognition", IEEE Trans. SMC A 27(5),
    1997, doi:10.1109/3468.618255.
    """
    return fuse_by_pattern(masks, rated, lambda table: majority_rule(table, ties=ties), margin)


def weighted(
    masks: Masks,
    rated: Rated,
    *,
    weights: Sequence[float] | Float[np.ndarray, " R"] | None = None,
    power: float = 1.0,
    margin: int | None = MARGIN,
) -> Prediction:
    """The share of raters who marked each pixel, each rater counting by weight.

    Args:
        weights: One non-negative weight per rater. None: the rater's mean Dice with the others, raised
            to ``power``, for each structure by itself.
        power: How much a rater who agrees more counts more (the paper's gain).
        margin: Pixels around all marks in which the confusion is measured; None: the whole field.

    Raises:
        InputError: Weights that are negative, not finite, too few or too many, or all zero for those
            who rated.

    Source: Artaechevarria, Munoz-Barrutia, Ortiz-de-Solorzano, "Combination strategies in multi-atlas
    image segmentation: application to brain MR data", IEEE TMI 28(8), 2009 (global weights; there
    the similarity of images, here of masks).
    """
    return fuse_by_pattern(
        masks, rated, lambda table: weighted_rule(table, weights=weights, power=power), margin
    )


def best_rater(masks: Masks, rated: Rated, *, margin: int | None = MARGIN) -> Prediction:
    """The mask of the rater who agrees most with the others (highest mean Dice), each structure by itself.

    Where several raters are equally good (two raters always are) their masks are averaged, so that the
    order of raters does not matter.

    Source: Rohlfing, Brandt, Menzel, Maurer, "Evaluation of atlas selection strategies for atlas-based
    image segmentation", NeuroImage 21(4), 2004, doi:10.1016/j.neuroimage.2003.11.010 (selection of the
    single best; there by image similarity, here by agreement).
    """
    return fuse_by_pattern(masks, rated, best_rater_rule, margin)


def soft_vote_rule(table: PatternTable) -> PatternFusion:
    share = vote_fraction(table)
    return PatternFusion(share, rates(confusion_counts(table, share)), _even(table))


def majority_rule(table: PatternTable, *, ties: Tie = "background") -> PatternFusion:
    if ties not in ("background", "foreground"):
        raise InputError(f"ties go to 'background' or 'foreground', not '{ties}'")
    votes, present = table.votes()[:, 1], table.present()
    even = _even(table)
    inside = (2 * votes > present) | (even if ties == "foreground" else False)
    probability = inside.astype(np.float64)
    return PatternFusion(probability, rates(confusion_counts(table, probability)), even)


def weighted_rule(
    table: PatternTable,
    *,
    weights: Sequence[float] | Float[np.ndarray, " R"] | None = None,
    power: float = 1.0,
) -> PatternFusion:
    if weights is None:
        weight = mean_agreement(table) ** power
        if not (weight > 0).any():  # nobody overlaps with anybody: no reason to prefer any
            weight = np.ones(table.raters)
    else:
        weight = np.asarray(weights, np.float64)
        if weight.shape != (table.raters,) or not np.isfinite(weight).all() or (weight < 0).any():
            raise InputError(f"weights must be {table.raters} finite numbers of 0 or more, not {weights}")
    voted = (table.patterns == 1) @ weight
    present = (table.patterns != ABSENT) @ weight
    if (present[table.counts > 0] <= 0).any():
        raise InputError("the raters who drew this have weight 0, all of them")
    share = np.divide(voted, present, out=np.zeros(len(voted)), where=present > 0)
    share = np.minimum(share, 1.0)
    return PatternFusion(share, rates(confusion_counts(table, share)), np.isclose(share, 0.5, atol=1e-12))


def best_rater_rule(table: PatternTable) -> PatternFusion:
    agreement = mean_agreement(table)
    best = np.isclose(agreement, agreement.max(), rtol=0, atol=1e-12) & _there(table)
    chosen = table.patterns[:, best]
    share = (chosen == 1).sum(axis=1) / np.maximum((chosen != ABSENT).sum(axis=1), 1)
    return PatternFusion(share, rates(confusion_counts(table, share)))


def mean_agreement(table: PatternTable) -> Float[np.ndarray, " R"]:
    """Mean Dice of each rater with the others; 1 for a single rater, 0 for absent ones."""
    dice = pairwise_dice(table)
    np.fill_diagonal(dice, np.nan)
    met = ~np.isnan(dice)
    total = np.where(met, dice, 0).sum(axis=1)
    mean = np.divide(total, met.sum(axis=1), out=np.ones(len(dice)), where=met.any(axis=1))
    return np.where(_there(table), mean, 0.0)


def _even(table: PatternTable) -> Bool[np.ndarray, " P"]:
    present = table.present()
    return np.asarray((2 * table.votes()[:, 1] == present) & (present > 0))


def _there(table: PatternTable) -> Bool[np.ndarray, " R"]:
    return np.asarray((table.patterns != ABSENT).any(axis=0))


@dataclass(frozen=True)
class LabelVote:
    """The consensus of label maps of exclusive labels."""

    labels: NDArray[Any]  # (*space) the label most raters gave, in the dtype given
    ties: Bool[np.ndarray, "*space"]  # where two labels or more had the most votes


def vote_labels(labels: Any, rated: Bool[np.ndarray, " R"] | None = None, *, undecided: int = 0) -> LabelVote:
    """The label most raters gave at each pixel; where two labels lead equally, ``undecided``.

    Args:
        labels: (R, *space) whole numbers; negative where a rater is absent at the pixel.
        rated: False: the rater is absent altogether and not read.
        undecided: The label of tied pixels; background by default, never a new label by surprise.
    """
    table = count_patterns(labels, rated)
    votes = table.votes()
    lead = votes.max(axis=1, initial=0)
    tied = (votes == lead[:, None]).sum(axis=1) > 1
    winner = np.asarray(table.labels)[votes.argmax(axis=1)]
    winner = np.where(tied, undecided, winner).astype(np.asarray(labels[0][..., :0]).dtype)
    return LabelVote(paint(table, labels, rated, winner), paint(table, labels, rated, tied))
