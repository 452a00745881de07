"""The table of vote patterns, what can be read from it, and tables pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64
from numpy.typing import NDArray

from mrprism.core.patterns.codes import ABSENT, sort_keys

ROWS = 1 << 14  # patterns multiplied at a time


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
        for start in range(0, len(self.counts), ROWS):
            rows = slice(start, start + ROWS)
            gave = [(self.patterns[rows] == label).astype(np.float64) for label in self.labels]
            for i, j in product(range(size), repeat=2):
                joint[i, j] += (gave[i] * self.counts[rows, None]).T @ gave[j]
        return joint.transpose(2, 3, 0, 1).astype(np.int64)

    def of(self, raters: Sequence[int]) -> PatternTable:
        """The table of these raters alone, in this order (leave-one-out without a second reading)."""
        return collapse(self.patterns[:, list(raters)], self.counts, self.labels)

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


def merge(tables: Sequence[PatternTable]) -> PatternTable:
    """One table of several cases: patterns united, counts added, labels united.

    Raises:
        ValueError: No table, or tables of different numbers of raters.
    """
    if len({table.raters for table in tables}) != 1:
        raise ValueError(f"tables of {[table.raters for table in tables]} raters cannot be pooled")
    labels = tuple(sorted(set().union(*(table.labels for table in tables))))
    patterns = np.concatenate([table.patterns for table in tables])
    return collapse(patterns, np.concatenate([table.counts for table in tables]), labels)


def collapse(patterns: NDArray[Any], counts: NDArray[np.int64], labels: tuple[int, ...]) -> PatternTable:
    """Unite equal rows, in lexicographic order."""
    if len(patterns):
        symbols = patterns.astype(np.int64) + 1
        symbols = symbols.astype(np.min_scalar_type(int(symbols.max())))
        _, first, inverse = np.unique(sort_keys(symbols), return_index=True, return_inverse=True)
        united = np.zeros(len(first), np.int64)
        np.add.at(united, inverse.ravel(), counts)
        patterns, counts = patterns[first], united
    return PatternTable(patterns.astype(np.int32), counts.astype(np.int64), labels)
