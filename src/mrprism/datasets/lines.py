"""Outlines as pixels, of masks that may be large: slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mrprism.datasets.pieces import slabs


def inner_lines(masks: Mapping[int, Any], more: int) -> Iterator[dict[int, np.ndarray]]:
    """Innermost pixels of each mask, slab by slab; the image's own edge is no outline.

    Args:
        more: Planes beside the slab that come with it, empty where there are none.
    """
    from scipy.ndimage import binary_erosion

    shape = next(iter(masks.values())).shape
    for slab in slabs(shape):
        reach = more + 1  # one more, for what is innermost depends on neighbours
        first, last = max(0, slab.start - reach), min(shape[0], slab.stop + reach)
        kept = slice(max(0, slab.start - more) - first, min(shape[0], slab.stop + more) - first)
        lack = (max(0, more - slab.start), max(0, slab.stop + more - shape[0]))
        lines = {}
        for rater, whole in masks.items():
            mask = whole[first:last]
            line = (mask & ~binary_erosion(mask, border_value=1))[kept]
            lines[rater] = np.pad(line, [lack, *[(0, 0)] * (line.ndim - 1)]) if any(lack) else line
        yield lines


def wider(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, np.ones((3,) * mask.ndim, bool)))
