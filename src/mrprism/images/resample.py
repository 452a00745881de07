"""From one grid of voxels to another: nearest for masks, linear for images.

SciPy's, which is always installed, and not SimpleITK's; the tests hold them against each other.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped
from scipy import ndimage

from mrprism.images.geometry import Geometry


def resample_labels(
    labels: Shaped[np.ndarray, "*space"], lies: Geometry, onto: Geometry
) -> Shaped[np.ndarray, "*other"]:
    """A mask or label map on another grid: every voxel takes the value of the nearest one, 0 outside."""
    kind = np.uint8 if labels.dtype == np.bool_ else labels.dtype
    found = _transformed(labels.astype(kind, copy=False), lies, onto, order=0, mode="grid-constant")
    return found.astype(labels.dtype, copy=False)


def resample_image(
    channel: Shaped[np.ndarray, "*space"], lies: Geometry, onto: Geometry, *, outside: float = 0.0
) -> Shaped[np.ndarray, "*other"]:
    """One channel of an image on another grid, linearly between voxels; ``outside`` where the image is not.

    Nothing is smoothed first: onto a coarser grid, details alias.
    """
    values = _transformed(channel, lies, onto, order=1, mode="nearest")
    inside = _transformed(np.ones(channel.shape, np.uint8), lies, onto, order=0, mode="grid-constant")
    return np.where(inside, values, values.dtype.type(outside))


def _transformed(array: np.ndarray, lies: Geometry, onto: Geometry, *, order: int, mode: str) -> np.ndarray:
    shape = (*onto.shape, 1)[:3][::-1]  # z, y, x
    to_source = np.linalg.inv(lies.affine) @ onto.affine
    matrix, offset = to_source[:3, :3][::-1, ::-1], to_source[:3, 3][::-1]
    volume = array if array.ndim == 3 else array[None]
    found = ndimage.affine_transform(volume, matrix, offset, shape, order=order, mode=mode, prefilter=False)
    return np.asarray(found.reshape(onto.space[::-1]))
