"""Masks cut to where something is drawn: many structures and raters at once need little memory that way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

Box = tuple[slice, ...]
SLAB = 1 << 21  # pixels of a large mask looked at at a time
_LISTED = 1_000_000  # the largest label for which a list of all of them is made


@dataclass(frozen=True)
class Bits:
    """A large mask kept as bits. It has a shape and is sliced like an array, and gives bool arrays.

    It shows a box of what was packed, outside of which nothing is drawn.
    """

    rows: UInt8[np.ndarray, "plane byte"]  # one for each plane of what was packed
    plane: tuple[int, ...]  # the shape of one
    corner: tuple[int, ...]  # where the box begins in what was packed; may lie outside
    shape: tuple[int, ...]

    dtype = np.dtype(bool)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: Any) -> Bool[np.ndarray, "*part"]:
        """A part, by slices without steps; of the first axis also by a number."""
        if isinstance(where, int):
            plane = range(len(self))[where]
            return np.asarray(self[plane : plane + 1][0])
        given = where if isinstance(where, tuple) else (where,)
        given += (slice(None),) * (self.ndim - len(given))
        asked = [slice(*s.indices(n)[:2]) for s, n in zip(given, self.shape, strict=True)]
        found = np.zeros([max(0, s.stop - s.start) for s in asked], bool)
        packed = (len(self.rows), *self.plane)
        begins = [s.start + c for s, c in zip(asked, self.corner, strict=True)]
        there = [slice(max(0, b), min(b + n, k)) for b, n, k in zip(begins, found.shape, packed, strict=True)]
        if all(s.stop > s.start for s in there):
            planes = np.unpackbits(self.rows[there[0]], axis=1, count=math.prod(self.plane)).view(bool)
            at = tuple(slice(s.start - b, s.stop - b) for s, b in zip(there, begins, strict=True))
            found[at] = planes.reshape(-1, *self.plane)[(slice(None), *there[1:])]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]

    def moved(self, by: Sequence[int], shape: tuple[int, ...]) -> Bits:
        """The same mask in an array of another shape, in which it begins so far in."""
        return Bits(self.rows, self.plane, tuple(c - b for c, b in zip(self.corner, by, strict=True)), shape)


@dataclass(frozen=True)
class Piece:
    """A mask: what is drawn inside a box, and nothing outside it."""

    shape: tuple[int, ...]  # of the whole mask
    box: Box  # the smallest that holds all of it; of an empty mask all slices are empty
    inside: Any  # an array of bool, or `Bits`

    @property
    def empty(self) -> bool:
        return not self.inside.size

    @property
    def pixels(self) -> int:
        """How many are drawn."""
        return sum(int(np.count_nonzero(self.inside[slab])) for slab in slabs(self.inside.shape))

    @property
    def spans(self) -> bool:
        """Whether it reaches from edge to edge along every axis."""
        return tuple(self.inside.shape) == self.shape

    def on(self, box: Box) -> Any:
        """The mask on another box that holds its own: an array, or `Bits`."""
        if box == self.box:
            return self.inside
        if isinstance(self.inside, Bits):
            by = [own.start - other.start for own, other in zip(self.box, box, strict=True)]
            return self.inside.moved(by, tuple(part.stop - part.start for part in box))
        found = np.zeros([part.stop - part.start for part in box], bool)
        at = tuple(slice(o.start - b.start, o.stop - b.start) for o, b in zip(self.box, box, strict=True))
        found[at] = self.inside
        return found

    def same(self, other: Piece) -> bool:
        return (self.shape, self.box) == (other.shape, other.box) and np.array_equal(
            self.inside, other.inside
        )


def piece_of(mask: np.ndarray) -> Piece:
    """A mask cut to where something is drawn."""
    box = []
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(line):
            return nothing(mask.shape)
        box.append(slice(int(line[0]), int(line[-1]) + 1))
    return Piece(mask.shape, tuple(box), np.ascontiguousarray(mask[tuple(box)]))


def pieces_of(labels: np.ndarray, values: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Piece]]:
    """The structures of a label map, cut out in one pass over it.

    Args:
        values: Those of each structure; structures may share some.
    """
    from scipy import ndimage

    if not labels.size or int(labels.max()) > _LISTED:
        for structure, own in values.items():
            yield structure, piece_of(np.isin(labels, list(own)))
        return
    small = labels if labels.dtype.itemsize < 8 else labels.astype(np.int32)
    boxes = dict(enumerate(ndimage.find_objects(small), start=1))
    for structure, own in values.items():
        if 0 in own:
            yield structure, piece_of(np.isin(labels, list(own)))
            continue
        found = [box for value in own if (box := boxes.get(value)) is not None]
        if not found:
            yield structure, nothing(labels.shape)
            continue
        box = joined(found)
        part = labels[box]
        inside = part == own[0] if len(own) == 1 else np.isin(part, list(own))
        yield structure, Piece(labels.shape, box, inside)


def shared(one: Piece, other: Piece) -> int:
    """Pixels that both hold."""
    if one.empty or other.empty:
        return 0
    box = joined((one.box, other.box))
    a, b = one.on(box), other.on(box)
    return sum(int(np.count_nonzero(a[slab] & b[slab])) for slab in slabs(a.shape))


def slabs(shape: Sequence[int], pixels: int | None = None) -> Iterator[slice]:
    """Parts of the first axis that hold so many pixels, unless told `SLAB`; the length of each but the last is a
    multiple of eight, so that bits of one after the other are the bits of all."""
    step = max(8, (SLAB if pixels is None else pixels) // max(1, math.prod(shape[1:])) // 8 * 8)
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def joined(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of them."""
    first, *others = boxes
    for other in others:
        first = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, other, strict=True)
        )
    return first


def widened(box: Box, shape: Sequence[int]) -> Box:
    """A box with one pixel more on every side, where the image has one."""
    return tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, shape, strict=True))


def nothing(shape: tuple[int, ...]) -> Piece:
    return Piece(shape, tuple(slice(0, 0) for _ in shape), np.zeros((0,) * len(shape), bool))
