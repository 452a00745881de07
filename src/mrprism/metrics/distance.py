"""Distances between outlines."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage


def hd95(
    predicted: Bool[np.ndarray, "*space"],
    target: Bool[np.ndarray, "*space"],
    spacing_mm: Sequence[float] | None,
) -> float:
    """95th percentile of the distances between two outlines, the larger of the two directions.

    The outline of a mask is its pixels with a neighbour outside it, by faces; outside the image
    nothing is drawn. With a spacing of ones the answer is in pixels.

    Args:
        spacing_mm: Millimetres per step along each axis.

    Returns:
        Millimetres; NaN where the spacing is unknown or either mask is empty. Tables leave NaN
        out and count it.
    """
    if spacing_mm is None or not predicted.any() or not target.any():
        return float("nan")
    box = _bounding_box(predicted | target)  # nothing outside it is on an outline
    first, second = _outline(predicted[box]), _outline(target[box])
    spacing = [float(step) for step in spacing_mm]
    there = _distances(second, np.flatnonzero(first), spacing)
    back = _distances(first, np.flatnonzero(second), spacing)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def pairwise_hd95(
    masks: Bool[np.ndarray, "R *space"], spacing_mm: Sequence[float] | None
) -> Float[np.ndarray, "R R"]:
    """`hd95` of every two masks, each mask's distances computed once; the diagonal is 0 (empty: NaN)."""
    drawn = np.flatnonzero(masks.any(axis=tuple(range(1, masks.ndim))))
    found = np.full((len(masks), len(masks)), np.nan)
    if spacing_mm is None or not len(drawn):
        return found
    box = _bounding_box(np.logical_or.reduce(masks, axis=0))
    outlines = {r: np.flatnonzero(_outline(masks[r][box])) for r in drawn}
    lengths = np.array([len(outlines[r]) for r in drawn])
    starts, points = np.cumsum(lengths) - lengths, np.concatenate(list(outlines.values()))
    owner = np.repeat(np.arange(len(drawn)), lengths)
    place = starts + 0.95 * (lengths - 1)
    below, above = np.floor(place).astype(int), np.ceil(place).astype(int)
    shape = masks[0][box].shape
    for r in drawn:
        outline = np.zeros(shape, bool)
        outline.ravel()[outlines[r]] = True
        reach = _distances(outline, points, [float(step) for step in spacing_mm])
        reach = reach[np.lexsort((reach, owner))]  # each outline's distances in order, one after the other
        found[r, drawn] = reach[below] + (place - below) * (reach[above] - reach[below])
    return np.asarray(np.maximum(found, found.T))


def _bounding_box(mask: Bool[np.ndarray, "*space"]) -> tuple[slice, ...]:
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(box)


def _outline(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distances(outline: Bool[np.ndarray, "*space"], points: np.ndarray, spacing: list[float]) -> np.ndarray:
    """From each of the points (places in the flat array) to the outline; all other distances are never made."""
    nearest = ndimage.distance_transform_edt(
        ~outline, sampling=spacing, return_distances=False, return_indices=True
    )
    squares = np.zeros(len(points))
    for axis, at in enumerate(np.unravel_index(points, outline.shape)):
        squares += ((nearest[axis].ravel()[points] - at) * spacing[axis]) ** 2
    return np.asarray(np.sqrt(squares))
