"""What agreement statistics need to know of one case and structure: short arrays, no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mrprism.agreement.chance import Tally, tally
from mrprism.agreement.ratio import ratio
from mrprism.core.patterns import ABSENT, PatternTable, count_patterns, merge
from mrprism.metrics.distance import hd95, is_large, packed, pairwise_hd95

Spacing = tuple[float, ...] | None


@dataclass(frozen=True)
class CaseMeasures:
    """One case and structure, in pixels; NaN where a rater is absent or a value is 0/0."""

    rated: np.ndarray  # (R,) bool
    tally: Tally
    confusion: np.ndarray  # (pair, 2, 2) pixels by what the first and the second rater said
    dice: np.ndarray  # (pair,) both empty: 1
    hd95: np.ndarray  # (pair,) mm, or pixels where the spacing is unknown; either empty: NaN
    drawn: np.ndarray  # (R,) pixels each rater drew
    others: np.ndarray  # (R, 5) see `against_others`
    others_hd95: np.ndarray  # (R,) to the majority of the other raters
    any: float  # pixels at least one rater drew
    all: float  # ... every rater drew: the consensus volume
    majority: float  # ... more than half of the raters drew
    ties: float  # ... exactly half of the raters drew
    pixel_size: float  # mm² or mm³ of a pixel; NaN: unknown

    @property
    def dissent(self) -> float:
        """Pixels some raters drew and others did not."""
        return self.any - self.all


def measure(
    masks: Sequence[Any] | Bool[np.ndarray, "R *space"],
    rated: Bool[np.ndarray, "R"],
    spacing_mm: Spacing = None,
    *,
    distances: bool = True,
    outside: int = 0,
) -> CaseMeasures:
    """Measure one structure of one image.

    Args:
        masks: What each rater drew, each of one shape, arrays or what reads like them; not read where `rated` is False.
        rated: Which raters did this structure.
        spacing_mm: Size of a pixel along each axis of space.
        distances: Also HD95, by far the slowest part.
        outside: Pixels of the image that `masks` were cut free of; nobody drew there.
    """
    table = count_patterns(masks, rated) if rated.any() else _nobody(len(rated))
    if outside and rated.any():
        empty = np.where(rated, 0, ABSENT).astype(np.int32)[None]
        table = merge([table, PatternTable(empty, np.array([outside]), table.labels)])
    first, second = pairs(len(rated))
    both = rated[first] & rated[second]
    confusion = table.pairs()[first, second]
    confusion = confusion.astype(np.int32 if confusion.max(initial=0) < 2**31 else np.int64)
    votes, present = table.votes()[:, 1], table.present()
    counts = table.counts

    pair_hd95, others_hd95 = np.full(len(first), np.nan), np.full(len(rated), np.nan)
    if distances and rated.sum() > 1:
        there = np.flatnonzero(rated).tolist()
        cropped = [masks[r] for r in there]
        steps = spacing_mm or (1.0,) * len(cropped[0].shape)  # unknown: pixels
        if not is_large(cropped[0].shape):
            cropped = [np.asarray(mask) for mask in cropped]
        if all(isinstance(mask, np.ndarray) for mask in cropped):
            box = _box(cropped)
            cropped = [mask[box] for mask in cropped]
        square = np.full((len(rated), len(rated)), np.nan)
        large = is_large(cropped[0].shape)
        lines = [packed(mask, steps) for mask in cropped] if large else cropped
        square[np.ix_(there, there)] = pairwise_hd95(lines, steps)
        pair_hd95 = square[first, second]
        others_hd95[there] = _others_hd95(cropped, lines, steps)
    return CaseMeasures(
        rated=rated,
        tally=tally(table),
        confusion=confusion,
        dice=np.where(both, dice(confusion.astype(float)), np.nan),
        hd95=pair_hd95,
        drawn=np.where(rated, table.volumes()[:, 1].astype(float), np.nan),
        others=against_others(table),
        others_hd95=others_hd95,
        any=float(counts[votes > 0].sum()),
        all=float(counts[(votes > 0) & (votes == present)].sum()),
        majority=float(counts[2 * votes > present].sum()),
        ties=float(counts[(votes > 0) & (2 * votes == present)].sum()),
        pixel_size=float(np.prod(spacing_mm)) if spacing_mm else np.nan,
    )


def pairs(raters: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second rater of every pair, in the order used throughout."""
    first, second = np.triu_indices(raters, 1)
    return first, second


def dice(confusion: Float[np.ndarray, "*batch 2 2"]) -> Float[np.ndarray, "*batch"]:
    """Dice of two masks from their joint counts; 1 where both are empty."""
    shared = 2 * confusion[..., 1, 1]
    drawn = shared + confusion[..., 0, 1] + confusion[..., 1, 0]
    return np.where(drawn > 0, ratio(shared, drawn), 1.0)


def against_others(table: PatternTable) -> Float[np.ndarray, "R 5"]:
    """Each rater of a table of masks beside the majority vote of the *other* raters, in pixels.

    Columns: drawn by the rater; drawn by more than half of the others; both; exactly half of the
    others (a tie, which is no vote for the structure); a tie and drawn by the rater. NaN where the
    rater is absent or alone.
    """
    drew = table.patterns == 1  # (P, R)
    here = table.patterns >= 0
    others = table.present()[:, None] - here
    votes = table.votes()[:, 1][:, None] - drew
    usable = here & (others > 0)
    majority, tie = usable & (2 * votes > others), usable & (2 * votes == others)
    columns = [drew & usable, majority, drew & majority, tie, drew & tie]
    counts = table.counts.astype(float)
    sums = np.stack([counts @ column for column in columns], axis=1)
    accompanied = np.asarray(usable.any(axis=0))
    return np.where(accompanied[:, None], sums, np.nan)


def bias_of(others: Float[np.ndarray, "*batch 5"]) -> Float[np.ndarray, "*batch 3"]:
    """Over-drawn, under-drawn and net (over − under), as shares of the others' vote.

    A pixel where the others tie counts half for and half against: were it background, every rater
    of three would seem to over-draw.
    """
    drawn, majority, both, tie, drawn_tie = np.moveaxis(others, -1, 0)
    vote = majority + tie / 2
    over = drawn - both - drawn_tie / 2
    under = vote - both - drawn_tie / 2
    return np.stack([ratio(over, vote), ratio(under, vote), ratio(over - under, vote)], axis=-1)


def overlap_of(others: Float[np.ndarray, "*batch 5"]) -> Float[np.ndarray, "*batch 3"]:
    """Dice, sensitivity and precision of a rater against the majority of the others (ties are background).

    Both empty: Dice 1; sensitivity and precision NaN where nothing is there to find or nothing was drawn.
    """
    drawn, majority, both = np.moveaxis(others[..., :3], -1, 0)
    total = drawn + majority
    score = np.where(total == 0, 1.0, ratio(2 * both, total))
    return np.stack([score, ratio(both, majority), ratio(both, drawn)], axis=-1)


def _others_hd95(masks: Sequence[Any], lines: Sequence[Any], spacing: tuple[float, ...]) -> list[float]:
    """Args: lines: The outlines of masks in a large box; else the masks again."""
    if is_large(masks[0].shape):
        found = []
        for own, line in enumerate(lines):
            others = [mask for r, mask in enumerate(masks) if r != own]
            found.append(float(pairwise_hd95([line, packed(_Majority(others), spacing)], spacing)[0, 1]))
        return found
    votes = np.zeros(masks[0].shape, np.min_scalar_type(2 * len(masks)))
    for mask in masks:
        votes += mask
    return [hd95(mask, 2 * (votes - mask) > len(masks) - 1, spacing) for mask in masks]


class _Majority:
    """The majority vote of masks, made of a slab of them when it is asked for."""

    def __init__(self, masks: Sequence[Any]) -> None:
        self.masks, self.shape = masks, masks[0].shape

    def __getitem__(self, slab: slice) -> np.ndarray:
        votes = np.sum(
            [mask[slab] for mask in self.masks], axis=0, dtype=np.min_scalar_type(2 * len(self.masks))
        )
        return np.asarray(2 * votes > len(self.masks))


def _box(masks: Sequence[np.ndarray]) -> tuple[slice, ...]:
    # distances between outlines do not change when the empty surround is cut off
    first = masks[0]
    box = []
    for axis in range(first.ndim):
        others = tuple(a for a in range(first.ndim) if a != axis)
        along = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        box.append(slice(int(along[0]), int(along[-1]) + 1) if len(along) else slice(0, 1))
    return tuple(box)


def _nobody(raters: int) -> PatternTable:
    return PatternTable(np.zeros((0, raters), np.int32), np.zeros(0, np.int64), (0, 1))


def combine(measures: list[CaseMeasures], name: str) -> Any:
    """One field of all cases, with a case axis in front."""
    return np.stack([getattr(case, name) for case in measures])
