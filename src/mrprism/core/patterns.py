"""Vote patterns, counted once: the kernel under every fusion and every agreement statistic.

At each pixel R raters give one label each, or none where they are absent. Such a row of R symbols is
a vote pattern. Voting, STAPLE, kappa, alpha, pairwise Dice and consensus volumes need only how often
each pattern occurs, so a volume of any size becomes a short table:

    table = count_patterns(labels, rated)          # labels (R, *space), rated (R,)
    table.pairs()                                  # (R, R, K, K) joint counts of every two raters
    paint(table, labels, rated, values)            # (*space) the value of the pattern at each pixel

Masks are read block by block, so memory is bounded by the block and the table. ``labels`` may be an
array, a memory map, or a sequence of R things that can be sliced like arrays (nibabel's ``dataobj``).
Tables of several cases are pooled with ``merge``; counts are int64.

Measured on 10.5 Mvoxel x 5 raters (benchmarks/fusion.md): packing bits and ``numpy.bincount`` is
faster than a compiled Numba loop, so this needs NumPy alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numpy.typing import NDArray

from mrprism.core.errors import InputError

ABSENT = -1  # the symbol of a rater who did not do the image, or not this pixel
BLOCK = 1 << 18  # pixels read at a time from each rater: what fits the processor's cache

Region = tuple[slice, ...]


@dataclass(frozen=True)
class PatternTable:
    """How often each row of votes occurs.

    Patterns are distinct rows in a fixed order (lexicographic), so equal input gives an equal table
    whatever the block size. A pattern of a table may have count 0.
    """

    patterns: Int32[np.ndarray, "P R"]  # label given by each rater, ABSENT where there is none
    counts: Int64[np.ndarray, " P"]  # pixels that show the pattern
    labels: tuple[int, ...]  # the K label values in play, ascending; (0, 1) for masks

    @property
    def raters(self) -> int:
        """R, absent raters included."""
        return int(self.patterns.shape[1])

    @property
    def pixels(self) -> int:
        """How many pixels were counted."""
        return int(self.counts.sum())

    def indices(self) -> Int32[np.ndarray, "P R"]:
        """Patterns with each label replaced by its place in ``labels``; ABSENT stays -1."""
        found = np.searchsorted(np.asarray(self.labels), self.patterns)
        return np.where(self.patterns == ABSENT, ABSENT, found).astype(np.int32)

    def present(self) -> Int64[np.ndarray, " P"]:
        """How many raters gave any label, for each pattern."""
        return np.asarray((self.patterns != ABSENT).sum(axis=1))

    def votes(self) -> Int64[np.ndarray, "P K"]:
        """How many raters gave each label, for each pattern."""
        return np.stack([(self.patterns == label).sum(axis=1) for label in self.labels], axis=1)

    def volumes(self) -> Int64[np.ndarray, "R K"]:
        """How many pixels each rater gave each label."""
        given = [self.counts @ (self.patterns == label).astype(np.int64) for label in self.labels]
        return np.stack(given, axis=1)

    def pairs(self) -> Int64[np.ndarray, "R R K K"]:
        """Joint counts: [r, s, i, j] pixels where rater r said ``labels[i]`` and rater s ``labels[j]``.

        Pixels where either is absent are left out. [r, r] holds the rater's volumes on its diagonal.
        Exact for up to 2^53 pixels.
        """
        size = len(self.labels)
        joint = np.zeros((size, size, self.raters, self.raters))
        for start in range(0, len(self.counts), BLOCK >> 4):
            rows = slice(start, start + (BLOCK >> 4))
            gave = [(self.patterns[rows] == label).astype(np.float64) for label in self.labels]
            for i, j in product(range(size), repeat=2):
                joint[i, j] += (gave[i] * self.counts[rows, None]).T @ gave[j]
        return joint.transpose(2, 3, 0, 1).astype(np.int64)

    def of(self, raters: Sequence[int]) -> PatternTable:
        """The table of these raters alone, in this order (leave-one-out without a second reading)."""
        return _collapse(self.patterns[:, list(raters)], self.counts, self.labels)

    def without(self, pixels: int) -> PatternTable:
        """The table with this many all-background pixels fewer: what lies outside a region of interest.

        Raises:
            ValueError: There are not so many pixels where every rater present said 0.
        """
        empty = ((self.patterns == 0) | (self.patterns == ABSENT)).all(axis=1)
        if pixels and (empty.sum() != 1 or self.counts[empty][0] < pixels):
            raise ValueError(f"there are not {pixels} pixels of background to leave out")
        counts = self.counts.copy()
        counts[empty] -= pixels
        return replace(self, counts=counts)


def count_patterns(
    labels: Any,
    rated: Bool[np.ndarray, " R"] | None = None,
    *,
    region: Region | None = None,
    block: int = BLOCK,
) -> PatternTable:
    """Count the vote patterns of R label maps or masks.

    Args:
        labels: (R, *space) bool or non-negative integers below 2^31; an array, a memory map, or a
            sequence of R arrays or array proxies of one shape. A negative integer means that the rater
            is absent at this pixel. Whole numbers stored as floats are taken (NIfTI with scaling).
        rated: False: the rater is absent; the labels are not read. None: all were there.
        region: Count only here, one slice per axis of space (step 1).
        block: Pixels read at a time from each rater.

    Returns:
        The patterns that occur. ``labels`` are those seen, and always contain 0; (0, 1) for bool.

    Raises:
        InputError: Shapes differ, a label is not a whole number, or nobody rated.
    """
    rows = _Rows(labels, rated)
    counter = _Counter(len(rows.present))
    for where in rows.blocks(region, block):
        counter.add(rows.read(where), rows.gaps)
    return rows.table(counter)


def merge(tables: Sequence[PatternTable]) -> PatternTable:
    """One table of several cases: patterns united, counts added, labels united.

    Raises:
        ValueError: No table, or tables of different numbers of raters.
    """
    if len({table.raters for table in tables}) != 1:
        raise ValueError(f"tables of {[table.raters for table in tables]} raters cannot be pooled")
    labels = tuple(sorted(set().union(*(table.labels for table in tables))))
    patterns = np.concatenate([table.patterns for table in tables])
    return _collapse(patterns, np.concatenate([table.counts for table in tables]), labels)


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
    rows = _Rows(labels, rated)
    if out is None:
        make = np.zeros if region is not None else np.empty
        out = make(rest + rows.space, values.dtype)
    for where, block_values in _painted(table, rows, values, region, block):
        out[np.index_exp[...] + where] = block_values
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
    yield from _painted(table, _Rows(labels, rated), values, region, block)


def _painted(
    table: PatternTable, rows: _Rows, values: NDArray[Any], region: Region | None, block: int
) -> Iterator[tuple[Region, NDArray[Any]]]:
    brush = _Brush(table, rows, values)
    for where in rows.blocks(region, block):
        painted = brush(rows.read(where))
        shape = tuple(s.stop - s.start for s in where)
        if rows.fortran:
            painted = painted.reshape(brush.rest + shape[::-1])
            last = range(painted.ndim - 1, len(brush.rest) - 1, -1)
            yield where, painted.transpose(*range(len(brush.rest)), *last)
        else:
            yield where, painted.reshape(brush.rest + shape)


def survey(
    labels: Any, rated: Bool[np.ndarray, " R"] | None = None, *, block: int = BLOCK
) -> tuple[PatternTable, Region | None]:
    """Count as ``count_patterns`` does, and find the box around all that anyone marked, in one reading.

    The box is the smallest one that holds every label above 0; None when nobody marked anything.
    """
    rows = _Rows(labels, rated)
    counter = _Counter(len(rows.present))
    low, high = np.array(rows.space), np.zeros(len(rows.space), int)
    for where in rows.blocks(None, block):
        chunk = rows.read(where)
        counter.add(chunk, rows.gaps)
        box = rows.extent(chunk, where)
        if box is not None:
            low, high = np.minimum(low, box[0]), np.maximum(high, box[1])
    marked = bool((high > low).all())
    region = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return rows.table(counter), region if marked else None


def grow(region: Region, margin: int, space: tuple[int, ...]) -> Region:
    """The box widened by ``margin`` pixels on every side, cut at the border of the image."""
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, size))
        for s, size in zip(region, space, strict=True)
    )


def size_of(region: Region) -> int:
    """How many pixels a region holds."""
    return math.prod(s.stop - s.start for s in region)


class _Rows:
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

    def extent(self, chunk: list[NDArray[Any]], where: Region) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """First and last-plus-one index on each axis of what is marked in a block."""
        marked = chunk[0] > 0
        for row in chunk[1:]:
            marked |= row > 0
        if not marked.any():
            return None
        shape = tuple(s.stop - s.start for s in where)
        marked = marked.reshape(shape, order="F" if self.fortran else "C")
        low, high = [], []
        for axis, s in enumerate(where):
            along = np.flatnonzero(marked.any(axis=tuple(a for a in range(marked.ndim) if a != axis)))
            low.append(s.start + along[0])
            high.append(s.start + along[-1] + 1)
        return np.array(low), np.array(high)

    def table(self, counter: _Counter) -> PatternTable:
        """What was counted, with absent raters back in their columns."""
        patterns, counts = counter.total()
        spread = np.full((len(patterns), self.raters), ABSENT, np.int32)
        spread[:, self.present] = patterns
        seen = {0, 1} if self.boolean else {0, *np.unique(patterns[patterns != ABSENT]).tolist()}
        return PatternTable(spread, counts, tuple(sorted(seen)))


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


def _symbols(chunk: list[NDArray[Any]], gaps: bool) -> tuple[list[NDArray[Any]], int, int]:
    """Labels with -1 where absent, how many symbols that makes, and the offset (1 where some are absent)."""
    top = max(int(row.max()) for row in chunk)
    lowest = min(int(row.min()) for row in chunk) if gaps else 0
    if lowest < ABSENT:
        chunk = [np.maximum(row, ABSENT) if row.dtype.kind == "i" else row for row in chunk]
    if top >= 2**31:
        raise InputError(f"label {top} is too large: labels must lie below 2^31")
    offset = int(lowest < 0)
    top += offset
    # many symbols are rounded up, so that blocks of a volume share a few tables
    return chunk, max(top + 1, 2) if top < 16 else 1 << top.bit_length(), offset


def _code(rows: list[NDArray[Any]], kinds: int, offset: int) -> NDArray[Any]:
    """All raters' symbols at a pixel as the digits of one number, the first rater's the lowest.

    Unsigned arithmetic wraps around, so the offset that makes -1 a digit is added once, to the sum.
    """
    dtype = np.dtype(np.uint8 if kinds ** len(rows) <= 256 else np.uint16)
    code: NDArray[Any] = rows[-1].astype(dtype)
    for row in rows[-2::-1]:
        code *= dtype.type(kinds)
        code += row.view(dtype) if row.dtype.itemsize == dtype.itemsize else row.astype(dtype)
    if offset:
        code += dtype.type(sum(kinds**place for place in range(len(rows))))
    return code


def _decode(codes: NDArray[Any], raters: int, kinds: int, offset: int) -> NDArray[np.int32]:
    return (codes[:, None] // kinds ** np.arange(raters) % kinds - offset).astype(np.int32)


def _keys(rows: NDArray[Any]) -> NDArray[Any]:
    """One sortable key per row of unsigned numbers, in the rows' lexicographic order."""
    wide = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">"), copy=False))
    length = wide.shape[1] * wide.itemsize
    if length > 8:
        return wide.view(f"S{length}").ravel()
    padded = np.zeros((len(wide), 8), np.uint8)
    padded[:, 8 - length :] = wide.view(np.uint8).reshape(len(wide), length)
    return padded.view(">u8").ravel().astype(np.uint64)


def _collapse(patterns: NDArray[Any], counts: NDArray[np.int64], labels: tuple[int, ...]) -> PatternTable:
    """Unite equal rows, in lexicographic order."""
    if len(patterns):
        symbols = patterns.astype(np.int64) + 1
        symbols = symbols.astype(np.min_scalar_type(int(symbols.max())))
        _, first, inverse = np.unique(_keys(symbols), return_index=True, return_inverse=True)
        united = np.zeros(len(first), np.int64)
        np.add.at(united, inverse.ravel(), counts)
        patterns, counts = patterns[first], united
    return PatternTable(patterns.astype(np.int32), counts.astype(np.int64), labels)


def _runs(
    symbols: list[NDArray[Any]], kinds: int, offset: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Cut a block into runs of equal neighbours: keys, start and length of each run.

    Masks are smooth, so there are far fewer runs than pixels, and only runs need sorting.
    """
    bits = (kinds - 1).bit_length()
    if bits <= 4:
        fit = 8 // bits
        packed = [_code(symbols[i : i + fit], kinds, offset) for i in range(0, len(symbols), fit)]
    else:
        dtype = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
        packed = [
            (row + np.int64(1)).astype(dtype) if offset else row.astype(dtype, copy=False) for row in symbols
        ]
    new = np.zeros(len(packed[0]), bool)
    new[0] = True
    for row in packed:
        new[1:] |= row[1:] != row[:-1]
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=len(new))
    return _keys(np.stack([row[starts] for row in packed], axis=1)), starts, lengths


class _Counter:
    """Counts of patterns, gathered block by block.

    Few raters and labels: a pixel's symbols make a number of 16 bits and a dense table is cheapest. Else
    only the patterns that occur are kept.
    """

    def __init__(self, raters: int) -> None:
        self.raters = raters
        self.dense: dict[tuple[int, int], NDArray[np.int64]] = {}
        self.sparse: list[PatternTable] = []
        self.pending = 0

    def add(self, chunk: list[NDArray[Any]], gaps: bool) -> None:
        symbols, kinds, offset = _symbols(chunk, gaps)
        if kinds**self.raters <= 1 << 16:
            table = self.dense.setdefault((kinds, offset), np.zeros(kinds**self.raters, np.int64))
            _tally(_code(symbols, kinds, offset), table)
            return
        keys, starts, lengths = _runs(symbols, kinds, offset)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        counts = np.zeros(len(first), np.int64)
        np.add.at(counts, inverse.ravel(), lengths)
        at = starts[first]
        patterns = np.stack([row[at] for row in symbols], axis=1)
        self.sparse.append(PatternTable(patterns.astype(np.int32), counts, (0,)))
        self.pending += len(counts)
        if self.pending > 1 << 17 and self.pending > 2 * len(self.sparse[0].counts):
            self.sparse = [merge(self.sparse)]
            self.pending = len(self.sparse[0].counts)

    def total(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        tables = list(self.sparse)
        for (kinds, offset), counts in self.dense.items():
            codes = np.flatnonzero(counts)
            tables.append(PatternTable(_decode(codes, self.raters, kinds, offset), counts[codes], (0,)))
        if not tables:
            return np.zeros((0, self.raters), np.int32), np.zeros(0, np.int64)
        table = merge(tables)
        return table.patterns, table.counts


def _tally(code: NDArray[Any], table: NDArray[np.int64]) -> None:
    """Add the histogram of the codes to the table.

    Bytes are counted two at a time: half the increments, and fewer that wait for the one before.
    """
    if code.dtype != np.uint8 or len(code) < 1 << 16:
        table += np.bincount(code, minlength=len(table))
        return
    even = len(code) & ~1
    two = np.bincount(code[:even].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    one = two.sum(axis=0) + two.sum(axis=1)
    table += one[: len(table)]
    if even < len(code):
        table[code[-1]] += 1


class _Brush:
    """Looks up the value of each pixel's pattern."""

    def __init__(self, table: PatternTable, rows: _Rows, values: NDArray[Any]) -> None:
        if len(values) != len(table.patterns):
            raise ValueError(f"{len(values)} values for {len(table.patterns)} patterns")
        others = np.setdiff1d(np.arange(table.raters), rows.present)
        fits = (table.patterns[:, others] == ABSENT).all(axis=1)
        patterns = table.patterns[:, rows.present]
        if not rows.gaps:
            fits &= (patterns != ABSENT).all(axis=1)
        self.gaps = rows.gaps
        self.patterns = patterns[fits]
        self.rest = values.shape[1:]
        self.values = np.ascontiguousarray(values[fits].reshape(int(fits.sum()), -1).T)
        self.luts: dict[tuple[int, int], _Lookup] = {}

    def __call__(self, chunk: list[NDArray[Any]]) -> NDArray[Any]:
        symbols, kinds, offset = _symbols(chunk, self.gaps)
        if kinds ** len(symbols) <= 1 << 16:
            if (kinds, offset) not in self.luts:
                self.luts[kinds, offset] = _Lookup(self.patterns, self.values, kinds, offset)
            painted = self.luts[kinds, offset](_code(symbols, kinds, offset))
        else:
            painted = self._by_runs(symbols, kinds, offset)
        return painted.reshape(self.rest + painted.shape[-1:])

    def _by_runs(self, symbols: list[NDArray[Any]], kinds: int, offset: int) -> NDArray[Any]:
        keys, starts, lengths = _runs(symbols, kinds, offset)
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        at = starts[first]
        seen = np.stack([row[at] for row in symbols], axis=1).astype(np.int64)
        top = max(int(self.patterns.max(initial=0)), int(seen.max(initial=0))) + 1
        dtype = np.min_scalar_type(top)
        known = _keys((self.patterns.astype(np.int64) + 1).astype(dtype))
        wanted = _keys((seen + 1).astype(dtype))
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
        if self.bytes:
            pairs = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
            self.known_pairs = np.asarray(self.known[pairs].all(axis=1))
            wide: Any = {1: np.uint16, 2: np.uint32, 4: np.uint64, 8: np.complex128}[values.dtype.itemsize]
            self.value_pairs: NDArray[Any] = np.ascontiguousarray(self.value[:, pairs]).view(wide)[..., 0]

    def __call__(self, code: NDArray[Any]) -> NDArray[Any]:
        if not self.bytes or len(code) < 1 << 14:
            if not self.known[code].all():
                raise ValueError(_UNKNOWN)
            return self.value[:, code]
        even = len(code) & ~1
        two = code[:even].view(np.uint16)
        if not self.complete and not (self.known_pairs[two].all() and self.known[code[-1]]):
            raise ValueError(_UNKNOWN)
        out = np.empty((len(self.value), len(code)), self.value.dtype)
        for row, pairs in zip(out, self.value_pairs, strict=True):
            pairs.take(two, out=row[:even].view(pairs.dtype), mode="clip")
        out[:, even:] = self.value[:, code[even:]]
        return out
