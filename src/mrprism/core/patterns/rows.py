"""R masks or label maps of one shape, read block by block in the order of their files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mrprism.core.errors import InputError

BLOCK = 1 << 18  # pixels read at a time from each rater: what fits the processor's cache

Region = tuple[slice, ...]


class Rows:
    """R label sources of one shape, read block by block along the slowest axis of their files."""

    def __init__(self, labels: Any, rated: NDArray[np.bool_] | None) -> None:
        sources = list(labels)
        self.raters = len(sources)
        present = np.ones(self.raters, bool) if rated is None else np.asarray(rated, bool)
        if len(present) != self.raters:
            raise InputError(f"{self.raters} raters' masks but {len(present)} entries saying who rated")
        self.present = np.flatnonzero(present)
        if not len(self.present):
            raise InputError("no rater at all: nobody rated this, so there is nothing to count")
        self.sources = [sources[r] for r in self.present]
        self.space = tuple(int(size) for size in self.sources[0].shape)
        for rater, source in zip(self.present, self.sources, strict=True):
            if tuple(source.shape) != self.space:
                raise InputError(
                    f"masks differ in shape: rater {self.present[0]} has {self.space}, "
                    f"rater {rater} has {tuple(source.shape)}"
                )
        kinds = [np.dtype(source.dtype).kind for source in self.sources]
        if any(kind not in "biuf" for kind in kinds):
            raise InputError(f"labels must be whole numbers or true/false, not {self.sources[0].dtype}")
        self.boolean = all(kind == "b" for kind in kinds)
        self.gaps = any(kind in "if" for kind in kinds)  # a negative label may say: absent here
        self.fortran = all(_is_fortran(source) for source in self.sources)

    def blocks(self, region: Region | None, block: int) -> Iterator[Region]:
        """Boxes of at most ``block`` pixels (one pixel row at least) that tile the region in file order."""
        full = tuple(slice(0, size) for size in self.space)
        region = (
            full
            if region is None
            else tuple(slice(*s.indices(size)[:2]) for s, size in zip(region, self.space, strict=True))
        )
        axes = range(len(self.space))
        slowest_first = list(reversed(axes)) if self.fortran else list(axes)
        steps: dict[int, int] = {}
        inner = size_of(region)
        for axis in slowest_first:
            length = region[axis].stop - region[axis].start
            inner = inner // length if length else 0
            steps[axis] = length if inner == 0 else min(max(block // inner, 1), length)
        if inner == 0 or size_of(region) == 0:
            return
        ranges = [
            [
                slice(a, min(a + steps[x], region[x].stop))
                for a in range(region[x].start, region[x].stop, steps[x])
            ]
            for x in slowest_first
        ]
        for choice in product(*ranges):
            where = dict(zip(slowest_first, choice, strict=True))
            yield tuple(where[axis] for axis in axes)

    def read(self, where: Region) -> list[NDArray[Any]]:
        """The labels of each present rater in a block, flat, in file order; bool comes as uint8."""
        return [
            _whole(np.asanyarray(source[where]), int(rater)).ravel(order="F" if self.fortran else "C")
            for rater, source in zip(self.present, self.sources, strict=True)
        ]

    def extent(
        self, code: NDArray[Any] | None, chunk: list[NDArray[Any]], where: Region
    ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """First and last-plus-one index on each axis of what is marked in a block.

        Args:
            code: Not 0 where somebody marked something, if that is known.
        """
        marked = chunk[0] > 0 if code is None else code > 0
        for row in chunk[1:] if code is None else ():
            marked |= row > 0
        if not marked.any():
            return None
        shape = tuple(s.stop - s.start for s in where)
        marked = marked.reshape(shape[::-1] if self.fortran else shape)
        low, high = [], []
        for s in reversed(where) if self.fortran else where:
            along = np.flatnonzero(marked.reshape(len(marked), -1).any(axis=1))
            low.append(s.start + along[0])
            high.append(s.start + along[-1] + 1)
            marked = np.asarray(marked.any(axis=0))  # the axes that are left
        turn = -1 if self.fortran else 1
        return np.array(low[::turn]), np.array(high[::turn])


def _is_fortran(source: Any) -> bool:
    if isinstance(source, np.ndarray):
        return bool(source.flags.f_contiguous and not source.flags.c_contiguous)
    return getattr(source, "order", "C") == "F"


def _whole(block: NDArray[Any], rater: int) -> NDArray[Any]:
    """Labels as integers; what is no whole number is refused."""
    if block.dtype == np.bool_:
        return block.view(np.uint8)
    if block.dtype.kind != "f":
        return block
    with np.errstate(invalid="ignore"):
        whole = np.rint(block)
        wrong = ~(np.abs(block - whole) < 1e-3)
    if wrong.any():
        raise InputError(f"labels must be whole numbers; rater {rater} has {block[wrong][0]:g}")
    return cast("NDArray[Any]", whole.astype(np.int32))


def grow(region: Region, margin: int, space: tuple[int, ...]) -> Region:
    """The box widened by ``margin`` pixels on every side, cut at the border of the image."""
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, size))
        for s, size in zip(region, space, strict=True)
    )


def size_of(region: Region) -> int:
    """How many pixels a region holds."""
    return math.prod(s.stop - s.start for s in region)
