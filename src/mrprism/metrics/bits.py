"""Masks packed to bits, so that what two of them share is counted eight pixels and more at a time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from mrprism.metrics.pieces import PIECE

_ONES = np.array([number.bit_count() for number in range(256)], np.uint8)  # for NumPy before 2.0


def pack(masks: Bool[np.ndarray, "*each"], space: int) -> UInt64[np.ndarray, "*masks word"]:
    """Masks as rows of words of 64 pixels, the last one filled up with zeros.

    Args:
        space: How many axes of the masks are of space.
    """
    rows = masks.reshape(*masks.shape[: masks.ndim - space], -1)
    packed = np.packbits(rows, axis=-1)
    lacking = -packed.shape[-1] % 8
    if lacking:
        packed = np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, lacking)])
    return np.ascontiguousarray(packed).view(np.uint64)


def count(words: UInt64[np.ndarray, "*masks word"]) -> Int64[np.ndarray, "*masks"]:
    """How many pixels are set in each row."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words).sum(axis=-1, dtype=np.int64))
    return np.asarray(_ONES[words.view(np.uint8)].sum(axis=-1, dtype=np.int64))


def shared(
    first: UInt64[np.ndarray, "A word"], second: UInt64[np.ndarray, "Z word"]
) -> Int64[np.ndarray, "A Z"]:
    """How many pixels each of the first has in common with each of the second."""
    found = np.zeros((len(first), len(second)), np.int64)
    step = max(1, PIECE // max(1, len(second)))
    for start in range(0, first.shape[1], step):  # so that memory does not grow with volumes
        part = slice(start, start + step)
        for row, own in zip(found, first[:, part], strict=True):
            row += count(own & second[:, part])
    return found
