"""Distances between outlines.

Of an image or a small volume a map of distances is made; of a large box that would be 20 bytes a voxel, so there the
pixels of the outlines are looked up in trees, a slab of the box at a time. Both are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

LARGE = 1 << 24  # pixels of a box from which on no map of it is made
SLAB = 1 << 21  # pixels of a large box looked at at a time
TREES = 1 << 22  # pixels of outlines that trees are kept of


def hd95(
    predicted: Bool[np.ndarray, "*space"],
    target: Bool[np.ndarray, "*space"],
    spacing_mm: Sequence[float] | None,
) -> float:
    """95th percentile of the distances between two outlines, the larger of the two directions.

    The outline of a mask is its pixels with a neighbour outside it, by faces; outside the image
    nothing is drawn. With a spacing of ones the answer is in pixels.

    Args:
        spacing_mm: Millimetres per step along each axis.

    Returns:
        Millimetres; NaN where the spacing is unknown or either mask is empty. Tables leave NaN
        out and count it.
    """
    if spacing_mm is None or not predicted.any() or not target.any():
        return float("nan")
    box = _bounding_box([predicted, target])  # nothing outside it is on an outline
    spacing = [float(step) for step in spacing_mm]
    if predicted[box].size > LARGE:
        one, other = (_Slabs(mask[box], spacing) for mask in (predicted, target))
        return max(one.percentile_to(other), other.percentile_to(one))
    first, second = _outline(predicted[box]), _outline(target[box])
    there = _distances(second, np.flatnonzero(first), spacing)
    back = _distances(first, np.flatnonzero(second), spacing)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def pairwise_hd95(
    masks: Sequence[np.ndarray] | Bool[np.ndarray, "R *space"], spacing_mm: Sequence[float] | None
) -> Float[np.ndarray, "R R"]:
    """`hd95` of every two masks, each mask's distances computed once; the diagonal is 0 (empty: NaN)."""
    drawn = [r for r, mask in enumerate(masks) if mask.any()]
    found = np.full((len(masks), len(masks)), np.nan)
    if spacing_mm is None or not len(drawn):
        return found
    box = _bounding_box([masks[r] for r in drawn])
    if masks[0][box].size > LARGE:
        slabs = {r: _Slabs(masks[r][box], [float(step) for step in spacing_mm]) for r in drawn}
        for r in drawn:
            found[r, drawn] = [0.0 if r == o else slabs[o].percentile_to(slabs[r]) for o in drawn]
        return np.asarray(np.maximum(found, found.T))
    outlines = {r: np.flatnonzero(_outline(masks[r][box])) for r in drawn}
    lengths = np.array([len(outlines[r]) for r in drawn])
    starts, points = np.cumsum(lengths) - lengths, np.concatenate(list(outlines.values()))
    owner = np.repeat(np.arange(len(drawn)), lengths)
    place = starts + 0.95 * (lengths - 1)
    below, above = np.floor(place).astype(int), np.ceil(place).astype(int)
    shape = masks[0][box].shape
    for r in drawn:
        outline = np.zeros(shape, bool)
        outline.ravel()[outlines[r]] = True
        reach = _distances(outline, points, [float(step) for step in spacing_mm])
        reach = reach[np.lexsort((reach, owner))]  # each outline's distances in order, one after the other
        found[r, drawn] = reach[below] + (place - below) * (reach[above] - reach[below])
    return np.asarray(np.maximum(found, found.T))


class _Slabs:
    """The outline of a mask that fills a large box, held as bits; its pixels come a slab at a time."""

    def __init__(self, mask: Bool[np.ndarray, "*space"], spacing: list[float]) -> None:
        self.spacing, self.plane = spacing, mask.shape[1:]
        self.step = max(1, SLAB // int(np.prod(self.plane)))
        self.starts = range(0, len(mask), self.step)
        self.bits, self.counts = [], []
        for start in self.starts:
            above = max(0, start - 1)  # a pixel more on both sides, for erosion looks at neighbours
            line = _outline(mask[above : start + self.step + 1])[start - above : start - above + self.step]
            self.bits.append(np.packbits(line))
            self.counts.append(int(line.sum()))
        self.trees: dict[int, Any] = {}

    def points(self, slab: int) -> Float[np.ndarray, "point axis"]:
        """In millimetres from the corner of the box."""
        at = np.flatnonzero(np.unpackbits(self.bits[slab]))
        places = np.unravel_index(at, (self.step, *self.plane))
        corner = (self.starts[slab], *[0] * len(self.plane))
        return np.stack([(p + c) * s for p, c, s in zip(places, corner, self.spacing, strict=True)], axis=1)

    def percentile_to(self, other: _Slabs) -> float:
        """95th percentile of the distances from each pixel of this outline to the nearest one of the other, to seven digits."""
        found, done = np.empty(sum(self.counts), np.float32), 0
        for slab, count in enumerate(self.counts):
            if count:
                found[done : done + count] = other.distances(self.points(slab))
                done += count
        other.trees.clear()
        return float(np.percentile(found, 95, overwrite_input=True))

    def distances(self, points: Float[np.ndarray, "point axis"]) -> np.ndarray:
        """To the nearest pixel of this outline; slabs that are too far to hold it are passed over."""
        nearest = np.full(len(points), np.inf)
        first, last = points[0, 0], points[-1, 0]  # they come in the order of the first axis
        for gap, slab in sorted(self._gaps(first, last)):
            near = nearest > gap
            if not near.any():
                break
            nearest[near] = np.minimum(nearest[near], self._tree(slab).query(points[near])[0])
        return nearest

    def _gaps(self, first: float, last: float) -> Iterator[tuple[float, int]]:
        """How far a part of the first axis is from each slab that holds pixels, at least."""
        for slab, start in enumerate(self.starts):
            if self.counts[slab]:
                begins, ends = start * self.spacing[0], (start + self.step - 1) * self.spacing[0]
                yield max(0.0, begins - last, first - ends), slab

    def _tree(self, slab: int) -> Any:
        from scipy.spatial import cKDTree

        if slab not in self.trees:
            while self.trees and sum(self.counts[kept] for kept in self.trees) > TREES:
                del self.trees[next(iter(self.trees))]
            self.trees[slab] = cKDTree(self.points(slab))
        return self.trees[slab]


def _bounding_box(masks: Sequence[Bool[np.ndarray, "*space"]]) -> tuple[slice, ...]:
    """The smallest that holds all of them, of which one at least is not empty."""
    box = []
    for axis in range(masks[0].ndim):
        others = tuple(a for a in range(masks[0].ndim) if a != axis)
        along = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)


def _outline(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distances(outline: Bool[np.ndarray, "*space"], points: np.ndarray, spacing: list[float]) -> np.ndarray:
    """From each of the points (places in the flat array) to the outline; all other distances are never made."""
    nearest = ndimage.distance_transform_edt(
        ~outline, sampling=spacing, return_distances=False, return_indices=True
    )
    squares = np.zeros(len(points))
    for axis, at in enumerate(np.unravel_index(points, outline.shape)):
        squares += ((nearest[axis].ravel()[points] - at) * spacing[axis]) ** 2
    return np.asarray(np.sqrt(squares))
