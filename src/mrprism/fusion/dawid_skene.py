"""Dawid and Skene's model: confusion matrices and prevalence estimated together."""

from __future__ import annotations

import numpy as np

from mrprism.core.patterns import PatternTable
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import MARGIN, PatternFusion, fuse_by_pattern
from mrprism.fusion.em import expectation_maximisation
from mrprism.fusion.staple import pseudo_pixels


def dawid_skene(
    masks: Masks,
    rated: Rated,
    *,
    margin: int | None = MARGIN,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> Prediction:
    """Estimate consensus, skill and prevalence by EM.

    Unlike STAPLE, how much of the region of interest lies inside is estimated too, instead of fixed at the
    mean vote. For skill shared by all cases of a data set see ``fuse_cases(..., pooled=True)``.

    Args:
        margin: Pixels around all marks that make the region of interest; None: the whole field.
        skill_prior: (right, wrong) pseudo-pixels added to each rater's counts, a
            Dirichlet prior; they count like pixels of the image.
        iterations: At most so many rounds of EM.
        tolerance: Stop when no rate moves by more.

    Returns:
        ``probability``, and ``confusion`` P(drawn | true); 0.5 everywhere for an absent rater.

    Raises:
        InputError: A structure was drawn by no rater.

    Source: Dawid, Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm",
    Applied Statistics 28(1), 1979, doi:10.2307/2346806.
    """

    def rule(table: PatternTable) -> PatternFusion:
        return dawid_skene_rule(table, skill_prior=skill_prior, iterations=iterations, tolerance=tolerance)

    return fuse_by_pattern(masks, rated, rule, margin)


def dawid_skene_rule(
    table: PatternTable,
    *,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> PatternFusion:
    """Dawid-Skene on a table of masks."""
    estimate = expectation_maximisation(
        table.indices(),
        table.counts,
        2,
        pseudo=pseudo_pixels(skill_prior, 2),
        learn_prior=True,
        iterations=iterations,
        tolerance=tolerance,
    )
    return PatternFusion(np.asarray(estimate.posterior[:, 1]), estimate.confusion)
