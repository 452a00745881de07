"""Masks from outlines that were drawn onto a copy of a photograph."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_SPECK = 20  # pixels; smaller differences are noise


def outlined(plain: np.ndarray, drawn: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray] | str:
    """Disc and cup from a photograph and its copy with two lines on it, or why they cannot be had."""
    line = np.abs(drawn - plain).max(axis=0) > noise + 1e-6
    labels, count = ndimage.label(line, np.ones((3, 3)))
    sizes = ndimage.sum_labels(line, labels, np.arange(1, count + 1))
    line = np.isin(labels, np.flatnonzero(sizes >= _SPECK) + 1)
    if not line.any():
        return "no line was found"
    line = ndimage.binary_closing(np.pad(line, 4), np.ones((3, 3)), iterations=2)[4:-4, 4:-4]
    outside = _outside(line)
    holes, count = ndimage.label(~line & ~outside)
    sizes = ndimage.sum_labels(~line, holes, np.arange(1, count + 1)) if count else np.zeros(0)
    holes = np.where(np.isin(holes, np.flatnonzero(sizes >= _SPECK) + 1), holes, 0)
    rooms = [holes == i for i in np.unique(holes) if i]
    if len(rooms) != 2:
        return f"the lines enclose {len(rooms)} areas, expected two, one inside the other"
    for rim, inner in (rooms, rooms[::-1]):
        filled = ndimage.binary_fill_holes(rim)
        if not (inner & ~filled).any():
            return _nearer(filled, outside), _nearer(inner, outside | rim)
    return "neither line lies inside the other"


def _outside(wall: np.ndarray) -> np.ndarray:
    """What can be reached from the border without crossing the wall."""
    return np.asarray(~ndimage.binary_fill_holes(wall))


def _nearer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Pixels of a line go to the side they are nearer to."""
    to_inside = ndimage.distance_transform_edt(~inside)
    return np.asarray(to_inside <= ndimage.distance_transform_edt(~outside))
