"""A case as it is looked at: an image in memory, a volume in temporary files from which slices are read."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from mrprism.agreement.case import measure, pairs
from mrprism.core.errors import InputError
from mrprism.datasets.case_files import (
    further_readings,
    read_case_image,
    read_drawn,
    read_grid,
    read_votes,
    reading_of,
    spacing_of,
)
from mrprism.datasets.dataset import Dataset, FileSample
from mrprism.datasets.dicom import read_series
from mrprism.datasets.manifest import Case, Manifest
from mrprism.datasets.open_image import is_series
from mrprism.images import ImageFile, Window, format_of, read_values
from mrprism.images.planes import PlaneFile
from mrprism.images.slicing import PLANES, Cut, Slicing
from mrprism.output.colours import BLANK

_ENOUGH = 1_000_000  # values from which the first window is estimated


class OpenCase:
    """One case, each of its files read once.

    A grey image of one NIfTI, NRRD or DICOM file keeps the values of the file (Hounsfield units, say), so that any
    window can be laid over it; others are in [0, 1].
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        """Read it.

        Raises:
            InputError: A file cannot be read, or does not fit its image.
        """
        self.name = name
        self.root, self.manifest, self.case = _entry(dataset, name)
        values, like, self.own_units = _values(self.root, self.manifest, self.case)
        self.values = _kept(values, values.shape)
        self.space: tuple[int, ...] = values.shape[1:]
        nothing = np.zeros(
            (0, *self.space), np.float32
        )  # its place in the patient, for what is written beside it
        self.like = ImageFile(nothing, like.spacing_mm, like.geometry, like.format, like.path)
        self.geometry = like.geometry
        self.colour = isinstance(self.case.image, str) and len(values) == 3
        spacing = spacing_of(self.case, like)
        self.spacing_mm = spacing if spacing is not None and len(spacing) == len(self.space) else None
        self.masks, self.rated = self._masks(like)
        self.reference = self._reference(like)
        votes = read_votes(self.root, self.manifest, self.case, like) if self.case.votes else None
        self.votes = None if votes is None else _kept(votes, votes.shape)

    def _masks(self, like: ImageFile) -> tuple[np.ndarray, np.ndarray]:
        raters, structures = self.manifest.rater_names, self.manifest.structures
        rated = np.zeros((len(raters), len(structures)), bool)

        def each() -> Iterable[np.ndarray]:
            for r, rater in enumerate(raters):
                drawn = {}
                if rater in self.case.masks:
                    drawn = dict(
                        read_drawn(self.root, self.manifest, self.case, self.case.masks[rater], like)
                    )
                for c in range(len(structures)):
                    rated[r, c] = c in drawn
                    yield drawn.get(c, np.zeros(self.space, bool))

        masks = _kept(each(), (*rated.shape, *self.space))
        return masks, rated

    def _reference(self, like: ImageFile) -> dict[int, np.ndarray]:
        if self.case.reference is None:
            return {}
        return dict(read_drawn(self.root, self.manifest, self.case, self.case.reference, like))

    # ---- slices ---------------------------------------------------------------------------------

    @property
    def planes(self) -> tuple[str, ...]:
        """The ways it can be cut: a volume that knows the patient by the patient's axes; an image none."""
        if len(self.space) < 3:
            return ()
        return PLANES[:3] if self.geometry is not None else PLANES[3:]

    def cut(self, plane: str) -> Cut:
        """How slices of a plane lie in the volume.

        Raises:
            InputError: It cannot be cut so.
        """
        if plane not in PLANES or not self.planes:
            known = ", ".join(self.planes) or "none, for it is an image"
            raise InputError(f"case '{self.name}' has no plane '{plane}'; known: {known}")
        return Slicing(plane).cut(self.sample(np.broadcast_to(np.float32(0), self.values.shape)))  # type: ignore[arg-type]

    def flat(self, array: np.ndarray, plane: str, index: int) -> np.ndarray:
        """`slice_at`, copied where it does not lie in one piece."""
        found = self.slice_at(array, plane, index)
        return np.ascontiguousarray(found) if self.planes else found

    def slice_at(self, array: np.ndarray, plane: str, index: int) -> np.ndarray:
        """A slice of an array (..., *space), where it lies; of an image all of it.

        Raises:
            InputError: There is no such slice.
        """
        if not self.planes:
            return array
        turned = self.cut(plane).of(array)
        if not 0 <= index < turned.shape[-3]:
            last = turned.shape[-3] - 1
            raise InputError(f"case '{self.name}' has no {plane} slice {index}; expected 0 to {last}")
        return turned[..., index, :, :]

    def pixel_aspect(self, plane: str) -> float:
        """Height of a pixel of a slice over its width."""
        if self.spacing_mm is None:
            return 1.0
        row, column = (-2, -1) if not self.planes else self.cut(plane).axes[1:]
        return float(self.spacing_mm[row] / self.spacing_mm[column])

    def disputed(self, plane: str) -> list[int]:
        """For every slice, on how many pixels raters differ, over all structures."""
        return [int(n) for n in self.cut(plane).of(self._split).sum(axis=(1, 2), dtype=np.int64)]

    @cached_property
    def _split(self) -> np.ndarray:
        """(D, H, W) for how many structures raters differ."""
        split = np.zeros(self.space, np.uint8)
        for c, rated in enumerate(self.rated.T):
            for z in range(self.space[0] if rated.any() else 0):
                masks = self.masks[rated, c, z]
                split[z] += masks.any(axis=0) & ~masks.all(axis=0)
        return split

    def share(self, structure: int, plane: str, index: int) -> np.ndarray:
        """Share of those who did a structure that marked each pixel of a slice."""
        if self.votes is not None and self.case.voters:
            return np.asarray(self.flat(self.votes[structure], plane, index) / self.case.voters)
        rated = self.rated[:, structure]
        masks = self.flat(self.masks[:, structure], plane, index)
        return np.asarray(masks[rated].mean(axis=0) if rated.any() else np.zeros(masks.shape[1:]))

    # ---- the whole case -------------------------------------------------------------------------

    def sample(self, image: np.ndarray) -> FileSample:
        """The case as the rest of mrprism takes it, with this image."""
        return FileSample(
            name=self.name,
            image=image,
            masks=self.masks,
            rated=self.rated,
            spacing_mm=self.spacing_mm,
            geometry=self.geometry,
        )

    @cached_property
    def scaled(self) -> FileSample:
        """The case with intensities in [0, 1], as networks are given it."""
        if self.case.image is not None and not self.own_units:  # then that is how it was read
            return self.sample(self.values)
        image, _ = read_case_image(self.root, self.manifest, self.case)
        return self.sample(_kept(image, image.shape))

    @cached_property
    def empty(self) -> np.ndarray:
        """(R, C): who did a structure and marked nothing."""
        marked = [mask.any() for drawn in self.masks for mask in drawn]
        empty: np.ndarray = self.rated & ~np.array(marked, bool).reshape(self.rated.shape)
        return empty

    @cached_property
    def dice(self) -> np.ndarray:
        """(C, R, R) Dice of every two raters; NaN where one of them did not do the structure."""
        found = np.full((self.rated.shape[1], len(self.rated), len(self.rated)), np.nan)
        first, second = pairs(len(self.rated))
        for c, rated in enumerate(self.rated.T if len(first) else ()):
            dice = measure(self.masks[:, c], rated, distances=False).dice
            found[c, first, second] = found[c, second, first] = dice
        return found

    @property
    def mean_dice(self) -> float | None:
        """Of two raters: mean over pairs, then structures. The number by which cases are listed."""
        means = [float(np.nanmean(table)) for table in self.dice if not np.isnan(table).all()]
        return float(np.mean(means)) if means else None

    @cached_property
    def again(self) -> dict[tuple[int, int, int], np.ndarray]:
        """(rater, reading, structure): what a rater drew when the case was read again; reading 2 is the second."""
        raters = self.manifest.rater_names
        found: dict[tuple[int, int, int], np.ndarray] = {}
        for n in further_readings(self.case):
            for rater, drawn in reading_of(self.case, n).items():
                for c, mask in read_drawn(self.root, self.manifest, self.case, drawn, self.like):
                    found[raters.index(rater), n, c] = _kept([mask], mask.shape)
        return found

    def dice_again(self, rater: int, structure: int, mask: np.ndarray) -> float | None:
        """Dice of a further reading with the first; None where there is no first."""
        if not self.rated[rater, structure]:
            return None
        return float(
            measure(np.stack([self.masks[rater, structure], mask]), np.ones(2, bool), distances=False).dice[0]
        )

    def most_disputed(self, plane: str) -> int:
        """The slice raters differ on most; the middle where they never do."""
        disputed = self.disputed(plane)
        return int(np.argmax(disputed)) if any(disputed) else len(disputed) // 2

    def patient_mm(self, plane: str, index: int, row: int, column: int) -> list[float] | None:
        """Where a pixel lies: right, anterior, superior in millimetres; None where the file does not say."""
        if not self.planes or self.geometry is None:
            return None
        cut, voxel = self.cut(plane), [0, 0, 0]
        for axis, step, at in zip(cut.axes, cut.steps, (index, row, column), strict=True):
            voxel[axis] = at if step > 0 else self.space[axis] - 1 - at
        there = self.geometry.affine @ [*voxel[::-1], 1.0]
        return [round(float(value), 1) + 0.0 for value in there[:3]]

    @cached_property
    def range(self) -> Window:
        """Smallest and largest value."""
        return (float(self.values.min()), float(self.values.max())) if self.own_units else (0.0, 1.0)

    @cached_property
    def window(self) -> Window:
        """What is black and what is white at first: as the data set says, else nearly all there is."""
        if not self.own_units:
            return 0.0, 1.0
        given = self.case.window or self.manifest.window
        if given is not None:
            return given
        values = self.values.reshape(-1)
        low, high = np.percentile(values[:: max(1, len(values) // _ENOUGH)], [0.5, 99.5])
        return (float(low), float(high)) if low < high else (self.range[0], self.range[0] + 1.0)


def _entry(dataset: Dataset, name: str) -> tuple[Path, Manifest, Case]:
    found = dataset.on_disk(name)
    if found is None:
        raise InputError(
            f"data set '{dataset.name}' is not on disk; expected one that was opened from a folder"
        )
    return found


def _values(root: Path, manifest: Manifest, case: Case) -> tuple[np.ndarray, ImageFile, bool]:
    """(channel, *space), a file that knows size and place, and whether the values are the file's own."""
    if case.image is None:
        grid = read_grid(root, case)
        return np.broadcast_to(np.float32(BLANK), (1, *grid.array.shape[1:])), grid, False
    path = root / case.image if isinstance(case.image, str) and len(manifest.channels) == 1 else None
    if path is not None and (is_series(path) or format_of(path) in ("nifti", "nrrd", "metaimage", "npy")):
        try:
            found = read_series(path) if path.is_dir() else read_values(path)
            nothing = np.broadcast_to(np.float32(0), (1, *found.array.shape))
            like = ImageFile(nothing, found.spacing_mm, found.geometry, "volume", path)
            return found.array[None], like, True
        except InputError:
            pass  # several channels, or values that are not finite: the reader of images says so
    image, first = read_case_image(root, manifest, case)
    return image, first, False


def _kept(arrays: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Images or volumes of one size as an array of this shape; volumes go to a temporary file, one at a time."""
    file: PlaneFile | None = None
    images: list[np.ndarray] = []
    for array in arrays:
        if array.ndim < 3:
            images.append(array)
            continue
        file = PlaneFile(array.shape, array.dtype) if file is None else file
        file.append(array)
    if file is not None:
        return file.mapped().reshape(shape)
    return np.stack(images).reshape(shape) if images else np.zeros(shape, bool)
