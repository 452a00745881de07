"""SIMPLE: vote, leave out who strays, vote again."""

from __future__ import annotations

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.patterns import ABSENT, PatternTable
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import (
    MARGIN,
    PatternFusion,
    confusion_counts,
    dice_to,
    fuse_by_pattern,
    rates,
    vote_fraction,
)


def simple(
    masks: Masks,
    rated: Rated,
    *,
    alpha: float = 2.0,
    keep: int = 3,
    iterations: int = 20,
    margin: int | None = MARGIN,
) -> Prediction:
    """Vote with weights by performance, leaving out raters who fall far below the others.

    The consensus starts as the majority of all. In each round a rater's performance is the Dice with the
    consensus; raters below mean minus ``alpha`` standard deviations of those still in are left out for
    good, and the rest vote again with their performance as weight, until nothing changes.

    Args:
        alpha: How many standard deviations below the mean a rater may fall. Among a handful of raters
            somebody is always one deviation below, so 2 means a rater who really strays.
        keep: Never fewer raters than this (or than there are).
        iterations: At most so many rounds.
        margin: Pixels around all marks in which the confusion is measured; None: the whole field.

    Returns:
        ``probability``: the weighted share of votes of the raters left; above 0.5 is inside. ``ties``:
        where that share is one half. ``confusion``: every rater, left out or not, against it.

    Source: Langerak, van der Heide, Kotte, Viergever, van Vulpen, Pluim, "Label fusion in atlas-based
    segmentation using a selective and iterative method for performance level estimation (SIMPLE)", IEEE
    TMI 29(12), 2010, doi:10.1109/TMI.2010.2057442.
    """
    return fuse_by_pattern(
        masks, rated, lambda table: simple_rule(table, alpha=alpha, keep=keep, iterations=iterations), margin
    )


def simple_rule(
    table: PatternTable, *, alpha: float = 2.0, keep: int = 3, iterations: int = 20
) -> PatternFusion:
    """SIMPLE on a table of masks."""
    if alpha < 0 or keep < 1:
        raise InputError(f"alpha must be 0 or more and keep at least 1, not {alpha} and {keep}")
    drew = (table.patterns == 1).astype(np.float64)
    did = (table.patterns != ABSENT).astype(np.float64)
    kept = did.any(axis=0)
    share = vote_fraction(table)
    for _ in range(iterations):
        consensus = (share > 0.5 + 1e-12).astype(np.float64)
        performance = np.where(did.any(axis=0), dice_to(table, consensus), 0.0)
        inside = performance[kept]
        stays = kept & (performance >= inside.mean() - alpha * inside.std() - 1e-12)
        if stays.sum() < keep:
            stays = kept
        weight = np.where(stays, performance, 0.0)
        if not weight.any():
            weight = stays.astype(np.float64)
        reach = did @ weight
        update = np.divide(drew @ weight, reach, out=share.copy(), where=reach > 0)
        settled = bool((stays == kept).all()) and np.allclose(update, share, rtol=0, atol=1e-9)
        kept, share = stays, np.minimum(update, 1.0)
        if settled:
            break
    even = np.isclose(share, 0.5, rtol=0, atol=1e-12)
    return PatternFusion(share, rates(confusion_counts(table, share)), even)
