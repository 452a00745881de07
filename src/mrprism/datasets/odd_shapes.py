"""Shapes of masks that nobody draws on purpose: the whole image, its border, all but what the others mark."""

from __future__ import annotations

import numpy as np


def odd_shape(mask: np.ndarray) -> str | None:
    """What is odd about a mask by itself, in words; of a volume also if it is odd in every slice drawn on."""
    if mask.all():
        return "covers the whole image"
    drawn = mask[mask.any(axis=(1, 2))] if mask.ndim == 3 else mask[:0]
    if _is_border(mask) or (len(drawn) and all(_is_border(plane) for plane in drawn)):
        return "is nothing but the image's border"
    return None


def _is_border(mask: np.ndarray) -> bool:
    """The outermost pixels, or most of them, or a frame a few pixels wide."""
    inside = mask[tuple(slice(1, -1) for _ in mask.shape)]
    thin = not inside.any() and mask.sum() >= 0.9 * (mask.size - inside.size) > 0
    return bool(thin or (not mask.all() and _is_frame(mask)))


def _is_frame(mask: np.ndarray) -> bool:
    """Everything but one box in the middle, at most a tenth of each axis wide."""
    free = ~mask
    for axis in range(mask.ndim):
        line = np.flatnonzero(free.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        widest = max(1, mask.shape[axis] // 10)
        if not (1 <= line[0] <= widest and 1 <= mask.shape[axis] - 1 - line[-1] <= widest):
            return False
        free = free.take(range(line[0], line[-1] + 1), axis)
    return bool(free.all())


def is_inverted(mask: np.ndarray, others: np.ndarray) -> bool:
    if framed(mask) < 0.9 or framed(others) > 0.5 or odd_shape(mask) is not None:
        return False
    return _dice(~mask, others) > max(0.5, 2 * _dice(mask, others))


def framed(mask: np.ndarray) -> float:
    """Which share of the outermost pixels is marked."""
    inside = mask[tuple(slice(1, -1) for _ in mask.shape)]
    return (int(mask.sum()) - int(inside.sum())) / max(1, mask.size - inside.size)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int((a & b).sum()) / max(1, int(a.sum()) + int(b.sum()))
