"""Read images, masks and maps of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.files import kind_of_no_file
from mrprism.images.bitmaps import read_pillow
from mrprism.images.content import FromFile, ImageFile, LabelFile, MaskFile, Raw, ValueFile, Window, scale
from mrprism.images.limits import first_line
from mrprism.images.metaimage import read_metaimage
from mrprism.images.nifti import read_nifti
from mrprism.images.npy import read_npy
from mrprism.images.nrrd import decode_nrrd
from mrprism.images.tiff import read_tiff

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
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".webp": "webp",
    ".npy": "npy",
}
Colour = tuple[int, int, int]  # red, green, blue
_REPAIR_GREY = "if what is bright is the structure, import with -o threshold=128 or another value"
_REPAIR_LABELS = "if it is a label map, import with -o labels=NAME:VALUE; if not, with -o threshold=VALUE"
WHOLE = 1e-3  # how far a label may be from a whole number, after scaling and rounding
_SMEARS, _SMEARED = ("jpeg", "webp"), 16  # formats that blur colours, and how far grey ones then lie apart
_PIECE = 1 << 20  # pixels
_PILLOW_ONLY = {".bmp": "bmp", ".gif": "gif", ".ppm": "ppm", ".pgm": "ppm"}  # read, never written


def read_image(path: str | Path, *, window: Window | None = None) -> ImageFile:
    """Read one image with intensities in [0, 1].

    Raises:
        InputError: The file is missing, broken, too large, of another format, or holds NaN or
            infinite values.
    """
    return image_file(decode(Path(path)), window)


def image_file(raw: Raw, window: Window | None) -> ImageFile:
    """What was decoded as an image; its own values go along where intensities are not simply a share of the largest."""
    array = scale(raw.pixels, raw.path, window, raw.top)
    own = raw.pixels if raw.top is None or window is not None else None
    return ImageFile(
        array,
        raw.spacing_mm,
        raw.geometry,
        raw.format,
        raw.path,
        notes=raw.notes,
        values=own,
        window=window,
        top=raw.top,
    )


def read_labels(path: str | Path) -> LabelFile:
    """Read a label map, or a mask whose values shall be kept.

    Colour pixels must be grey (equal red, green and blue); a palette of greys is read through the
    palette, a palette of colours gives its indices, as label maps of other tools mean them.

    Raises:
        InputError: The file is missing, broken, too large, coloured, or holds values that are not
            whole numbers.
    """
    return label_file(decode(Path(path), mask=True))


def label_file(raw: Raw) -> LabelFile:
    """What was decoded as a label map.

    Raises:
        InputError: As `read_labels`.
    """
    pixels = _one_channel(raw)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            whole = np.round(pixels)
            odd = ~(np.abs(pixels - whole) <= WHOLE)
        if odd.any():
            found = ", ".join(f"{v:g}" for v in np.unique(pixels[odd])[:3])
            raise InputError(
                f"mask '{raw.path}' holds values that are not whole numbers, such as {found}; expected exact labels; "
                "if what is above a value is the structure, import with -o threshold=0.5 or another value"
            )
        if np.abs(whole).max(initial=0) >= 2**53:
            raise InputError(
                f"mask '{raw.path}' holds values as large as {np.abs(whole).max():g}; expected labels"
            )
        pixels = whole.astype(np.int64)
    return _of(LabelFile, raw, pixels)


def read_values(path: str | Path) -> ValueFile:
    """Read a map of one value per pixel as it stands, unscaled: votes, soft maps, labels kept as floats.

    Raises:
        InputError: As `read_labels`, but for values that are not whole; NaN and infinite ones are refused.
    """
    raw = decode(Path(path), mask=True)
    pixels = _one_channel(raw)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"'{raw.path}' has NaN or infinite pixels; expected finite values")
    return _of(ValueFile, raw, pixels)


def read_mask(path: str | Path, *, threshold: float | None = None, colour: Colour | None = None) -> MaskFile:
    """Read the mask of one structure: 0 is background, the one other value is the structure.

    Args:
        threshold: In the file's own values: what is at or above it is the structure, all else background.
            For masks with soft or smeared edges; of colours the mean of the channels counts.
        colour: Red, green and blue as the file holds them: pixels of exactly this colour are the structure.
            For drawings with one colour a structure.

    Raises:
        InputError: As `read_labels`, or there are grey values besides 0 and one other, and neither of the
            options says what they mean; both options are given; a colour is asked of a grey file; the
            threshold is plainly of another scale.
    """
    if threshold is not None and colour is not None:
        raise InputError(
            f"mask '{path}' cannot be read by threshold and by colour at once; expected one of them"
        )
    if threshold is not None:
        raw = decode(Path(path), mask=True)
        return _of(MaskFile, raw, _bright(raw, _finite(threshold, "threshold")))
    if colour is not None:
        raw = decode(Path(path))
        return _of(MaskFile, raw, _of_colour(raw, colour))
    return mask_file(decode(Path(path), mask=True))


def mask_file(raw: Raw) -> MaskFile:
    """What was decoded as the mask of one structure.

    Raises:
        InputError: As `read_mask`.
    """
    labels = label_file(raw)
    values = _distinct(labels.array)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(str(v) for v in values[:6]) + (", ..." if len(values) > 6 else "")
        hint = " (JPEG smears the edges of masks; export PNG)" if labels.format == "jpeg" else ""
        raise InputError(
            f"mask '{labels.path}' has grey values {shown}; expected 0 and at most one other value{hint}; "
            f"{_REPAIR_GREY if len(values) > 3 else _REPAIR_LABELS}"
        )
    return _of(MaskFile, raw, labels.array != 0)


def parse_colour(text: str) -> Colour:
    """Read a colour: "#ff0000", "ff0000" or "255,0,0".

    Raises:
        InputError: It is none of these.
    """
    digits = text.strip().removeprefix("#")
    parts = digits.split(",") if "," in digits else [digits[i : i + 2] for i in (0, 2, 4)]
    try:
        values = [int(part, 10 if "," in digits else 16) for part in parts]
        if len(values) != 3 or not all(0 <= value <= 65535 for value in values):
            raise ValueError
        if "," not in digits and len(digits) != 6:
            raise ValueError
    except ValueError:
        raise InputError(
            f"colour '{text}' is not understood; expected such as #ff0000 or 255,0,0 (red, green, blue)"
        ) from None
    return values[0], values[1], values[2]


def format_of(path: str | Path) -> str | None:
    """The format a file name says, or None for a name this package cannot read."""
    suffix = suffix_of(Path(path))
    return FORMATS.get(suffix) or _PILLOW_ONLY.get(suffix)


def suffix_of(path: Path) -> str:
    """The ending of a file's name, in small letters; `.nii.gz` is one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


_READERS: dict[str, Callable[[Path, bool], Raw]] = {
    "nifti": lambda path, mask: read_nifti(path),
    "tiff": read_tiff,
    "nrrd": lambda path, mask: decode_nrrd(path),
    "metaimage": lambda path, mask: read_metaimage(path),
    "npy": read_npy,
}


def decode(path: Path, mask: bool = False) -> Raw:
    """The pixels of any file that is read here.

    Args:
        mask: Palettes and transparency mean what they mean in masks.

    Raises:
        InputError: The file is missing, broken, too large, or of another format.
    """
    if not path.exists():
        raise InputError(f"file '{path}' does not exist")
    if not path.is_file():
        raise InputError(f"'{path}' is {kind_of_no_file(path) or 'not a file'}; expected an image")
    kind = format_of(path)
    if kind is None:
        raise InputError(f"cannot read '{path}': expected one of {', '.join(FORMATS)}")
    try:
        raw = _READERS[kind](path, mask) if kind in _READERS else read_pillow(path, kind, mask)
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
        piece = flat[start : start + _PIECE]
        if array.dtype == np.uint8:  # counting is a tenth of the work of sorting
            found.update(np.flatnonzero(np.bincount(piece)).tolist())
        else:
            found.update(np.unique(piece).tolist())
    return sorted(found)


def _one_channel(raw: Raw) -> np.ndarray:
    pixels = raw.pixels
    smeared = raw.format in _SMEARS and len(pixels) == 3
    if smeared and int((pixels.max(axis=0) - pixels.min(axis=0)).max(initial=0)) <= _SMEARED:
        return _brightness(raw).round().astype(np.uint8)  # no colour, but what packing left of grey
    if any(not np.array_equal(pixels[0], other) for other in pixels[1:]):
        raise InputError(
            f"mask '{raw.path}' has {len(pixels)} different channels; expected one value per pixel; "
            "if one colour is the structure, import with -o colour=#ff0000 or another"
        )
    return np.ascontiguousarray(pixels[0])


OfFile = TypeVar("OfFile", bound=FromFile)


def _of(kind: type[OfFile], raw: Raw, array: np.ndarray) -> OfFile:
    return kind(
        np.ascontiguousarray(array), raw.spacing_mm, raw.geometry, raw.format, raw.path, notes=raw.notes
    )


def _finite(number: float, what: str) -> float:
    if not math.isfinite(number):
        raise InputError(f"{what} is {number}; expected a number")
    return number


def _brightness(raw: Raw) -> np.ndarray:
    """One value a pixel: of colours their mean."""
    channels = raw.pixels
    return np.asarray(channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float64))


def _bright(raw: Raw, threshold: float) -> np.ndarray:
    """Where a mask reaches the threshold.

    Raises:
        InputError: All of its values do, or it has two values and neither does: the threshold is of another scale.
    """
    values = _brightness(raw)
    low, high = float(values.min()), float(values.max())
    crisp = high < threshold and bool(((values == low) | (values == high)).all())
    if low < high and (low >= threshold or crisp):
        which = "do not reach" if crisp else "all reach"
        raise InputError(
            f"mask '{raw.path}' has values from {low:g} to {high:g}, which {which} the threshold {threshold:g}; expected "
            "one between them"
        )
    return np.asarray(values >= threshold)


def _of_colour(raw: Raw, colour: Colour) -> np.ndarray:
    channels = raw.pixels
    if len(channels) == 1:
        channels = np.broadcast_to(channels, (3, *channels.shape[1:]))
    if len(channels) != 3:
        raise InputError(f"mask '{raw.path}' has {len(channels)} channels; expected red, green and blue")
    same = [channel == value for channel, value in zip(channels, colour, strict=True)]
    return np.asarray(np.logical_and.reduce(same))
