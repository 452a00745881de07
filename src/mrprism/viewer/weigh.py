"""What if raters counted otherwise: the vote patterns of a slice, so that the page can weigh them while a slider moves.

A slice of a million pixels and seven raters shows at most 128 patterns of votes. The page is sent which of them each
pixel shows, once; under new weights it decides on the patterns and paints the result.
"""

from __future__ import annotations

import struct

import numpy as np

from mrprism.viewer.opened import OpenCase

ABSENT = 2
_DIRECT = 16  # raters whose votes are counted in a table; more are sorted
_STEP = 40  # bits of a code before codes are numbered anew


def vote_patterns(case: OpenCase, structure: int, plane: str, index: int, seats: list[int]) -> bytes:
    """The votes of a slice: four numbers (height, width, patterns P, raters R; 32 bits, little-endian), then for each
    pattern what each rater said (P × R bytes: 0, 1, or 2 for absent), then the pattern of each pixel (16 bits each, or
    32 where there are more than 65536 patterns).

    Args:
        seats: Which rater stands in each place.
    """
    rated = case.rated[seats, structure]
    masks = case.flat(case.masks[:, structure], plane, index)
    height, width = masks.shape[1:]
    code = np.zeros(height * width, np.int64)
    rows = np.zeros((1, 0), np.uint8)  # of each code so far, what the raters who did it said
    bits = 0
    for r, did in zip(seats, rated, strict=True):
        if not did:
            continue
        code = 2 * code + masks[r].reshape(-1)
        bits += 1
        if bits == _STEP:
            code, rows, bits = *_numbered(code, rows, bits), 0
    number, said = _numbered(code, rows, bits)
    table = np.full((len(said), len(seats)), ABSENT, np.uint8)
    table[:, rated] = said
    kind = "<u2" if len(table) <= 1 << 16 else "<u4"
    head = struct.pack("<4I", height, width, len(table), len(seats))
    return head + table.tobytes() + number.astype(kind).tobytes()


def _numbered(code: np.ndarray, rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes as 0, 1, 2, ... in their order, and what each stands for; `rows` is what their upper bits stand for."""
    if bits <= _DIRECT and len(rows) == 1:
        there = np.flatnonzero(np.bincount(code, minlength=1))
        place = np.zeros(int(there.max(initial=0)) + 1, np.int64)
        place[there] = np.arange(len(there))
        number = place[code]
    else:
        there, number = np.unique(code, return_inverse=True)
    last = (there[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return number, np.concatenate([rows[there >> bits], last.astype(np.uint8)], axis=1)
