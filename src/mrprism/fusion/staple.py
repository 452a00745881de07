"""STAPLE: the consensus and each rater's sensitivity and specificity, from masks alone.

Where it departs from ITK's filter, on purpose (whole-field results agree to 1e-6):

- The prior is the mean vote in the region of interest, not in the whole field: far background makes
  every rater look specific and lets the consensus grow. ``margin=None`` takes the whole field.
- A rater who did not rate a structure is left out of it (STAPLER) instead of counting as empty.
- Nothing drawn gives an empty consensus, not NaN; an inverted solution is noticed and left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from mrprism.core.errors import InputError
from mrprism.core.patterns import PatternTable, paint
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import MARGIN, PatternFusion, each_structure, fuse_by_pattern, survey_region
from mrprism.fusion.em import Estimate, expectation_maximisation, posterior_given
from mrprism.fusion.smoothing import mean_field

_MOST_CONFUSION = 1 << 27  # entries of all confusion matrices together: 1 GB


def staple(
    masks: Masks,
    rated: Rated,
    *,
    margin: int | None = MARGIN,
    prior: float | None = None,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    skill: Float[np.ndarray, "R C 2 2"] | None = None,
    smoothing: float = 0.0,
    exclusive: bool = False,
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> Prediction:
    """Estimate the consensus and each rater's skill, each structure of the image by itself.

    E-step: the consensus, given every rater's sensitivity and specificity. M-step: those two, given the
    consensus. The prior stays fixed.

    Args:
        masks: What stands where ``rated`` is False is not read.
        margin: The region of interest is the box around all marks grown by this many pixels, cut at
            the border; outside it the consensus is empty. None: the whole field, as ITK does.
        prior: P(inside) of a pixel before any vote. None: the mean vote in the region of interest.
        skill_prior: (right, wrong) pseudo-pixels added to each rater's counts, a Beta prior on
            sensitivity and specificity; they count like pixels of the image, so think in its areas.
        skill: Known confusions P(drawn | true), for instance pooled over a data set; nothing is
            estimated then, and absent raters' entries are not used.
        smoothing: Strength of a Markov random field (Ising) prior between face neighbours, solved by
            mean field after EM; 0: none. Skill is not estimated again.
        exclusive: The structures exclude each other and are estimated together with the background, one
            K x K matrix per rater (`staple_labels`, which also returns it). A rater counts who did all of
            them; `prior`, `skill` and `smoothing` are for structures by themselves.
        iterations: At most so many rounds of EM.
        tolerance: Stop when no rate moves by more.

    Returns:
        ``probability``, and ``confusion`` with sensitivity at [..., 1, 1] and specificity at [..., 0, 0];
        0.5 everywhere for an absent rater, of whom nothing is known.

    Raises:
        InputError: A structure was drawn by no rater.

    Source: Warfield, Zou, Wells, "Simultaneous truth and performance level estimation (STAPLE)", IEEE
    TMI 23(7), 2004, doi:10.1109/TMI.2004.828354. Missing raters: Landman, Wan, Bogovic, Prince,
    "Simultaneous truth and performance level estimation with incomplete, over-complete, and ancillary
    data", SPIE Medical Imaging 2010 (PMC2917119). Inversion: Landman, Asman, Scoggins, Bogovic, Xing,
    Prince, "Robust statistical fusion of image labels", IEEE TMI 31(2), 2012,
    doi:10.1109/TMI.2011.2172215, figure 1.
    """
    if exclusive:
        return _exclusive(
            masks,
            rated,
            margin=margin,
            skill_prior=skill_prior,
            iterations=iterations,
            tolerance=tolerance,
        )
    if skill is None:

        def rule(table: PatternTable) -> PatternFusion:
            return staple_rule(
                table, prior=prior, skill_prior=skill_prior, iterations=iterations, tolerance=tolerance
            )

        fused = fuse_by_pattern(masks, rated, rule, margin)
    else:
        known = None if prior is None else np.full(masks.shape[1], prior)
        fused = fuse_with_skill(masks, rated, skill, known, margin=margin)
    if smoothing:
        fused = _smooth(fused, masks, rated, smoothing, margin)
    return fused


def _exclusive(
    masks: Masks,
    rated: Rated,
    *,
    margin: int | None,
    skill_prior: tuple[float, float],
    iterations: int,
    tolerance: float,
) -> Prediction:
    overlaps = np.flatnonzero((masks.sum(1) > 1).reshape(len(masks), -1).any(1))
    if overlaps.size:
        raise InputError(f"rater {overlaps[0]} marked a pixel for two structures, so they are not exclusive")
    structures = masks.shape[1]
    numbers = np.arange(1, structures + 1).reshape(1, -1, *[1] * (masks.ndim - 2))
    labels = (masks * numbers).sum(1).astype(np.int32)
    fused = staple_labels(
        labels,
        np.asarray(rated.all(1)),
        margin=margin,
        skill_prior=skill_prior,
        iterations=iterations,
        tolerance=tolerance,
    )
    assert fused.posterior is not None
    probability = np.zeros(masks.shape[1:], np.float32)
    for index, label in enumerate(fused.classes):
        if label:
            probability[label - 1] = fused.posterior[index]
    return Prediction(probability=probability)


def staple_rule(
    table: PatternTable,
    *,
    prior: float | None = None,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> PatternFusion:
    """STAPLE on a table of masks: what ``staple`` does for one structure in its region of interest."""
    estimate = staple_table(
        table, prior=prior, skill_prior=skill_prior, iterations=iterations, tolerance=tolerance
    )
    return PatternFusion(estimate.posterior[:, 1], estimate.confusion)


def staple_table(
    table: PatternTable,
    *,
    prior: float | None = None,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> Estimate:
    """EM on a table of masks or label maps, with its trace; priors of ``staple`` are for masks alone."""
    if prior is not None and not 0 < prior < 1:
        raise InputError(f"prior must lie between 0 and 1, not {prior}")
    return expectation_maximisation(
        table.indices(),
        table.counts,
        len(table.labels),
        prior=None if prior is None else np.array([[1 - prior, prior]]),
        pseudo=pseudo_pixels(skill_prior, len(table.labels)),
        iterations=iterations,
        tolerance=tolerance,
    )


def pseudo_pixels(skill_prior: tuple[float, float], size: int) -> Float[np.ndarray, "K K"] | None:
    """Pseudo-pixels (right, wrong) as a matrix [true, drawn]; None for no prior."""
    right, wrong = skill_prior
    if right < 0 or wrong < 0:
        raise InputError(f"pseudo-pixels cannot be negative: {skill_prior}")
    if not right and not wrong:
        return None
    return np.where(np.eye(size, dtype=bool), float(right), float(wrong))


def fuse_with_skill(
    masks: Masks,
    rated: Rated,
    skill: Float[np.ndarray, "R C 2 2"],
    prior: Float[np.ndarray, " C"] | None = None,
    *,
    margin: int | None = MARGIN,
) -> Prediction:
    """The E-step of STAPLE for raters whose skill is known, for instance pooled over a data set.

    Args:
        skill: P(drawn | true) of each rater and structure; what absent raters have there is not used.
        prior: P(inside) of each structure in its region of interest. None: the mean vote there.
        margin: As for ``staple``.
    """
    probability = np.zeros(masks.shape[1:], np.float32)
    for c, drawn, present in each_structure(masks, rated):
        table, region = survey_region(drawn, present, margin)
        if region is None:
            continue
        inside = mean_vote(table) if prior is None else float(prior[c])
        posterior = posterior_given(table.indices(), skill[:, c], np.array([1 - inside, inside]))
        paint(table, drawn, present, posterior[:, 1].astype(np.float32), probability[c], region=region)
    return Prediction(probability=probability, confusion=skill)


def mean_vote(table: PatternTable) -> float:
    """The mean share of votes over the pixels anyone rated: STAPLE's prior."""
    present = table.present()
    share = table.votes()[:, 1] / np.maximum(present, 1)
    voted = table.counts * (present > 0)
    return float(voted @ share / max(voted.sum(), 1))


def _smooth(fused: Prediction, masks: Masks, rated: Rated, strength: float, margin: int | None) -> Prediction:
    probability = np.zeros_like(fused.probability)
    for c, drawn, present in each_structure(masks, rated):
        _, region = survey_region(drawn, present, margin)
        if region is not None:
            probability[c][region] = mean_field(fused.probability[c][region], strength)
    return Prediction(probability=probability, confusion=fused.confusion)


@dataclass(frozen=True)
class LabelFusion:
    """The consensus of label maps whose labels exclude each other."""

    labels: NDArray[Any]  # (*space) most probable label, in the dtype given; a tie goes to the lowest
    classes: tuple[int, ...]  # the K label values, ascending, 0 among them
    confusion: Float[np.ndarray, "R K K"]  # P(drawn | true), indices into ``classes``
    posterior: Float[np.ndarray, "K *space"] | None  # P(true label | votes)
    ties: int  # pixels where two labels were equally probable
    estimate: Estimate  # EM's own result, by pattern


def staple_labels(
    labels: Any,
    rated: Bool[np.ndarray, " R"] | None = None,
    *,
    margin: int | None = MARGIN,
    prior: Float[np.ndarray, " K"] | None = None,
    skill_prior: tuple[float, float] = (0.0, 0.0),
    posterior: bool = True,
    iterations: int = 10_000,
    tolerance: float = 1e-7,
) -> LabelFusion:
    """STAPLE for K exclusive labels: one K x K confusion matrix per rater.

    With two labels it is ``staple``. Outside the region of interest the consensus is background.

    Args:
        labels: (R, *space) whole numbers, 0 is background; negative where a rater is absent at the pixel.
            An array, memory map or sequence of array proxies.
        rated: False: the rater is absent altogether.
        margin: The region of interest, as for ``staple``; None: the whole field.
        prior: P(label) for each of the labels in play, ascending. None: the mean vote shares there.
        skill_prior: (right, wrong) pseudo-pixels per entry of each confusion matrix.
        posterior: Also paint P(label) at each pixel, float32; costs K times the memory of the image.

    Raises:
        InputError: No rater, labels that are no whole numbers, or too many labels for their matrices.

    Source: Rohlfing, Russakoff, Maurer, "Performance-based classifier combination in atlas-based image
    segmentation using expectation-maximization parameter estimation", IEEE TMI 23(8), 2004,
    doi:10.1109/TMI.2004.830803; Warfield et al. 2004, section on multi-category labels.
    """
    present = np.ones(len(labels), bool) if rated is None else np.asarray(rated, bool)
    table, region = survey_region(labels, present, margin)
    size = len(table.labels)
    if table.raters * size**2 > _MOST_CONFUSION:
        raise InputError(f"{size} labels and {table.raters} raters need too large confusion matrices")
    if prior is not None and (len(prior) != size or not np.isclose(np.sum(prior), 1)):
        raise InputError(
            f"prior must give {size} probabilities that sum to 1, one for each of {table.labels}"
        )
    estimate = expectation_maximisation(
        table.indices(),
        table.counts,
        size,
        prior=None if prior is None else np.asarray(prior, np.float64)[None],
        pseudo=pseudo_pixels(skill_prior, size),
        iterations=iterations,
        tolerance=tolerance,
    )
    chance = estimate.posterior
    near = np.isclose(chance, chance.max(axis=1, keepdims=True, initial=0), rtol=0, atol=1e-9)
    winner = np.asarray(table.labels)[near.argmax(axis=1)].astype(np.asarray(labels[0][..., :0]).dtype)
    space = tuple(labels[0].shape)
    fused = np.zeros(space, winner.dtype)
    painted = np.zeros((size, *space), np.float32) if posterior else None
    if painted is not None:
        painted[0] = 1
    if region is not None:
        paint(table, labels, present, winner, fused, region=region)
        if painted is not None:
            paint(table, labels, present, chance.astype(np.float32), painted, region=region)
    ties = int(table.counts[near.sum(axis=1) > 1].sum())
    return LabelFusion(fused, table.labels, estimate.confusion, painted, ties, estimate)
