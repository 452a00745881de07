"""Fusions: several raters' masks in, one consensus out.

Every fusion is called alike, ``FUSIONS["staple"](masks, rated, **options)``, with masks (R, C, *space),
bool, and rated (R, C); it returns a ``Prediction`` with the consensus probability (C, *space), each rater's
confusion (R, C, 2, 2) against it, and ``ties`` where the method knows them. Above 0.5 is inside.
"""

from __future__ import annotations

from mrprism.core.registry import Registry
from mrprism.fusion.band import band
from mrprism.fusion.dawid_skene import dawid_skene
from mrprism.fusion.jaccard_mean import jaccard_mean
from mrprism.fusion.offered import Fusion, fusion_of
from mrprism.fusion.outline import outline
from mrprism.fusion.shape_average import shape_average
from mrprism.fusion.simple import simple
from mrprism.fusion.staple import LabelFusion, staple, staple_labels
from mrprism.fusion.voting import LabelVote, best_rater, majority, soft_vote, vote_labels, weighted

_FUSIONS: dict[str, Fusion] = {
    "soft-vote": soft_vote,
    "majority": majority,
    "weighted": weighted,
    "best-rater": best_rater,
    "staple": staple,
    "dawid-skene": dawid_skene,
    "simple": simple,
    "shape-average": shape_average,
    "jaccard-mean": jaccard_mean,
    "band": band,
    "outline": outline,
}
FUSIONS = Registry("fusion", _FUSIONS, "mrprism.fusions", fusion_of)

BY_DISTANCE = ("shape-average", "outline")  # the fusions that ask for the size of pixels

__all__ = ["BY_DISTANCE", "FUSIONS", "Fusion", "LabelFusion", "LabelVote", "staple_labels", "vote_labels"]
