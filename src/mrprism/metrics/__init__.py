"""Formulas on the arrays of one case and one structure, and the table that names them.

Each formula is a pure function of NumPy arrays and knows nothing of files, batches or training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mrprism.core.registry import Registry
from mrprism.metrics.bootstrap import Difference, paired_difference
from mrprism.metrics.calibration import Reliability, brier, contains, ece, ece_in_region, reliability
from mrprism.metrics.distance import hd95
from mrprism.metrics.diversity import (
    coverage,
    dice_match,
    dice_max,
    diversity_of_raters,
    generalised_energy_distance,
    hm_iou,
    variance_correlation,
    volume_crps,
)
from mrprism.metrics.overlap import (
    QUBIQ_THRESHOLDS,
    THRESHOLDS,
    Cuts,
    VotedCuts,
    above,
    dice,
    iou,
    iou_at_half,
    mean_dice,
    qubiq_score,
    soft_dice,
    voted_above,
)
from mrprism.metrics.votes import binomial_at_least, ranked_probability_score, score_of_votes

__all__ = [
    "METRICS",
    "QUBIQ_THRESHOLDS",
    "THRESHOLDS",
    "Difference",
    "Metric",
    "Reliability",
    "above",
    "binomial_at_least",
    "brier",
    "contains",
    "coverage",
    "dice",
    "dice_match",
    "dice_max",
    "diversity_of_raters",
    "ece",
    "ece_in_region",
    "generalised_energy_distance",
    "hd95",
    "hm_iou",
    "iou",
    "paired_difference",
    "qubiq_score",
    "ranked_probability_score",
    "reliability",
    "soft_dice",
    "variance_correlation",
    "volume_crps",
    "voted_above",
]


@dataclass(frozen=True)
class Metric:
    """A formula with what a table must know of it.

    `function` is called for one structure of one case with arguments that follow from `needs`:

    - "probability": (probability, votes, raters, spacing_mm), the target being a count of votes;
    - "calibrated": as "probability", with the probability read as a share of votes;
    - "votes": (probability, what it says of the number of votes or None, votes, raters);
    - "bounds": (inner outline, outer outline, the masks of those who did the structure);
    - "draws": (draws, masks, sampled), the first two with the set of outlines as first axis; sampled says
      whether the draws are some of many there could be (unless told: no). Draws with chances of their own come
      with a fourth argument, those chances, to a metric that is `weighted`; the others get all draws that have any;
    - "raters": (what the method thinks this rater draws, what the rater drew), as masks;
    - "confidence": (the map of confidence in this rater,);
    - "weight": (the weight of this rater's mask when masks are fused,);
    - "masks": (what this rater drew, the reference), which says how good the rater is.
    """

    function: Callable[..., float]
    better: Literal["higher", "lower"]
    label: str
    unit: Literal["%", "mm", "px", "count", ""]  # "%": a fraction that tables show times 100
    needs: Literal[
        "probability", "calibrated", "votes", "bounds", "draws", "raters", "confidence", "weight", "masks"
    ] = "probability"
    each_rater: bool = False  # of "probability" metrics: also against each rater alone
    weighted: bool = False  # of "draws" metrics: respects the chances of draws
    undefined: bool = False  # NaN where it is not defined, such as a distance to an empty outline
    of_cuts: Callable[[Cuts, VotedCuts], float] | None = None  # the same of maps whose cuts are kept

    def allows(self, value: float) -> bool:
        """Whether this may be a value of it: a number, or NaN where it can be undefined."""
        return math.isfinite(value) or (self.undefined and math.isnan(value))


METRICS: Registry[Metric] = Registry("metric", {
    "soft_dice": Metric(
        lambda p, votes, raters, spacing: soft_dice(p, votes, raters),
        "higher", "soft Dice", "%", each_rater=True, of_cuts=mean_dice,
    ),
    "dice": Metric(
        lambda p, votes, raters, spacing: dice(above(p, 0.5), voted_above(votes, raters, 0.5)),
        "higher", "Dice@0.5", "%", each_rater=True,
        of_cuts=lambda cuts, voted: mean_dice(cuts, voted, (0.5,)),
    ),
    "iou": Metric(
        lambda p, votes, raters, spacing: iou(above(p, 0.5), voted_above(votes, raters, 0.5)),
        "higher", "IoU@0.5", "%", each_rater=True, of_cuts=iou_at_half,
    ),
    "ece": Metric(lambda p, votes, raters, spacing: ece(p, votes, raters), "lower", "ECE", "%"),
    "brier": Metric(lambda p, votes, raters, spacing: brier(p, votes, raters), "lower", "Brier", ""),
    "ece_region": Metric(
        lambda p, votes, raters, spacing: ece_in_region(p, votes, raters), "lower", "ECE in the region", "%"
    ),
    "soft_dice_after": Metric(
        lambda p, votes, raters, spacing: soft_dice(p, votes, raters),
        "higher", "soft Dice, calibrated", "%", needs="calibrated", of_cuts=mean_dice,
    ),
    "brier_after": Metric(
        lambda p, votes, raters, spacing: brier(p, votes, raters),
        "lower", "Brier, calibrated", "", needs="calibrated",
    ),
    "ece_region_after": Metric(
        lambda p, votes, raters, spacing: ece_in_region(p, votes, raters),
        "lower", "ECE in the region, calibrated", "%", needs="calibrated",
    ),
    "rps": Metric(score_of_votes, "lower", "ranked probability score", "", needs="votes"),
    "inner_holds": Metric(
        lambda inner, outer, masks: contains(masks.all(axis=0), inner),
        "higher", "inner outline within all masks", "%", needs="bounds",
    ),
    "outer_holds": Metric(
        lambda inner, outer, masks: contains(outer, masks.any(axis=0)),
        "higher", "outer outline around all masks", "%", needs="bounds",
    ),
    "hd95": Metric(
        lambda p, votes, raters, spacing: hd95(above(p, 0.5), voted_above(votes, raters, 0.5), spacing),
        "lower", "HD95", "mm", undefined=True,
    ),
    "qubiq": Metric(
        lambda p, votes, raters, spacing: qubiq_score(p, votes, raters), "higher", "QUBIQ score", "%",
        undefined=True, of_cuts=lambda cuts, voted: mean_dice(cuts, voted, QUBIQ_THRESHOLDS),
    ),
    "answers": Metric(
        lambda draws, masks, sampled=False: float(len(draws)), "higher", "answers", "count", needs="draws"
    ),
    "ged": Metric(
        lambda draws, masks, sampled=False, weights=None: generalised_energy_distance(
            above(draws, 0.5), masks, sampled=sampled, weights=weights
        ),
        "lower", "GED²", "", needs="draws", weighted=True, undefined=True,
    ),
    "ged_v": Metric(
        lambda draws, masks, sampled=False, weights=None: generalised_energy_distance(
            above(draws, 0.5), masks, weights=weights
        ),
        "lower", "GED² as printed", "", needs="draws", weighted=True,
    ),
    "hm_iou": Metric(
        lambda draws, masks, sampled=False, weights=None: hm_iou(above(draws, 0.5), masks, weights=weights),
        "higher", "HM-IoU", "%", needs="draws", weighted=True,
    ),
    "coverage": Metric(
        lambda draws, masks, sampled=False: coverage(above(draws, 0.5), masks),
        "higher", "disputed pixels covered", "%", needs="draws",
    ),
    "diversity": Metric(
        lambda draws, masks, sampled=False: diversity_of_raters(masks),
        "higher", "diversity of the raters", "", needs="draws",
    ),
    "dice_max": Metric(
        lambda draws, masks, sampled=False: dice_max(above(draws, 0.5), masks),
        "higher", "Dice max", "%", needs="draws",
    ),
    "dice_match": Metric(
        lambda draws, masks, sampled=False: dice_match(above(draws, 0.5), masks),
        "higher", "Dice match", "%", needs="draws",
    ),
    "ncc": Metric(
        lambda draws, masks, sampled=False: variance_correlation(draws, masks),
        "higher", "NCC of variance", "", needs="draws", undefined=True,
    ),
    "volume_crps": Metric(
        lambda draws, masks, sampled=False, weights=None: volume_crps(
            _sizes(above(draws, 0.5)), _sizes(masks), sampled=sampled, weights=weights
        ),
        "lower", "CRPS of volume", "px", needs="draws", weighted=True, undefined=True,
    ),
    "rater_dice": Metric(dice, "higher", "Dice of the imitated rater", "%", needs="raters"),
    "confidence": Metric(
        lambda confidence: float(np.mean(confidence, dtype=np.float64)),
        "higher", "confidence, mean over the image", "%", needs="confidence",
    ),
    "weight": Metric(float, "higher", "weight in the fusion", "%", needs="weight"),
    "skill": Metric(dice, "higher", "Dice of the rater with the reference", "%", needs="masks"),
})  # fmt: skip


def _sizes(masks: np.ndarray) -> np.ndarray:
    return np.array([np.count_nonzero(mask) for mask in masks], dtype=np.float64)
