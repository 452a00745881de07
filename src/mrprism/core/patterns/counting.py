"""How often each vote pattern occurs, in one reading of the masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from mrprism.core.patterns.codes import ABSENT, decode, encode, runs_of, symbols_of
from mrprism.core.patterns.rows import BLOCK, Region, Rows
from mrprism.core.patterns.table import PatternTable, merge


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
    rows = Rows(labels, rated)
    counter = Counter(len(rows.present))
    for where in rows.blocks(region, block):
        counter.add(rows.read(where), rows.gaps, rows.boolean)
    return counter.table(rows)


def survey(
    labels: Any, rated: Bool[np.ndarray, " R"] | None = None, *, block: int = BLOCK
) -> tuple[PatternTable, Region | None]:
    """Count as ``count_patterns`` does, and find the box around all that anyone marked, in one reading.

    The box is the smallest one that holds every label above 0; None when nobody marked anything.
    """
    rows = Rows(labels, rated)
    counter = Counter(len(rows.present))
    low, high = np.array(rows.space), np.zeros(len(rows.space), int)
    for where in rows.blocks(None, block):
        chunk = rows.read(where)
        box = rows.extent(counter.add(chunk, rows.gaps, rows.boolean), chunk, where)
        if box is not None:
            low, high = np.minimum(low, box[0]), np.maximum(high, box[1])
    marked = bool((high > low).all())
    region = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return counter.table(rows), region if marked else None


class Counter:
    """Counts of patterns, gathered block by block.

    Few raters and labels: a pixel's symbols make a number of 16 bits and a dense table is cheapest. Else
    only the patterns that occur are kept.
    """

    def __init__(self, raters: int) -> None:
        self.raters = raters
        self.dense: dict[tuple[int, int], NDArray[np.int64]] = {}
        self.sparse: list[PatternTable] = []
        self.pending = 0

    def add(self, chunk: list[NDArray[Any]], gaps: bool, masks: bool = False) -> NDArray[Any] | None:
        """Count a block, and give back a number for each pixel that is 0 where nobody marked anything, if there is one.

        Args:
            masks: Nothing but 0 and 1 is there.
        """
        symbols, kinds, offset = symbols_of(chunk, gaps, masks)
        if kinds**self.raters <= 1 << 16:
            table = self.dense.setdefault((kinds, offset), np.zeros(kinds**self.raters, np.int64))
            code = encode(symbols, kinds, offset)
            _tally(code, table)
            return None if offset else code
        keys, starts, lengths = runs_of(symbols, kinds, offset)
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
        return None

    def total(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        tables = list(self.sparse)
        for (kinds, offset), counts in self.dense.items():
            codes = np.flatnonzero(counts)
            tables.append(PatternTable(decode(codes, self.raters, kinds, offset), counts[codes], (0,)))
        if not tables:
            return np.zeros((0, self.raters), np.int32), np.zeros(0, np.int64)
        table = merge(tables)
        return table.patterns, table.counts

    def table(self, rows: Rows) -> PatternTable:
        """What was counted, with absent raters back in their columns."""
        patterns, counts = self.total()
        spread = np.full((len(patterns), rows.raters), ABSENT, np.int32)
        spread[:, rows.present] = patterns
        seen = {0, 1} if rows.boolean else {0, *np.unique(patterns[patterns != ABSENT]).tolist()}
        return PatternTable(spread, counts, tuple(sorted(seen)))


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
