"""The value of each pixel's vote pattern, in a second reading of the masks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from mrprism.core.patterns.codes import ABSENT, encode, runs_of, sort_keys, symbols_of
from mrprism.core.patterns.rows import BLOCK, Region, Rows
from mrprism.core.patterns.table import PatternTable


def paint(
    table: PatternTable,
    labels: Any,
    rated: Bool[np.ndarray, " R"] | None,
    values: NDArray[Any],
    out: NDArray[Any] | None = None,
    *,
    region: Region | None = None,
    block: int = BLOCK,
) -> NDArray[Any]:
    """Give every pixel the value of its vote pattern, in a second reading of the masks.

    Args:
        table: Holds every pattern that occurs in ``labels`` (its own table, or a pooled one).
        labels, rated, region, block: As given to ``count_patterns``.
        values: (P, *rest) one value, or several, per pattern of the table.
        out: (*rest, *space) written in place, a memory map too; outside ``region`` it is not touched.
            None: a new array, 0 outside ``region``.

    Returns:
        ``out``, in the dtype of ``values`` when new.

    Raises:
        ValueError: A pattern occurs that the table does not hold.
    """
    rest = values.shape[1:]
    rows = Rows(labels, rated)
    if out is None:
        make = np.zeros if region is not None else np.empty
        out = make(rest + rows.space, values.dtype)
    brush = _Brush(table, rows, values)
    straight = not rest and not rows.fortran and out.dtype == values.dtype
    for where in rows.blocks(region, block):
        place = out[np.index_exp[...] + where]
        if straight and place.flags.c_contiguous:
            brush(rows.read(where), place.reshape(1, -1))
        else:
            place[...] = brush.shaped(where)
    return out


def paint_blocks(
    table: PatternTable,
    labels: Any,
    rated: Bool[np.ndarray, " R"] | None,
    values: NDArray[Any],
    *,
    region: Region | None = None,
    block: int = BLOCK,
) -> Iterator[tuple[Region, NDArray[Any]]]:
    """What ``paint`` writes, block by block in the order of the files: (where, (*rest, *block)).

    Blocks come along the slowest axis of the source (the last one of a NIfTI file), so a file can be
    written front to back.
    """
    rows = Rows(labels, rated)
    brush = _Brush(table, rows, values)
    for where in rows.blocks(region, block):
        yield where, brush.shaped(where)


class _Brush:
    """Looks up the value of each pixel's pattern."""

    def __init__(self, table: PatternTable, rows: Rows, values: NDArray[Any]) -> None:
        if len(values) != len(table.patterns):
            raise ValueError(f"{len(values)} values for {len(table.patterns)} patterns")
        others = np.setdiff1d(np.arange(table.raters), rows.present)
        fits = (table.patterns[:, others] == ABSENT).all(axis=1)
        patterns = table.patterns[:, rows.present]
        if not rows.gaps:
            fits &= (patterns != ABSENT).all(axis=1)
        self.rows = rows
        self.patterns = patterns[fits]
        self.rest = values.shape[1:]
        self.values = np.ascontiguousarray(values[fits].reshape(int(fits.sum()), -1).T)
        self.luts: dict[tuple[int, int], _Lookup] = {}

    def shaped(self, where: Region) -> NDArray[Any]:
        """The values of a block, (*rest, *block)."""
        painted = self(self.rows.read(where))
        shape = tuple(s.stop - s.start for s in where)
        if self.rows.fortran:
            painted = painted.reshape(self.rest + shape[::-1])
            last = range(painted.ndim - 1, len(self.rest) - 1, -1)
            return painted.transpose(*range(len(self.rest)), *last)
        return painted.reshape(self.rest + shape)

    def __call__(self, chunk: list[NDArray[Any]], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The values of a chunk, (*rest, pixel); written to `out` (value, pixel), where that is given."""
        symbols, kinds, offset = symbols_of(chunk, self.rows.gaps, self.rows.boolean)
        if kinds ** len(symbols) <= 1 << 16:
            if (kinds, offset) not in self.luts:
                self.luts[kinds, offset] = _Lookup(self.patterns, self.values, kinds, offset)
            painted = self.luts[kinds, offset](encode(symbols, kinds, offset), out)
        else:
            painted = self._by_runs(symbols, kinds, offset)
            if out is not None:
                out[...] = painted
        return painted.reshape(self.rest + painted.shape[-1:])

    def _by_runs(self, symbols: list[NDArray[Any]], kinds: int, offset: int) -> NDArray[Any]:
        keys, starts, lengths = runs_of(symbols, kinds, offset)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        at = starts[first]
        seen = np.stack([row[at] for row in symbols], axis=1).astype(np.int64)
        top = max(int(self.patterns.max(initial=0)), int(seen.max(initial=0))) + 1
        dtype = np.min_scalar_type(top)
        known = sort_keys((self.patterns.astype(np.int64) + 1).astype(dtype))
        wanted = sort_keys((seen + 1).astype(dtype))
        order = np.argsort(known)
        place = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
        row = order[place]
        if not (known[row] == wanted).all():
            raise ValueError(_UNKNOWN)
        return np.repeat(self.values[:, row[inverse.ravel()]], lengths, axis=1)


_UNKNOWN = "the masks show a vote pattern that is not in the table"


class _Lookup:
    """A dense table from code to value, read two pixels at a time where codes are bytes."""

    def __init__(self, patterns: NDArray[Any], values: NDArray[Any], kinds: int, offset: int) -> None:
        size = kinds ** patterns.shape[1]
        self.bytes = size <= 256
        size = 256 if self.bytes else size
        symbols = patterns.astype(np.int64) + offset
        fits = ((symbols >= 0) & (symbols < kinds)).all(axis=1)
        code = symbols[fits] @ kinds ** np.arange(patterns.shape[1])
        self.value = np.zeros((len(values), size), values.dtype)
        self.value[:, code] = values[:, fits]
        self.known: NDArray[np.bool_] = np.zeros(size, bool)
        self.known[code] = True
        self.complete = bool(self.known[: kinds ** patterns.shape[1]].all())

    @cached_property
    def pairs(self) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Of every two codes side by side, whether both are known and what both are worth; more work than a small image."""
        pairs = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        wide: Any = {1: np.uint16, 2: np.uint32, 4: np.uint64, 8: np.complex128}[self.value.dtype.itemsize]
        values = np.ascontiguousarray(self.value[:, pairs]).view(wide)[..., 0]
        return np.asarray(self.known[pairs].all(axis=1)), values

    def __call__(self, code: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        if not self.bytes or len(code) < 1 << 14:
            if not self.known[code].all():
                raise ValueError(_UNKNOWN)
            return np.take(self.value, code, axis=1, out=out, mode="clip")
        known, values = self.pairs
        even = len(code) & ~1
        two = code[:even].view(np.uint16)
        if not self.complete and not (known[two].all() and self.known[code[-1]]):
            raise ValueError(_UNKNOWN)
        if out is None:
            out = np.empty((len(self.value), len(code)), self.value.dtype)
        for row, pairs in zip(out, values, strict=True):
            pairs.take(two, out=row[:even].view(pairs.dtype), mode="clip")
        out[:, even:] = self.value[:, code[even:]]
        return out
