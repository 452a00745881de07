"""Where the frames of a DICOM SEG lie: on the grid of its series, or on one of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.datasets.dicom import LPS, Series
from mrprism.images import Geometry, limit_pixels

_OFF_GRID = 0.02  # voxels a frame may lie beside the grid

Area = tuple[int, slice, slice]  # plane, rows, columns of a volume


@dataclass(frozen=True)
class Frame:
    """One plane of a segmentation, left-posterior-superior as DICOM has it."""

    along: np.ndarray  # millimetres from column to column
    down: np.ndarray  # from row to row
    position: np.ndarray  # of the first pixel, in millimetres
    distance: float | None  # to the next plane in millimetres, where the file says so
    size: tuple[int, int]  # rows, columns

    def affine(self, step: np.ndarray) -> np.ndarray:
        """From column, row and plane to millimetres, where ``step`` leads from plane to plane."""
        affine = np.eye(4)
        affine[:3] = np.column_stack([self.along, self.down, step, self.position])
        return affine


def read_frames(header: Any, path: Path) -> list[Frame]:
    """Where every frame lies, in the order of the pixels."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    return [
        _frame(group, shared, (int(header.Rows), int(header.Columns)), path)
        for group in header.get("PerFrameFunctionalGroupsSequence", [])
    ]


def macro(group: Any, shared: Any, key: str, path: Path) -> Any:
    """What a frame says of itself, or what the file says of all."""
    for place in (group, shared):
        found = place.get(key)
        if found:
            return found[0]
    raise InputError(f"'{path}' has a frame without {key}")


def on_series(frames: Sequence[Frame], volume: Series, path: Path) -> Iterator[Area]:
    """The voxels of the series that each frame covers.

    Raises:
        InputError: One lies between its voxels, outside of it, or on another grid.
    """
    for frame in frames:
        yield _area(frame, volume, path)


def own_grid(frames: Sequence[Frame], path: Path) -> tuple[Geometry, list[Area]]:
    """The grid that the frames make among themselves, and the voxels of it that each covers.

    Planes on which nothing is drawn need not be there.

    Raises:
        InputError: They are not planes of one stack.
    """
    first = frames[0]
    normal = np.cross(first.along, first.down)
    normal /= np.linalg.norm(normal)
    heights = np.array([normal @ (frame.position - first.position) for frame in frames])
    gaps = np.diff(np.unique(np.round(heights, 3)))
    distance = first.distance or (float(gaps.min()) if len(gaps) else 1.0)
    planes = (heights - heights.min()) / distance
    for frame, height, plane in zip(frames, heights, planes, strict=True):
        beside = frame.position - first.position - height * normal
        alike = np.allclose([frame.along, frame.down], [first.along, first.down], rtol=0, atol=1e-4)
        if not alike or np.abs(beside).max() > 0.01 or abs(plane - round(plane)) > _OFF_GRID:
            raise InputError(
                f"'{path}' has frames at {_numbers(first.position)} and {_numbers(frame.position)} mm that are not "
                f"planes of one stack, {distance:.4g} mm apart, so it cannot be brought onto another grid"
            )
    rows, columns = first.size
    lowest = frames[int(heights.argmin())]
    shape = columns, rows, round(float(planes.max())) + 1
    limit_pixels(path, shape)
    areas = [(round(float(plane)), slice(0, rows), slice(0, columns)) for plane in planes]
    return Geometry(LPS @ lowest.affine(normal * distance), shape), areas


def _frame(group: Any, shared: Any, size: tuple[int, int], path: Path) -> Frame:
    orientation = macro(group, shared, "PlaneOrientationSequence", path).ImageOrientationPatient
    measures = macro(group, shared, "PixelMeasuresSequence", path)
    position = macro(group, shared, "PlanePositionSequence", path).ImagePositionPatient
    row_mm, column_mm = (float(v) for v in measures.PixelSpacing)
    along, down = np.array([float(v) for v in orientation]).reshape(2, 3)
    place = np.array([float(v) for v in position])
    distance = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0) or None
    if (
        not np.isfinite([*along, *down, *place, row_mm, column_mm, distance or 0]).all()
        or (distance or 1) < 0
    ):
        raise InputError(f"'{path}' has a frame whose place is no number")
    return Frame(along * column_mm, down * row_mm, place, distance, size)


def _area(frame: Frame, volume: Series, path: Path) -> Area:
    affine = LPS @ volume.geometry.affine
    lies = frame.affine(affine[:3, 2])
    shift = np.linalg.inv(affine) @ lies
    where = volume.files[0].parent
    if np.abs(shift[:3, :3] - np.eye(3)).max() * max(volume.array.shape) > 0.5:
        lies[:3, 3] = affine[:3, 3]  # every frame lies in another place than the first slice
        how = volume.geometry.differs(Geometry(LPS @ lies, volume.geometry.shape)) or "another grid"
        raise InputError(
            f"'{path}' is not on the grid of the series it was drawn on, '{where}': {how} (series first)"
        )
    offset = shift[:3, 3]
    column, row, plane = (int(v) for v in np.round(offset))
    if np.abs(offset - np.round(offset)).max() > _OFF_GRID:
        raise InputError(
            f"'{path}' has a frame between the voxels of its series '{where}', at {_numbers(offset)}; "
            "expected whole voxels"
        )
    depth, height, width = volume.array.shape
    rows, columns = frame.size
    if not (0 <= plane < depth and 0 <= row <= height - rows and 0 <= column <= width - columns):
        raise InputError(
            f"'{path}' has a frame of {rows} × {columns} outside its series '{where}', at {_numbers(offset)} of "
            f"{width} × {height} × {depth}"
        )
    return plane, slice(row, row + rows), slice(column, column + columns)


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values + 0.0) + ")"
