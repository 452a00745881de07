"""Outlines to masks, by one rule: a pixel belongs to a shape when its centre lies inside.

Coordinates are (x, y) in pixels from the image's upper left corner, so the centre of the first pixel
is (0.5, 0.5). Inside is even-odd: a line that crosses itself leaves holes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from mrprism.core.errors import InputError

_FARTHEST = 1e6  # pixels outside which no outline lies


def polygon(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The pixels whose centres lie inside a polygon; it is closed from its last point to its first.

    Raises:
        InputError: A point lies absurdly far away, or is no number.
    """
    _near(points)
    height, width = size
    turned = np.zeros((height, width + 1), dtype=bool)  # where inside turns to outside along a row
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        rows = np.arange(max(0, np.ceil(low - 0.5)), min(height, np.ceil(high - 0.5)), dtype=int)
        crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
        turned[rows, columns] ^= True
    return np.logical_xor.accumulate(turned[:, :width], axis=1)


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float, size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """The pixels whose centres lie inside an ellipse turned clockwise, as seen, about its centre."""
    _near([*centre, *radii, degrees])
    turn = np.deg2rad(degrees)
    reach = (
        np.hypot(radii[0] * np.cos(turn), radii[1] * np.sin(turn)),
        np.hypot(radii[0] * np.sin(turn), radii[1] * np.cos(turn)),
    )
    (left, right), (top, bottom) = (  # the box that holds it, with a pixel to spare
        (min(most, max(0, int(c - r) - 1)), max(0, min(most, int(c + r) + 2)))
        for c, r, most in zip(centre, reach, size[::-1], strict=True)
    )
    mask = np.zeros(size, dtype=bool)
    row, column = np.mgrid[top:bottom, left:right] + 0.5
    x, y = column - centre[0], row - centre[1]
    along, across = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    with np.errstate(divide="ignore", invalid="ignore"):
        mask[top:bottom, left:right] = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return mask


def rectangle(
    corner: tuple[float, float],
    extent: tuple[float, float],
    degrees: float,
    size: tuple[int, int],
    *,
    about: tuple[float, float] | None = None,
) -> Bool[np.ndarray, "H W"]:
    """The pixels whose centres lie inside a box turned clockwise, as seen, about its upper left corner.

    Args:
        about: Turn about this point instead.
    """
    _near([*corner, *extent, degrees])
    corners = np.array([(0, 0), (extent[0], 0), extent, (0, extent[1])], dtype=float) + corner
    pivot = np.array(corner if about is None else about, dtype=float)
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return polygon((corners - pivot) @ rotation + pivot, size)


def _near(numbers: object) -> None:
    values = np.asarray(numbers, dtype=float)
    wrong = values[~(np.abs(values) <= _FARTHEST)]
    if wrong.size:
        raise InputError(f"an outline has the coordinate {wrong.flat[0]:g}; expected pixels of the image")
