"""What the list of cases is sorted by: how far raters differ, what one more of them would change, what a run doubts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrprism.agreement.case import dice, pairs
from mrprism.core.errors import InputError
from mrprism.core.patterns import PatternTable, count_patterns
from mrprism.datasets.case_files import read_placed
from mrprism.datasets.dataset import Dataset
from mrprism.images import ImageFile


@dataclass(frozen=True)
class Look:
    """How much a case asks to be looked at. None where it cannot be said."""

    dice: float | None  # of two raters: mean over pairs, then structures
    lowest: float | None  # the lowest of them
    worth: float | None  # see `worth_of`; mean over structures


def look(dataset: Dataset, name: str) -> Look:
    """How far the raters of a case differ. Only masks are read, the image is not.

    Raises:
        InputError: A mask cannot be read, or masks differ in size.
    """
    on_disk = dataset.on_disk(name)
    if on_disk is None:
        raise InputError(
            f"data set '{dataset.name}' is not on disk; expected one that was opened from a folder"
        )
    root, manifest, case = on_disk
    drawn: dict[int, list[np.ndarray]] = {}
    like: ImageFile | None = None  # where the first mask lies, which the others are compared with
    for masks in case.masks.values():
        found, like = read_placed(root, manifest, case, masks, like)
        for c, mask in found:
            drawn.setdefault(c, []).append(mask)
    means, lowest, worth = [], [], []
    for of_structure in drawn.values():
        if len({mask.shape for mask in of_structure}) > 1:
            raise InputError(f"masks of case '{name}' differ in size")
        rated = np.ones(len(of_structure), bool)
        table = count_patterns(np.stack(of_structure), rated)
        worth.append(worth_of(table))
        if len(of_structure) > 1:
            scores = dice(table.pairs()[pairs(table.raters)].astype(float))
            means.append(float(scores.mean()))
            lowest.append(float(scores.min()))
    return Look(
        float(np.mean(means)) if means else None,
        min(lowest, default=None),
        float(np.mean(worth)) if worth else None,
    )


def worth_of(table: PatternTable) -> float:
    """What one more rater would change, at the most disputed pixels: a share of the majority's area, from 0 on.

    A pixel that k of n raters marked is marked by the next with the chance (k + ½) / (n + 1) (Jeffreys). Only where
    one more mark takes the majority over one half, or one less keeps it there no more, does the consensus change; a tie
    is background. The expected number of such pixels is divided by those the majority marks (at least one).
    """
    marked, counts = table.votes()[:, 1], table.counts
    n = table.raters
    chance = (marked + 0.5) / (n + 1)
    inside = 2 * marked > n
    with_more, with_less = 2 * (marked + 1) > n + 1, 2 * marked > n + 1
    changes = np.where(with_more != inside, chance, 0.0) + np.where(with_less != inside, 1 - chance, 0.0)
    return float((changes * counts).sum() / max(1, int(counts[inside].sum())))


def doubt_of(probability: np.ndarray) -> float:
    """Of what a run marks, the share it expects to have wrong: Σ min(p, 1 − p) / Σ p, mean over structures.

    Args:
        probability: (C, *space) in [0, 1].
    """
    flat = probability.reshape(len(probability), -1)
    wrong, marked = np.minimum(flat, 1 - flat).sum(axis=1), flat.sum(axis=1)
    return float(np.mean(np.where(marked > 0, wrong / np.maximum(marked, 1e-9), 0.0)))
