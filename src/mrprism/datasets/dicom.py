"""DICOM: series of slices to volumes, checked before they are believed.

A slice's place comes from ImagePositionPatient and ImageOrientationPatient, never from its name or
number. Values are the stored ones times RescaleSlope plus RescaleIntercept, for CT Hounsfield units.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from mrprism.core.errors import InputError
from mrprism.datasets.dicom_bounds import bound_pixels
from mrprism.datasets.tree import entries
from mrprism.images import Geometry, limit_pixels

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between DICOM's left-posterior-superior and ours
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_OF_A_SLICE = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_NO_IMAGES = {"SEG", "RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "REG", "DOC"}  # modalities
_CROSS_SECTIONS = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in (2, 4, 128))  # CT, MR, PET
_DEFLATED = "1.2.840.10008.1.2.1.99"
_DIRECTORY = "1.2.840.10008.1.3.10"
_UNEVEN = 0.02  # of a slice's distance; scanners round positions to about 0.01 mm
_TILT = 1e-3  # cosines; headers keep some six digits


@dataclass(frozen=True)
class Series:
    """A volume, and where it lies."""

    array: Shaped[np.ndarray, "D H W"]  # rescaled: whole numbers of 16 or 32 bits, or float32
    spacing_mm: tuple[float, float, float]  # slice, row, column
    geometry: Geometry  # its affine is right-anterior-superior, as everywhere in this package
    files: tuple[Path, ...]  # one a slice, in the order of the array
    slices: tuple[str, ...]  # their SOP instance UIDs
    uid: str  # the series
    frame_of_reference: str
    patient: str  # PatientID; empty where it was taken out
    modality: str
    notes: tuple[str, ...] = ()  # what headers say that was not believed

    @property
    def origin(self) -> Float[np.ndarray, "3"]:
        """The centre of the first voxel in millimetres, left-posterior-superior as DICOM has it."""
        return np.asarray((LPS @ self.geometry.affine)[:3, 3])

    @property
    def direction(self) -> Float[np.ndarray, "9"]:
        """Direction cosines of x, y and z as columns, row by row, left-posterior-superior."""
        axes = (LPS @ self.geometry.affine)[:3, :3]
        return np.asarray((axes / self.geometry.spacing).ravel())


def read_series(source: Path | Sequence[Path]) -> Series:
    """Read one series of slices as a volume, from the first slice along its normal to the last.

    Args:
        source: The folder that holds it, or its files. Files that are not DICOM, segmentations, reports and
            pictures without a place are passed over.

    Raises:
        InputError: No slices, more than one series, slices of different size, orientation or pixel
            spacing, two at one place, one missing, uneven distances, a tilted gantry, or a broken file.
    """
    where = source if isinstance(source, Path) else source[0].parent
    with readable(where):
        return _read(source, where)


def _read(source: Path | Sequence[Path], where: Path) -> Series:
    files = dicom_files(source) if isinstance(source, Path) else list(source)
    found = [(header, path) for path in files if is_slice(header := read_header(path), path)]
    if not found:
        raise InputError(f"'{where}' holds no DICOM slice with pixels and a position")
    first, first_path = found[0]
    for header, path in found:
        with readable(path):
            _alike(first, first_path, header, path)
    normal = np.cross(*_orientation(first, first_path))
    found.sort(key=lambda pair: float(normal @ _position(*pair)))
    with readable(found[0][1]):
        distance = _distance(found, normal)
    rows, columns = int(first.Rows), int(first.Columns)
    limit_pixels(where, (len(found), rows, columns))
    with readable(first_path):
        whole = all(_whole(*pair) for pair in found)
        row_mm, column_mm = (float(value) for value in first.PixelSpacing)
    array = np.empty((len(found), rows, columns), np.int32 if whole else np.float32)
    for plane, (_, path) in zip(array, found, strict=True):
        plane[:] = _pixels(path, plane.shape)
    along, down = _orientation(first, first_path)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([along * column_mm, down * row_mm, normal * distance])
    affine[:3, 3] = _position(*found[0])
    return Series(
        array=_compact(array),
        spacing_mm=(distance, row_mm, column_mm),
        geometry=Geometry(LPS @ affine, (columns, rows, len(found))),
        files=tuple(path for _, path in found),
        slices=tuple(str(header.get("SOPInstanceUID", "")) for header, _ in found),
        uid=str(first.get("SeriesInstanceUID", "")),
        frame_of_reference=str(first.get("FrameOfReferenceUID", "")),
        patient=str(first.get("PatientID") or ""),
        modality=str(first.get("Modality", "")),
        notes=_said_otherwise(found, distance),
    )


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, known by their content."""
    return [path for path in entries(folder) if path.is_file() and _is_dicom(path)]


def read_header(path: Path, *, pixels: bool = False) -> Any:
    """A file's data elements as pydicom has them (pydicom comes with the extra `dicom`).

    Args:
        pixels: Read the pixels, too.

    Raises:
        InputError: The file is missing, broken, no DICOM, or deflated as a whole: pydicom unpacks such a file
            in one go, however large it grows.
    """
    import pydicom

    try:
        with quiet():
            packed = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED
            if packed:
                raise InputError(
                    f"'{path}' is deflated as a whole, which is not read; expected another transfer syntax "
                    "(dcmconv +te writes it anew)"
                )
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except InputError:
        raise
    except Exception as error:  # pydicom raises what it likes on broken files
        raise InputError(f"'{path}' is broken or not a DICOM file: {error}") from error


def is_slice(header: Any, path: Path) -> bool:
    """Whether a file is one slice of an image, with a place in the patient.

    Raises:
        InputError: It should be one, but was cut short or lost its place.
    """
    with readable(path):
        if (
            header.get("Modality") in _NO_IMAGES
            or header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY
        ):
            return False
        lacking = [key for key in _OF_A_SLICE if header.get(key) is None]
        if lacking and (str(header.get("SOPClassUID")) in _CROSS_SECTIONS or header.get("Rows") is None):
            raise InputError(f"'{path}' is not a slice that can be placed: it lacks {lacking[0]}")
        return not lacking


def is_segmentation(header: Any, path: Path) -> bool:
    with readable(path):
        return str(header.get("SOPClassUID", "")) in _SEGMENTATIONS


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What headers should hold and do not, as an error that names the file; without pydicom's warnings."""
    try:
        with quiet():
            yield
    except (InputError, MemoryError):
        raise
    except OSError as error:  # of the system, or pydicom's own, which says no more than where
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except Exception as error:  # pydicom has exceptions of its own that are none of Python's
        raise InputError(f"'{path}' has a header that cannot be read: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of pydicom about headers that bend the standard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".ima")
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error


def _alike(first: Any, first_path: Path, header: Any, path: Path) -> None:
    for key, name in (
        ("SeriesInstanceUID", "another series"),
        ("FrameOfReferenceUID", "another frame of reference"),
        ("Rows", "another number of rows"),
        ("Columns", "another number of columns"),
    ):
        here, there = header.get(key), first.get(key)
        if here != there:
            raise InputError(f"'{path}' belongs to {name} than '{first_path}': {here} against {there}")
    if int(header.get("NumberOfFrames") or 1) > 1 or int(header.get("SamplesPerPixel") or 1) > 1:
        raise InputError(f"'{path}' holds several frames or colours; expected one grey slice a file")
    turned = np.abs(np.subtract(_orientation(header, path), _orientation(first, first_path))).max()
    if turned > _TILT:
        raise InputError(f"'{path}' lies in another direction than '{first_path}'; expected parallel slices")
    ours, theirs = ([float(v) for v in h.PixelSpacing] for h in (header, first))
    if not np.allclose(ours, theirs, rtol=1e-4) or min(ours) <= 0 or not np.isfinite(ours).all():
        raise InputError(f"'{path}' has the pixel spacing {ours} mm, '{first_path}' {theirs} mm")


def _orientation(header: Any, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along a row and down a column."""
    with readable(path):
        axes = np.array([float(v) for v in header.ImageOrientationPatient]).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > _TILT:
        raise InputError(f"'{path}' has rows and columns that are not at right angles: {axes.ravel()}")
    return axes[0], axes[1]


def _position(header: Any, path: Path) -> np.ndarray:
    with readable(path):
        position = np.array([float(v) for v in header.ImagePositionPatient])
    if position.shape != (3,) or not np.isfinite(position).all():
        raise InputError(f"'{path}' has the position {position}; expected three numbers")
    return position


def _distance(found: list[tuple[Any, Path]], normal: np.ndarray) -> float:
    """Millimetres from slice to slice, if it is the same everywhere."""
    header, path = found[0]
    if len(found) == 1:
        thickness = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0)
        if not thickness > 0:
            raise InputError(f"'{path}' is a single slice without a thickness, so its volume is not known")
        return thickness
    positions = np.array([_position(*pair) for pair in found])
    steps = np.diff(positions @ normal)
    usual = float(np.median(steps))
    for number, step in enumerate(steps, start=1):
        before, after = found[number - 1][1], found[number][1]
        if abs(step) < 1e-4:
            raise InputError(f"'{before}' and '{after}' are two slices at one place")
        if abs(step - usual) > _UNEVEN * usual:
            gap = round(step / usual)
            lacking = gap > 1 and abs(step - gap * usual) <= _UNEVEN * usual * gap
            what = f"{gap - 1} slice(s) missing between them" if lacking else "slices are not evenly spaced"
            raise InputError(
                f"'{before}' and '{after}' lie {step:.3f} mm apart, others {usual:.3f} mm: {what}"
            )
    aside = positions - positions[0] - np.outer((positions - positions[0]) @ normal, normal)
    if np.linalg.norm(aside, axis=1).max() > _UNEVEN * usual:
        raise InputError(f"'{found[-1][1]}' is shifted sideways against '{path}' (a tilted gantry?)")
    return float(steps.mean())


def _said_otherwise(found: list[tuple[Any, Path]], distance: float) -> tuple[str, ...]:
    """A note where a header gives another distance from slice to slice than the positions, which are believed."""
    told = {float(header.get("SpacingBetweenSlices") or distance) for header, _ in found}
    wrong = sorted(value for value in told if abs(abs(value) - distance) > 0.01 * distance)
    if len(found) == 1 or not wrong:
        return ()
    return (
        f"its slices lie {distance:.4g} mm apart by their positions, which are taken, not {wrong[0]:.4g} mm as they say",
    )


def _whole(header: Any, path: Path) -> bool:
    """Whether rescaled values are whole numbers of at most 32 bits."""
    slope, intercept = _rescaling(header, path)
    return slope == 1 and abs(intercept) < 1e6 and intercept == int(intercept) and header.BitsAllocated <= 16


def _compact(array: np.ndarray) -> np.ndarray:
    """Whole numbers in 16 bits where they fit."""
    if array.dtype.kind == "f":
        return array
    low, high = int(array.min()), int(array.max())
    for kind in (np.int16, np.uint16):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array


def _rescaling(header: Any, path: Path) -> tuple[float, float]:
    with readable(path):
        slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    if not np.isfinite([slope, intercept]).all():
        raise InputError(f"'{path}' has the rescaling {slope}, {intercept}; expected finite numbers")
    return slope, intercept


def _pixels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    header = read_header(path, pixels=True)
    slope, intercept = _rescaling(header, path)
    try:
        with quiet():
            bound_pixels(header, path)
            stored = header.pixel_array
    except InputError:
        raise
    except Exception as error:  # pydicom and its decoders raise what they like
        raise InputError(f"the pixels of '{path}' cannot be read: {error}") from error
    if stored.shape != shape:
        raise InputError(f"the pixels of '{path}' have the shape {stored.shape}; expected {shape}")
    if _whole(header, path):
        return np.asarray(stored.astype(np.int32) + np.int32(intercept))
    return np.asarray(stored * np.float32(slope) + np.float32(intercept), dtype=np.float32)
