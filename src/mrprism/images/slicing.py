"""Volumes as stacks of slices: along which axis, in which order, with which neighbours.

A plane is named by the file's own axis, `z` (the last in NIfTI and NRRD, from slice to slice in DICOM), `y`
or `x`; or by the patient's: `axial`, `coronal`, `sagittal`. The patient's needs a position in the file, and
turns every volume the same way, however it was stored: axial slices run upwards with the front at the top,
coronal ones from front to back and sagittal ones from right to left with the head at the top; the patient's
right (of sagittal slices the front) is on the left, as on a viewing station. Oblique volumes are not
resampled: the nearest axis is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.images.geometry import Geometry

Plane = Literal["axial", "coronal", "sagittal", "z", "y", "x"]
PLANES: tuple[str, ...] = get_args(Plane)

# slice, row, column: which of right-anterior-superior it runs along, and whether with it or against it
_PATIENT = {
    "axial": ((2, 1), (1, -1), (0, -1)),
    "coronal": ((1, -1), (2, -1), (0, -1)),
    "sagittal": ((0, -1), (2, -1), (1, -1)),
}
_FILE = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (2, 0, 1)}  # of D, H, W: slice, row, column


@dataclass(frozen=True)
class Slicing:
    """How volumes are cut for a network that takes images."""

    plane: Plane = "z"
    neighbours: int = 0  # slices on each side that come along as channels
    drawn_only: bool = False  # in training, leave out slices on which nobody drew anything

    def channels(self, of_image: int) -> int:
        """How many channels a network gets."""
        return of_image * (2 * self.neighbours + 1)

    def near(self, index: int, depth: int) -> tuple[int, ...]:
        """A slice and its neighbours, in order; beyond an end of the volume its last slice stands again."""
        steps = range(-self.neighbours, self.neighbours + 1)
        return tuple(min(max(index + step, 0), depth - 1) for step in steps)

    def cut(self, sample: MultiRaterSample) -> Cut:
        """How slices lie in a volume.

        Raises:
            InputError: It is no volume, or the patient's axes are asked for and it does not know them.
        """
        if len(sample.space) != 3:
            raise InputError(
                f"case '{sample.name}' is an image and not a volume; it cannot be cut into slices"
            )
        if self.plane in _FILE:
            return Cut(_FILE[self.plane], (1, 1, 1))
        geometry: Geometry | None = getattr(sample, "geometry", None)  # samples read from files have one
        if geometry is None:
            raise InputError(
                f"case '{sample.name}' has no position in the patient, so '{self.plane}' means nothing for it: "
                "name the axis of its file, z, y or x"
            )
        return _patient_cut(geometry, self.plane, sample.name)


@dataclass(frozen=True)
class Cut:
    """Where slice, row and column run in arrays (..., D, H, W)."""

    axes: tuple[int, int, int]  # 0, 1, 2 for D, H, W
    steps: tuple[int, int, int]  # -1: against the array's order

    def of(self, array: np.ndarray) -> np.ndarray:
        """The array as (..., slice, row, column); a view."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        first, second, third = self.steps
        return turned[..., ::first, ::second, ::third]

    def back(self, array: np.ndarray) -> np.ndarray:
        """From (..., slice, row, column) to (..., D, H, W); a view."""
        lead = array.ndim - 3
        first, second, third = self.steps
        array = array[..., ::first, ::second, ::third]
        return array.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))


def cut_volume(sample: MultiRaterSample, cut: Cut) -> MultiRaterSample:
    """The volume turned so that its slices come first; nothing is copied."""
    return MultiRaterSample(
        name=sample.name,
        image=None if sample.image is None else cut.of(sample.image),
        masks=cut.of(sample.masks),
        rated=sample.rated,
        reference=None if sample.reference is None else cut.of(sample.reference),
        group=sample.group,
        diagnosis=sample.diagnosis,
        spacing_mm=None if sample.spacing_mm is None else tuple(sample.spacing_mm[axis] for axis in cut.axes),
    )


def slice_of(volume: MultiRaterSample, index: int, slicing: Slicing | None = None) -> MultiRaterSample:
    """One slice of a volume that `cut_volume` has turned; with a slicing, its neighbours as channels."""
    near = (index,) if slicing is None else slicing.near(index, volume.space[0])
    image = None
    if volume.image is not None:
        image = np.ascontiguousarray(np.concatenate([volume.image[:, at] for at in near]))
    return MultiRaterSample(
        name=f"{volume.name}, slice {index}",
        image=image,
        masks=np.ascontiguousarray(volume.masks[:, :, index]),
        rated=volume.rated,
        reference=None if volume.reference is None else np.ascontiguousarray(volume.reference[:, index]),
        group=volume.group,
        diagnosis=volume.diagnosis,
    )


@dataclass(frozen=True)
class OneSlice:
    """A slice of a volume, and what lies on each side of it."""

    sample: MultiRaterSample  # its image without neighbours
    planes: dict[
        int, np.ndarray
    ]  # by their place in the volume, in order: (channel, row, column) of it and them
    near: tuple[int, ...]  # the places of its channels; at an end of the volume the last slice stands again


def slices_of(sample: MultiRaterSample, slicing: Slicing) -> Iterator[OneSlice]:
    """The slices of a volume one after the other, those that are to be trained on.

    Raises:
        InputError: It is no volume, or the patient's axes are asked for and it does not know them.
    """
    volume = cut_volume(sample, slicing.cut(sample))
    depth = volume.space[0]
    wanted = np.ones(depth, bool)
    if slicing.drawn_only:
        wanted &= volume.masks.any(axis=(0, 1, 3, 4))
    for index in np.flatnonzero(wanted).tolist():
        near = slicing.near(index, depth)
        yield OneSlice(slice_of(volume, index), {at: volume.picture[:, at] for at in near}, near)


def most_drawn(volume: MultiRaterSample) -> int:
    """The slice on which the raters marked most; the middle one where they marked nothing."""
    marked = volume.masks.sum(axis=(0, 1, 3, 4))
    return int(marked.argmax()) if marked.any() else len(marked) // 2


def _patient_cut(geometry: Geometry, plane: str, name: str) -> Cut:
    import nibabel

    orientation = nibabel.orientations.io_orientation(
        geometry.affine
    )  # of x, y, z: axis of the patient, sign
    if np.isnan(orientation).any():
        raise InputError(f"case '{name}' has a position that does not say which way '{plane}' lies")
    file_axis = {int(axis): (number, int(sign)) for number, (axis, sign) in enumerate(orientation)}
    runs = [(*file_axis[axis], wanted) for axis, wanted in _PATIENT[plane]]
    axes = tuple(2 - number for number, _, _ in runs)  # x is the last axis of our arrays
    steps = tuple(sign * wanted for _, sign, wanted in runs)
    return Cut(axes, steps)  # type: ignore[arg-type]
