"""The surface of a mask of a volume, as triangles."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int32
from scipy.ndimage import gaussian_filter

LARGEST = 128  # voxels along an axis of the grid a surface is drawn from; finer masks are thinned first
SMOOTH = 0.7  # voxels: standard deviation of the blur that takes away the steps between voxels

# corners of a cell, and its twelve edges as pairs of corners
_CORNERS = np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


def surface(
    mask: Bool[np.ndarray, "D H W"],
) -> tuple[Float32[np.ndarray, "point 3"], Int32[np.ndarray, "face 3"]]:
    """A closed surface around what is marked: points in voxels (z, y, x), and triangles seen from outside.

    It is for looking at. The mask is thinned to at most `LARGEST` voxels along each axis and blurred a little, so
    detail of a voxel is not kept; volumes and distances are measured on masks. One point a cell, in the middle of where
    the surface crosses its edges.

    Source: Gibson, "Constrained elastic surface nets", MICCAI 1998.
    """
    nothing = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    if not mask.any():
        return nothing
    found = np.argwhere(mask)  # only around what is marked
    low, high = found.min(axis=0), found.max(axis=0) + 1
    part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
    for axis in range(3):
        part = _thinned(part, axis)
    scale = np.array(part.shape) / (high - low)
    field = gaussian_filter(np.pad(part, 3), SMOOTH) - np.float32(0.5)
    if not (field > 0).any():  # smaller than the blur
        field = np.pad(part, 3) - np.float32(0.5)
    points, faces = _net(field)
    return ((points - 3 + 0.5) / scale - 0.5 + low).astype(np.float32), faces


def _thinned(part: np.ndarray, axis: int) -> np.ndarray:
    """At most `LARGEST` along an axis, each the mean of those that became one."""
    length = part.shape[axis]
    if length <= LARGEST:
        return part
    starts = (np.arange(LARGEST) * length) // LARGEST
    sizes = np.diff([*starts, length]).astype(np.float32)
    shape = [1, 1, 1]
    shape[axis] = LARGEST
    return np.asarray(np.add.reduceat(part, starts, axis=axis) / sizes.reshape(shape))


def _net(field: Float32[np.ndarray, "d h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Where a field that is below 0 at its border passes 0."""
    inside = field > 0
    cells = np.array(field.shape) - 1
    corner = [
        tuple(slice(o, o + n) for o, n in zip(offset, cells, strict=True)) for offset in _CORNERS.tolist()
    ]
    count = np.zeros(cells, np.uint8)
    for at in corner:
        count += inside[at]
    crossed = (count > 0) & (count < 8)
    number = np.full(cells, -1, np.int32)
    number[crossed] = np.arange(crossed.sum(), dtype=np.int32)
    where = np.argwhere(crossed)
    total, crossings = np.zeros((len(where), 3)), np.zeros((len(where), 1))
    values = [field[at][crossed] for at in corner]
    for a, b in _EDGES:
        passes = (values[a] > 0) != (values[b] > 0)
        share = values[a][passes] / (values[a][passes] - values[b][passes])
        total[passes] += _CORNERS[a] + share[:, None] * (_CORNERS[b] - _CORNERS[a])
        crossings[passes] += 1
    return where + total / crossings, np.concatenate([_quads(inside, number, axis) for axis in range(3)])


def _quads(inside: np.ndarray, number: np.ndarray, axis: int) -> np.ndarray:
    """Two triangles for each edge along an axis that the surface crosses: between the four cells around it."""
    first, second = (other for other in range(3) if other != axis)
    if axis == 1:  # so that (axis, first, second) turns the same way for each
        first, second = second, first
    size = np.array(inside.shape)
    lower = [slice(1, n - 1) for n in size]
    lower[axis] = slice(0, size[axis] - 1)
    upper = list(lower)
    upper[axis] = slice(1, size[axis])
    out, back = inside[tuple(lower)] & ~inside[tuple(upper)], ~inside[tuple(lower)] & inside[tuple(upper)]

    def cell(at: np.ndarray, one: int, other: int) -> np.ndarray:
        at = at + [0 if a == axis else 1 for a in range(3)]
        at[:, first] -= one
        at[:, second] -= other
        return np.asarray(number[tuple(at.T)])

    faces = []
    for crossed, order in ((out, (3, 2, 1, 0)), (back, (0, 1, 2, 3))):
        at = np.argwhere(crossed)
        around = [cell(at, 1, 1), cell(at, 0, 1), cell(at, 0, 0), cell(at, 1, 0)]
        a, b, c, d = (around[n] for n in order)
        faces += [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    return np.concatenate(faces).astype(np.int32)
