"""Read images, masks and maps of values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.bitmaps import read_pillow, read_tiff
from mrprism.images.content import ImageFile, LabelFile, MaskFile, Raw, ValueFile, Window, scale
from mrprism.images.limits import first_line
from mrprism.images.nifti import read_nifti
from mrprism.images.nrrd import decode_nrrd

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
}
_PIECE = 1 << 20  # pixels
_PILLOW_ONLY = {".bmp": "bmp", ".gif": "gif", ".ppm": "ppm", ".pgm": "ppm"}  # read, never written


def read_image(path: str | Path, *, window: Window | None = None) -> ImageFile:
    """Read one image with intensities in [0, 1].

    Raises:
        InputError: The file is missing, broken, too large, of another format, or holds NaN or
            infinite values.
    """
    raw = _decode(Path(path))
    pixels = raw.pixels
    if raw.channel_axis is None:
        pixels = pixels[None]
    elif raw.channel_axis != 0:
        pixels = np.moveaxis(pixels, raw.channel_axis, 0)
    if raw.alpha and len(pixels) in (2, 4):
        pixels = pixels[:-1]
    return ImageFile(
        scale(pixels, raw.path, window, raw.by_type), raw.spacing_mm, raw.geometry, raw.format, raw.path
    )


def read_labels(path: str | Path) -> LabelFile:
    """Read a label map, or a mask whose values shall be kept.

    Colour pixels must be grey (equal red, green and blue); a palette of greys is read through the
    palette, a palette of colours gives its indices, as label maps of other tools mean them.

    Raises:
        InputError: The file is missing, broken, too large, coloured, or holds values that are not
            whole numbers.
    """
    raw = _decode(Path(path), mask=True)
    pixels = _one_channel(raw)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        whole = np.isfinite(pixels).all() and np.array_equal(pixels, np.round(pixels))
        if not whole:
            raise InputError(
                f"mask '{raw.path}' holds values that are not whole numbers, such as "
                f"{_examples(pixels)}; expected exact labels"
            )
        pixels = pixels.astype(np.int64)
    return LabelFile(np.ascontiguousarray(pixels), raw.spacing_mm, raw.geometry, raw.format, raw.path)


def read_values(path: str | Path) -> ValueFile:
    """Read a map of one value per pixel as it stands, unscaled: votes, soft maps, labels kept as floats.

    Raises:
        InputError: As `read_labels`, but for values that are not whole; NaN and infinite ones are refused.
    """
    raw = _decode(Path(path), mask=True)
    pixels = _one_channel(raw)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"'{raw.path}' has NaN or infinite pixels; expected finite values")
    return ValueFile(pixels, raw.spacing_mm, raw.geometry, raw.format, raw.path)


def read_mask(path: str | Path) -> MaskFile:
    """Read the mask of one structure: 0 is background, the one other value is the structure.

    Raises:
        InputError: As `read_labels`, or there are grey values besides 0 and one other.
    """
    labels = read_labels(path)
    values = _distinct(labels.array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(str(v) for v in values[:6]) + (", ..." if len(values) > 6 else "")
        hint = " (JPEG smears the edges of masks; export PNG)" if labels.format == "jpeg" else ""
        raise InputError(
            f"mask '{labels.path}' has grey values {shown}; expected 0 and at most one other value{hint}"
        )
    return MaskFile(labels.array != 0, labels.spacing_mm, labels.geometry, labels.format, labels.path)


def format_of(path: str | Path) -> str | None:
    """The format a file name says, or None for a name this package cannot read."""
    suffix = suffix_of(Path(path))
    return FORMATS.get(suffix) or _PILLOW_ONLY.get(suffix)


def suffix_of(path: Path) -> str:
    """The ending of a file's name, in small letters; `.nii.gz` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _decode(path: Path, mask: bool = False) -> Raw:
    if not path.exists():
        raise InputError(f"file '{path}' does not exist")
    if not path.is_file():
        raise InputError(f"'{path}' is not a file; expected an image")
    kind = format_of(path)
    if kind is None:
        raise InputError(f"cannot read '{path}': expected one of {', '.join(FORMATS)}")
    reader = {"nifti": read_nifti, "tiff": read_tiff, "nrrd": decode_nrrd}.get(kind)
    try:
        raw = reader(path) if reader else read_pillow(path, kind, mask)
        if not raw.pixels.size or raw.pixels.dtype.kind not in "biuf":
            found = f"{raw.pixels.dtype} values" if raw.pixels.size else "no pixels"
            raise InputError(f"'{path}' holds {found}; expected whole numbers or floats")
        return raw
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"cannot read '{path}': permission denied") from error
    except MemoryError as error:
        raise InputError(f"cannot read '{path}': not enough memory") from error
    except Exception as error:  # decoders raise what they like on broken files
        raise InputError(f"'{path}' is broken or not a {kind.upper()} file: {first_line(error)}") from error


def _distinct(array: np.ndarray) -> list[int]:
    """The values that occur, in order; a piece at a time, so that no copy is made of a volume."""
    flat = array.ravel()
    found: set[int] = set()
    for start in range(0, len(flat), _PIECE):
        found.update(np.unique(flat[start : start + _PIECE]).tolist())
    return sorted(found)


def _one_channel(raw: Raw) -> np.ndarray:
    pixels = raw.pixels
    if raw.channel_axis is not None:
        pixels = np.moveaxis(pixels, raw.channel_axis, 0)
        if raw.alpha and len(pixels) in (2, 4):
            pixels = pixels[:-1]
        if any(not np.array_equal(pixels[0], other) for other in pixels[1:]):
            raise InputError(
                f"mask '{raw.path}' has {len(pixels)} different channels; expected one value per pixel"
            )
        pixels = pixels[0]
    return np.ascontiguousarray(pixels)


def _examples(array: np.ndarray) -> str:
    odd = array[~(np.isfinite(array) & (array == np.round(array)))]
    return ", ".join(f"{v:g}" for v in np.unique(odd)[:3])
