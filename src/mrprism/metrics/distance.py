"""Distances between outlines, exact: those of the whole distance map, of which nothing is made that nobody asks for.

Most pixels of two outlines of one structure lie close together, so the places around each pixel are looked at first,
the nearest first. The few that are left are looked up in a tree of the other outline, or, where outlines are as dense
as noise, in a map of distances. A large box is gone through a slab at a time, its outlines packed to bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

LARGE = 1 << 24  # pixels of a box from which on it is gone through in slabs
SLAB = 1 << 21  # pixels of a large box looked at at a time
TREE = 1 << 21  # pixels of an outline in one tree, at most
LOOKED_AT = 1 << 16  # places around pixels looked at at once
MAP = 16  # pixels of a map cost as much as one pixel looked up in a tree


def hd95(
    predicted: Bool[np.ndarray, "*space"],
    target: Bool[np.ndarray, "*space"],
    spacing_mm: Sequence[float] | None,
) -> float:
    """95th percentile of the distances between two outlines, the larger of the two directions.

    The outline of a mask is its pixels with a neighbour outside it, by faces; outside the image
    nothing is drawn. With a spacing of ones the answer is in pixels.

    Args:
        predicted, target: Arrays, or what reads like one; see `pairwise_hd95`.
        spacing_mm: Millimetres per step along each axis.

    Returns:
        Millimetres; NaN where the spacing is unknown or either mask is empty. Tables leave NaN
        out and count it.
    """
    return float(pairwise_hd95([predicted, target], spacing_mm)[0, 1])


def pairwise_hd95(
    masks: Sequence[Any] | Bool[np.ndarray, "R *space"], spacing_mm: Sequence[float] | None
) -> Float[np.ndarray, "R R"]:
    """`hd95` of every two masks; the diagonal is 0 (empty: NaN).

    Args:
        masks: R of one shape: arrays of bool, or what gives those when it is sliced along its first axis, which is done
            once from front to back. Or `PackedOutline` each.
    """
    found = np.full((len(masks), len(masks)), np.nan)
    if spacing_mm is None or not len(masks):
        return found
    spacing = tuple(float(step) for step in spacing_mm)
    kept = dict(enumerate(masks))
    if all(isinstance(mask, np.ndarray) for mask in masks) or not is_large(masks[0].shape):
        arrays = [np.asarray(mask) for mask in masks]
        there = [r for r, mask in enumerate(arrays) if mask.any()]
        if not there:
            return found
        box = _bounding_box([arrays[r] for r in there])  # nothing outside it is on an outline
        kept = {r: arrays[r][box] for r in there}
        if not is_large(kept[there[0]].shape):
            found[np.ix_(there, there)] = _percentiles(list(kept.values()), spacing)
            return np.asarray(np.maximum(found, found.T))
    lines = {r: line for r, mask in kept.items() if (line := packed(mask, spacing)).count}
    for o, to in lines.items():
        found[o, list(lines)] = [0.0 if r == o else line.percentile_to(to) for r, line in lines.items()]
        to.trees.clear()
    return np.asarray(np.maximum(found, found.T))


def is_large(shape: Sequence[int]) -> bool:
    """Whether a box is gone through in slabs."""
    return math.prod(shape) > LARGE


def packed(mask: Any, spacing: Sequence[float]) -> PackedOutline:
    """The outline of a mask in a large box; that of one that is packed already is itself."""
    return mask if isinstance(mask, PackedOutline) else PackedOutline(mask, tuple(map(float, spacing)))


def outline(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """The pixels of a mask with a neighbour outside it, by faces; the border of the array is outside."""
    inner = np.zeros_like(mask)
    core = tuple(slice(1, -1) for _ in mask.shape)
    inner[core] = mask[core]
    for axis in range(mask.ndim):
        for side in (slice(None, -2), slice(2, None)):
            inner[core] &= mask[(*core[:axis], side, *core[axis + 1 :])]
    return np.asarray(mask & ~inner)


def _percentiles(
    masks: Sequence[Bool[np.ndarray, "*space"]], spacing: tuple[float, ...]
) -> Float[np.ndarray, "R R"]:
    """From the outline of the second to that of the first; none of them is empty."""
    margin = _margin(len(spacing))
    line = np.zeros([n + 2 * margin for n in masks[0].shape], bool)
    inside = tuple(slice(margin, -margin) for _ in spacing)
    points = []
    for mask in masks:
        line[inside] = outline(mask)
        points.append(np.flatnonzero(line))
    lengths = np.array([len(some) for some in points])
    starts, places = np.cumsum(lengths) - lengths, np.concatenate(points)
    owner = np.repeat(np.arange(len(points)), lengths)
    below, above, share = _place(lengths)
    found = np.empty((len(masks), len(masks)))
    for row, own in zip(found, points, strict=True):
        line.fill(False)
        line.ravel()[own] = True
        reach = _distances(line, places, owner, lengths - 1 - above, spacing)
        reach = reach[np.lexsort((reach, owner))]  # each outline's distances in order, one after the other
        row[:] = _between(reach[starts + below], reach[starts + above], share)
    return found


def _place(count: Any) -> tuple[Any, Any, Any]:
    """Where in so many sorted numbers the 95th percentile is: between which two, and how far from the first."""
    place = 0.95 * (count - 1)
    below = np.floor(place).astype(np.int64)
    return below, np.ceil(place).astype(np.int64), place - below


def _between(low: Any, high: Any, share: Any) -> Any:
    """As NumPy's percentile does, to the last bit."""
    return np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))


def _distances(
    line: Bool[np.ndarray, "*space"],
    places: np.ndarray,
    owner: np.ndarray,
    spare: np.ndarray,
    spacing: tuple[float, ...],
) -> np.ndarray:
    """From places in the flat array to the outline; infinite where it does not matter how far.

    Args:
        line: Padded.
        owner: Whose place it is.
        spare: How many of the largest distances of each owner nobody asks for.
    """
    found = np.full(len(places), np.inf)
    rest = _near(line, places, spacing, found)
    rest = rest[np.bincount(owner[rest], minlength=len(spare))[owner[rest]] > spare[owner[rest]]]
    if not len(rest):
        return found
    at = np.stack(np.unravel_index(places[rest], line.shape), axis=1)
    if len(rest) * MAP > line.size:
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(~line, sampling=spacing, return_distances=False, return_indices=True)
        there = np.stack([axis.ravel()[places[rest]] for axis in nearest], axis=1)
    else:
        pixels = np.argwhere(line)
        there = pixels[_tree(pixels * spacing).query(at * spacing)[1]]
    squares = np.zeros(len(rest))
    for axis, step in enumerate(spacing):
        squares += ((there[:, axis] - at[:, axis]) * step) ** 2
    found[rest] = np.sqrt(squares)
    return found


def _near(
    line: Bool[np.ndarray, "*space"], places: np.ndarray, spacing: tuple[float, ...], found: np.ndarray
) -> np.ndarray:
    """Fill in the distances of places close to an outline; gives the others, as places in `found`."""
    around = _around(spacing)
    strides = np.array([math.prod(line.shape[axis + 1 :]) for axis in range(line.ndim)])
    steps, far = around[1] @ strides, around[0]
    flat, rest, done = line.ravel(), np.arange(len(places)), 0
    while done < len(steps) and len(rest):
        some = slice(done, done + max(1, min(LOOKED_AT // len(rest), 2 * done + 1)))
        hit = flat[places[rest][:, None] + steps[some]]
        first = hit.argmax(axis=1)
        seen = hit[np.arange(len(rest)), first]
        found[rest[seen]] = far[some][first[seen]]
        rest, done = rest[~seen], some.stop
    return rest


def _margin(axes: int) -> int:
    """How far along each axis the places around a pixel go."""
    return 3 if axes < 3 else 2


@cache
def _around(spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distances and steps to the places around a pixel, the nearest first, as far as none is missing."""
    far = _margin(len(spacing))
    steps = np.array(list(product(range(-far, far + 1), repeat=len(spacing))))
    squares = np.zeros(len(steps))
    for axis, step in enumerate(spacing):
        squares += (steps[:, axis] * step) ** 2
    order = np.argsort(squares, kind="stable")
    order = order[squares[order] < (min(spacing) * (far + 1)) ** 2]
    return np.sqrt(squares[order]), steps[order]


def _tree(points: Float[np.ndarray, "point axis"]) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(points, balanced_tree=False, compact_nodes=False)


class PackedOutline:
    """The outline of a mask that fills a large box, as bits, each plane padded and a row of its own."""

    def __init__(self, mask: Any, spacing: tuple[float, ...]) -> None:
        self.shape = depth, *plane = mask.shape
        self.spacing, self.margin = spacing, _margin(len(spacing))
        self.plane = tuple(n + 2 * self.margin for n in plane)
        self.pixels = math.prod(self.plane)
        step = max(1, SLAB // self.pixels)
        self.slabs = [slice(start, min(start + step, depth)) for start in range(0, depth, step)]
        self.bits = np.zeros((depth + 2 * self.margin, -(-self.pixels // 8)), np.uint8)
        self.counts = []
        for slab in self.slabs:
            above = max(0, slab.start - 1)  # a plane more on both sides, for an outline looks at neighbours
            line = outline(np.asarray(mask[above : slab.stop + 1]))[slab.start - above :][
                : slab.stop - slab.start
            ]
            wide = np.pad(line, [(0, 0), *[(self.margin, self.margin)] * len(plane)])
            rows = slice(slab.start + self.margin, slab.stop + self.margin)
            self.bits[rows] = np.packbits(wide.reshape(len(line), -1), axis=1)
            self.counts.append(int(np.count_nonzero(line)))
        self.count = sum(self.counts)
        self.parts: list[list[int]] = []  # slabs that share a tree
        full = TREE
        for number, count in enumerate(self.counts):
            if not count:
                continue
            if full + count > TREE:
                self.parts.append([])
                full = 0
            self.parts[-1].append(number)
            full += count
        self.trees: dict[int, Any] = {}

    def percentile_to(self, other: PackedOutline) -> float:
        """95th percentile of the distances from each pixel of this outline to the nearest one of the other."""
        below, above, share = _place(self.count)
        near = _around(self.spacing)[0]
        counts, left = np.zeros(len(near), np.int64), []
        for slab in self.slabs:
            places = np.flatnonzero(self._unpacked(slab))
            around = other._unpacked(slice(slab.start - self.margin, slab.stop + self.margin))
            found = np.empty(len(places))
            rest = _near(around, places + self.margin * self.pixels, self.spacing, found)
            seen, number = np.unique(np.delete(found, rest), return_counts=True)
            counts[np.searchsorted(near, seen)] += number
            far = np.zeros((slab.stop - slab.start) * self.pixels, bool)
            far[places[rest]] = True
            left.append(np.packbits(far) if len(rest) else None)
        up_to = np.cumsum(counts)
        close = [k for k in (below, above) if k < up_to[-1]]
        values = near[np.searchsorted(up_to, close, side="right")].tolist()
        if len(close) < 2:
            reach = np.empty(self.count - up_to[-1], np.float32)
            done = 0
            for slab, bits in zip(self.slabs, left, strict=True):
                if bits is not None:
                    points = self._points(slab, np.flatnonzero(np.unpackbits(bits)))
                    reach[done : done + len(points)] = other._looked_up(points)
                    done += len(points)
            wanted = [k - up_to[-1] for k in (below, above)[len(close) :]]
            reach.partition(wanted)
            values += reach[wanted].astype(float).tolist()
        low, high = values
        return float(_between(low, high, share))

    def _unpacked(self, planes: slice) -> Bool[np.ndarray, "plane *wide"]:
        rows = self.bits[planes.start + self.margin : planes.stop + self.margin]
        return np.unpackbits(rows, axis=1, count=self.pixels).view(bool).reshape(-1, *self.plane)

    def _points(self, slab: slice, places: np.ndarray) -> Float[np.ndarray, "point axis"]:
        """In millimetres, on the first axis from the first plane of the box."""
        at = np.unravel_index(places, (slab.stop - slab.start, *self.plane))
        return np.stack([at[0] + slab.start, *at[1:]], axis=1) * self.spacing

    def _looked_up(self, points: Float[np.ndarray, "point axis"]) -> np.ndarray:
        """Distances to this outline; parts of it that are too far to hold the nearest pixel are passed over."""
        nearest = np.full(len(points), np.inf)
        first, last = points[0, 0], points[-1, 0]  # they come in the order of the first axis
        for gap, part in sorted(self._gaps(first, last)):
            near = nearest > gap
            if not near.any():
                break
            nearest[near] = np.minimum(nearest[near], self._tree(part).query(points[near])[0])
        return nearest

    def _gaps(self, first: float, last: float) -> Iterator[tuple[float, int]]:
        """How far a stretch of the first axis is from each part of this outline, at least."""
        for part, slabs in enumerate(self.parts):
            begins = self.slabs[slabs[0]].start * self.spacing[0]
            ends = (self.slabs[slabs[-1]].stop - 1) * self.spacing[0]
            yield max(0.0, begins - last, first - ends), part

    def _tree(self, part: int) -> Any:
        if part not in self.trees:
            if len(self.trees) > 1:  # two, for a slab may lie between two parts
                del self.trees[next(iter(self.trees))]
            slabs = [self.slabs[number] for number in self.parts[part]]
            points = [self._points(slab, np.flatnonzero(self._unpacked(slab))) for slab in slabs]
            self.trees[part] = _tree(np.concatenate(points))
        return self.trees[part]


def _bounding_box(masks: Sequence[Bool[np.ndarray, "*space"]]) -> tuple[slice, ...]:
    """The smallest that holds all of them, of which one at least is not empty."""
    box = []
    for axis in range(masks[0].ndim):
        others = tuple(a for a in range(masks[0].ndim) if a != axis)
        along = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(box)
