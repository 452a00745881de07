"""Slices between two that were drawn: the outline goes evenly from the one to the other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy.ndimage import distance_transform_edt, shift


def between(
    first: Bool[np.ndarray, "H W"],
    last: Bool[np.ndarray, "H W"],
    count: int,
    spacing: tuple[float, ...] | None = None,
) -> Bool[np.ndarray, "count H W"]:
    """The slices between two masks, evenly spaced: where the blend of their signed distances is inside.

    The centre of mass goes evenly from the one to the other, too, so that shapes which lie apart do not vanish on the way.

    Args:
        first, last: Neither is empty.
        count: How many slices lie between them.
        spacing: Height and width of a pixel; None: they are square.

    Source: Raya, Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 9(1), 1990.
    """
    ends = [_signed(mask, spacing) for mask in (first, last)]
    centres = [np.argwhere(mask).mean(axis=0) for mask in (first, last)]
    filled = []
    for share in np.arange(1, count + 1) / (count + 1):
        centre = (1 - share) * centres[0] + share * centres[1]
        moved = [
            shift(end, centre - own, order=1, mode="nearest") for end, own in zip(ends, centres, strict=True)
        ]
        filled.append((1 - share) * moved[0] + share * moved[1] > 0)
    return np.stack(filled)


def _signed(mask: np.ndarray, spacing: tuple[float, ...] | None) -> np.ndarray:
    """Distance to the outline, which runs half a pixel from the nearest centre: above 0 inside, below 0 outside."""
    half = 0.5 * min(spacing or (1.0,))
    inside = np.asarray(distance_transform_edt(np.pad(mask, 1), sampling=spacing))[1:-1, 1:-1]
    outside = np.asarray(distance_transform_edt(~mask, sampling=spacing))
    return np.where(mask, inside - half, half - outside)
