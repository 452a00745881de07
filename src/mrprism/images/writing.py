"""Write masks, probabilities and images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from mrprism.core.errors import InputError
from mrprism.core.types import Image
from mrprism.images.bitmaps import png, tiff
from mrprism.images.content import FromFile
from mrprism.images.geometry import Geometry
from mrprism.images.nifti import write_nifti
from mrprism.images.reading import FORMATS, suffix_of
from mrprism.output.files import write_file


def write_mask(
    path: str | Path,
    array: Bool[np.ndarray, "*space"] | Integer[np.ndarray, "*space"],
    *,
    like: FromFile | Geometry | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    durable: bool = True,
) -> None:
    """Write a mask (bool) or a label map (whole numbers, kept as they are).

    A mask becomes 0 and 255 in PNG and TIFF, 0 and 1 in NIfTI. ``like`` lends NIfTI its geometry.
    """
    path = Path(path)
    kind = _writable(path)
    values = _smallest(array, path)
    full = 255 if array.dtype == np.bool_ and kind != "nifti" else 1

    def convert(part: np.ndarray) -> np.ndarray:
        return np.asarray(part.astype(values) * values(full))

    _write(path, kind, array[None], convert, _geometry(like), spacing_mm, durable)


def write_probability(
    path: str | Path,
    array: Shaped[np.ndarray, "*space"],
    *,
    like: FromFile | Geometry | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    durable: bool = True,
) -> None:
    """Write a map in [0, 1]: 16 bit in PNG (65535 is 1), float32 in TIFF and NIfTI."""
    path = Path(path)
    kind = _writable(path)

    def convert(part: np.ndarray) -> np.ndarray:
        values = np.clip(part.astype(np.float32), 0, 1)
        # halves down: 0.5 becomes 32767, which is no more "above half" than it was
        return np.ceil(values * 65535 - 0.5).astype(np.uint16) if kind == "png" else values

    _write(path, kind, array[None], convert, _geometry(like), spacing_mm, durable)


def write_image(
    path: str | Path,
    array: Image,
    *,
    like: FromFile | Geometry | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    durable: bool = True,
) -> None:
    """Write an image in [0, 1].

    TIFF and NIfTI keep float32. PNG takes 8 bits if that keeps every value; otherwise it takes 16 bits
    for one channel and rounds to 8 for three.
    """
    path = Path(path)
    kind = _writable(path)
    pixels: np.ndarray = array
    if kind == "png":
        clipped = np.clip(array, 0, 1)
        pixels = np.round(clipped * 255).astype(np.uint8)
        if len(array) != 3 and np.abs(clipped * 255 - pixels).max(initial=0) > 1e-3:
            pixels = np.round(clipped * 65535).astype(np.uint16)
    _write(path, kind, pixels, np.asarray, _geometry(like), spacing_mm, durable)


def write_values(
    path: str | Path,
    values: Shaped[np.ndarray, "channel *space"],
    *,
    like: FromFile | Geometry | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    durable: bool = True,
) -> None:
    """Write an image with the values its own file had, and their type (of 64-bit floats 32, where that is exact)."""
    path = Path(path)
    kind = _writable(path)
    kept = values
    if values.dtype == np.float16:
        kept = values.astype(np.float32)
    elif values.dtype == np.float64:
        with np.errstate(over="ignore"):
            small = values.astype(np.float32)
        kept = small if np.array_equal(small, values) else values
    _write(path, kind, kept, np.asarray, _geometry(like), spacing_mm, durable)


def _write(
    path: Path,
    kind: str,
    pixels: Shaped[np.ndarray, "channel *space"],
    convert: Callable[[np.ndarray], np.ndarray],
    geometry: Geometry | None,
    spacing_mm: tuple[float, ...] | None,
    durable: bool = True,
) -> None:
    """Write what ``convert`` makes of the pixels; NIfTI converts slice by slice, to spare memory."""
    if kind == "nifti":
        write_nifti(path, pixels, convert, geometry, spacing_mm, durable)
    else:
        content = png(path, convert(pixels)) if kind == "png" else tiff(convert(pixels))
        write_file(path, content, durable=durable)


def _geometry(like: FromFile | Geometry | None) -> Geometry | None:
    return like if isinstance(like, Geometry) or like is None else like.geometry


def _writable(path: Path) -> str:
    kind = FORMATS.get(suffix_of(path))
    if kind is None or kind in ("jpeg", "nrrd"):
        raise InputError(f"cannot write '{path}': expected a name ending in .png, .tif, .nii or .nii.gz")
    return kind


def _smallest(array: np.ndarray, path: Path) -> type[np.unsignedinteger]:
    """The smallest type that holds every label."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0:
        raise InputError(f"cannot write '{path}': labels must not be negative, found {low}")
    return next(t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if high <= np.iinfo(t).max)
