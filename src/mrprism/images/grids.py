"""Whoever lays arrays over one another asks first whether they lie on one grid.

Two files may keep the same voxels in another order: NIfTI often runs towards the patient's right, front and top
where NRRD, MetaImage and DICOM run towards the left, back and top. Where the positions in both say that the voxels
are the same, one array is turned into the order of the other, exactly and without interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.content import FromFile, ImageFile
from mrprism.images.geometry import Geometry
from mrprism.images.slicing import Cut

OfFile = TypeVar("OfFile", bound=FromFile)
_RIGHT_ANGLES = 0.01  # how far a turn's cosines may lie from 0, 1 and -1


def in_order_of(file: OfFile, geometry: Geometry | None) -> OfFile:
    """The file with its voxels in the order of another's grid, if they are the same voxels; else as it is."""
    if file.geometry is None or geometry is None:
        return file
    found = reordering(file.geometry, geometry)
    if found is None:
        return file
    cut, lies = found
    spacing = None if file.spacing_mm is None else tuple(file.spacing_mm[axis] for axis in cut.axes)
    turned = replace(file, array=np.ascontiguousarray(cut.of(file.array)), geometry=lies, spacing_mm=spacing)
    if isinstance(turned, ImageFile) and turned.values is not None:
        turned = replace(turned, values=np.ascontiguousarray(cut.of(turned.values)))
    return turned


def apart_from(geometry: Geometry | None, file: FromFile) -> str | None:
    """How a file lies elsewhere than a grid, in words, the grid first; None where it does not, or nothing says where it lies."""
    if geometry is None or file.geometry is None or len(file.geometry.space) != len(geometry.space):
        return None
    return geometry.differs(file.geometry)


def reordering(lies: Geometry, onto: Geometry) -> tuple[Cut, Geometry] | None:
    """How the axes of a volume change places and direction to become those of another with the same voxels.

    Returns:
        The turn and the grid after it; None if there is nothing to turn, or turning does not do.
    """
    if len(lies.space) != 3 or len(onto.space) != 3:
        return None
    try:
        moves = (np.linalg.inv(onto.affine) @ lies.affine)[:3, :3]
    except np.linalg.LinAlgError:
        return None
    turn = np.rint(moves)
    orderly = (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()
    if not orderly or np.abs(moves - turn).max() > _RIGHT_ANGLES or np.array_equal(turn, np.eye(3)):
        return None
    back = np.eye(4)  # from the turned array's x, y, z to the old one's
    back[:3, :3] = turn.T
    source = [int(np.abs(row).argmax()) for row in turn]  # of each new axis, the old one
    sign = [int(row.sum()) for row in turn]
    for new, old in enumerate(source):
        if sign[new] < 0:
            back[old, 3] = lies.shape[old] - 1
    turned = Geometry(lies.affine @ back, tuple(lies.shape[old] for old in source))
    if turned.shape != onto.shape[:3] or onto.differs(turned) is not None:
        return None
    axes = tuple(2 - source[new] for new in (2, 1, 0))  # our arrays have x last
    return Cut(axes, (sign[2], sign[1], sign[0])), turned  # type: ignore[arg-type]


def apart(one: FromFile, other: FromFile) -> str | None:
    """How two files of one size lie on different grids, in words; None if nothing says that they do."""
    if one.geometry is not None and other.geometry is not None:
        return one.geometry.differs(other.geometry)
    ours, theirs = one.spacing_mm, other.spacing_mm
    if ours is None or theirs is None or len(ours) != len(theirs) or np.allclose(ours, theirs, rtol=0.01):
        return None
    first, second = (" × ".join(f"{step:.4g}" for step in steps) for steps in (ours, theirs))
    return f"spacing {first} mm against {second} mm"


def one_grid(files: Sequence[OfFile]) -> list[OfFile]:
    """Masks of one image, voxel upon voxel: all in the order of the first that knows its place.

    Raises:
        InputError: They have several sizes, or lie in several places; both files and both values are named.
    """
    like = next((file for file in files if file.geometry is not None), files[0])
    laid = [in_order_of(file, like.geometry) for file in files]
    for file in laid:
        place = apart(like, file)
        if file.array.shape != like.array.shape:
            more = f" ({place})" if place else ""
            raise InputError(
                f"masks differ in shape: '{like.path}' has {like.array.shape}, '{file.path}' has {file.array.shape}{more}"
            )
        if place is not None:
            raise InputError(f"masks '{like.path}' and '{file.path}' lie on different grids: {place}")
    return laid
