"""Symbols of several raters at a pixel as one number, so that NumPy can count, sort and look them up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrprism.core.errors import InputError

ABSENT = -1  # the symbol of a rater who did not do the image, or not this pixel


def symbols_of(
    chunk: list[NDArray[Any]], gaps: bool, masks: bool = False
) -> tuple[list[NDArray[Any]], int, int]:
    """Labels with -1 where absent, how many symbols that makes, and the offset (1 where some are absent).

    Args:
        masks: Nothing but 0 and 1 is there, as nobody need look for.
    """
    if masks:
        return chunk, 2, 0
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


def encode(rows: list[NDArray[Any]], kinds: int, offset: int) -> NDArray[Any]:
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


def decode(codes: NDArray[Any], raters: int, kinds: int, offset: int) -> NDArray[np.int32]:
    return (codes[:, None] // kinds ** np.arange(raters) % kinds - offset).astype(np.int32)


def sort_keys(rows: NDArray[Any]) -> NDArray[Any]:
    """One sortable key per row of unsigned numbers, in the rows' lexicographic order."""
    wide = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">"), copy=False))
    length = wide.shape[1] * wide.itemsize
    if length > 8:
        return wide.view(f"S{length}").ravel()
    padded = np.zeros((len(wide), 8), np.uint8)
    padded[:, 8 - length :] = wide.view(np.uint8).reshape(len(wide), length)
    return padded.view(">u8").ravel().astype(np.uint64)


def runs_of(
    symbols: list[NDArray[Any]], kinds: int, offset: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Cut a block into runs of equal neighbours: keys, start and length of each run.

    Masks are smooth, so there are far fewer runs than pixels, and only runs need sorting.
    """
    bits = (kinds - 1).bit_length()
    if bits <= 4:
        fit = 8 // bits
        packed = [encode(symbols[i : i + fit], kinds, offset) for i in range(0, len(symbols), fit)]
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
    return sort_keys(np.stack([row[starts] for row in packed], axis=1)), starts, lengths
