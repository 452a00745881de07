"""Masks cut to where something is drawn: many structures and raters at once need little memory that way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[slice, ...]
_LISTED = 1_000_000  # the largest label for which a list of all of them is made


@dataclass(frozen=True)
class Piece:
    """A mask: what is drawn inside a box, and nothing outside it."""

    shape: tuple[int, ...]  # of the whole mask
    box: Box  # the smallest that holds all of it; of an empty mask all slices are empty
    inside: np.ndarray

    @property
    def empty(self) -> bool:
        return not self.inside.size

    @property
    def spans(self) -> bool:
        """Whether it reaches from edge to edge along every axis."""
        return self.inside.shape == self.shape

    def on(self, box: Box) -> np.ndarray:
        """The mask on another box that holds its own."""
        if box == self.box:
            return self.inside
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
    return int(np.count_nonzero(one.on(box) & other.on(box)))


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
