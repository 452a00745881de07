"""Read and write PNG, JPEG, TIFF and NIfTI: images, masks and probabilities.

Axes. Arrays are (channel, *space) with ``space`` = (H, W) or (D, H, W). NIfTI stores x first; it is
turned round on reading and back on writing, so H is its y, W its x and D its z. A third axis of
length one is dropped, and put back on writing.

Intensities become float32 in [0, 1]: unsigned 8 and 16 bit pixels of PNG, JPEG and TIFF, and 8 bit
NIfTI, are divided by the largest value of their type; everything else (CT, MR, floats) is stretched,
channel by channel, from its smallest to its largest value. A window (low, high), in the file's own
values, replaces either rule and clips. Transparency is dropped.

Masks keep their exact values. Nothing is resized, thresholded or guessed.

A file larger than ``MRPRISM_MAX_PIXELS`` pixels (environment; 1e9 unless told), or whose header asks
for more bytes than the file holds, is refused before memory is taken. Everything is written under a
temporary name in the same folder, flushed to the disk and renamed.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer, Shaped

from mrprism.errors import InputError
from mrprism.types import Image

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nii": "nifti",
    ".nii.gz": "nifti",
}
_PILLOW_ONLY = {".bmp": "bmp", ".gif": "gif", ".ppm": "ppm", ".pgm": "ppm"}  # read, never written
_DEFLATE_LIMIT = 1032  # no deflate stream grows by more than this factor
_CHUNK = 1 << 20
_pillow_limit = threading.Lock()

Window = tuple[float, float]


@dataclass(frozen=True)
class Geometry:
    """Where a NIfTI file's voxels lie in the patient."""

    affine: Float64[np.ndarray, "4 4"]  # voxel (x, y, z) to millimetres, right-anterior-superior
    shape: tuple[int, ...]  # as on disk, x first
    header: Any = None  # the nibabel header, so that units and codes survive

    def differs(self, other: Geometry, tolerance: float = 0.05) -> str | None:
        """How another grid of the same shape lies elsewhere, in words; None if it does not.

        ``tolerance`` is in voxels: how far a corner of one grid may lie from that of the other.
        """
        size = np.array([*self.shape[:3], 1, 1, 1][:3], dtype=float) - 1
        corners = np.array(np.meshgrid(*[(0.0, s) for s in size])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(corners.shape[1])])
        apart = float(np.linalg.norm((self.affine - other.affine)[:3] @ corners, axis=0).max())
        voxel = float(np.linalg.norm(self.affine[:3, :3], axis=0).min())
        if apart <= tolerance * max(voxel, 1e-9):
            return None
        ours, theirs = self.spacing, other.spacing
        if not np.allclose(ours, theirs, rtol=1e-3):
            return f"spacing {_numbers(ours)} mm against {_numbers(theirs)} mm"
        if not np.allclose(self.affine[:3, 3], other.affine[:3, 3], atol=tolerance * voxel):
            return f"origin {_numbers(self.affine[:3, 3])} against {_numbers(other.affine[:3, 3])} mm"
        return f"direction {_numbers(self.direction)} against {_numbers(other.direction)}"

    @property
    def spacing(self) -> Float64[np.ndarray, "3"]:
        """Voxel edge lengths along x, y, z in millimetres."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def direction(self) -> Float64[np.ndarray, "9"]:
        """Direction cosines, row by row."""
        return np.asarray((self.affine[:3, :3] / np.maximum(self.spacing, 1e-12)).ravel())


@dataclass(frozen=True)
class ImageFile:
    """An image with what its file knows about it."""

    array: Image
    spacing_mm: tuple[float, ...] | None  # one per axis of `space`; None where the format has none
    geometry: Geometry | None  # NIfTI only
    format: str
    path: Path


@dataclass(frozen=True)
class LabelFile:
    """A mask or label map, its values as they stand in the file."""

    array: Integer[np.ndarray, "*space"]
    spacing_mm: tuple[float, ...] | None
    geometry: Geometry | None
    format: str
    path: Path


@dataclass(frozen=True)
class ValueFile:
    """A map of one value per pixel, unscaled."""

    array: Shaped[np.ndarray, "*space"]
    spacing_mm: tuple[float, ...] | None
    geometry: Geometry | None
    format: str
    path: Path


@dataclass(frozen=True)
class MaskFile:
    """A mask of one structure."""

    array: Bool[np.ndarray, "*space"]
    spacing_mm: tuple[float, ...] | None
    geometry: Geometry | None
    format: str
    path: Path


def read_image(path: str | Path, *, window: Window | None = None) -> ImageFile:
    """Read one image with intensities in [0, 1].

    Raises:
        InputError: The file is missing, broken, too large, of another format, or holds NaN or
            infinite values.
    """
    raw = _read(Path(path))
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
    raw = _read(Path(path), mask=True)
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
    raw = _read(Path(path), mask=True)
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


def write_mask(
    path: str | Path,
    array: Bool[np.ndarray, "*space"] | Integer[np.ndarray, "*space"],
    *,
    like: ImageFile | LabelFile | MaskFile | Geometry | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    durable: bool = True,
) -> None:
    """Write a mask (bool) or a label map (whole numbers, kept as they are).

    A mask becomes 0 and 255 in PNG and TIFF, 0 and 1 in NIfTI. ``like`` lends NIfTI its geometry.
    """
    path = Path(path)
    kind = _writable(path)
    binary = array.dtype == np.bool_
    labels = array.astype(np.uint8) if binary else _smallest(array, path)
    if binary and kind != "nifti":
        labels = labels * np.uint8(255)
    _write(path, kind, labels[None], _geometry(like), spacing_mm, durable)


def write_probability(
    path: str | Path,
    array: Shaped[np.ndarray, "*space"],
    *,
    like: ImageFile | LabelFile | MaskFile | Geometry | None = None,
    spacing_mm: tuple[float, ...] | None = None,
) -> None:
    """Write a map in [0, 1]: 16 bit in PNG (65535 is 1), float32 in TIFF and NIfTI."""
    path = Path(path)
    kind = _writable(path)
    values = np.clip(array.astype(np.float32), 0, 1)
    pixels = np.round(values * 65535).astype(np.uint16) if kind == "png" else values
    _write(path, kind, pixels[None], _geometry(like), spacing_mm)


def write_image(
    path: str | Path,
    array: Image,
    *,
    like: ImageFile | LabelFile | MaskFile | Geometry | None = None,
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
    _write(path, kind, pixels, _geometry(like), spacing_mm, durable)


def scale(
    pixels: Shaped[np.ndarray, "channel *space"], path: Path, window: Window | None, by_type: bool = False
) -> Image:
    """Intensities to [0, 1] by the module's rule.

    Args:
        path: Where they come from, for the error.
        by_type: Divide by the largest value of the type.

    Raises:
        InputError: There are NaN or infinite values.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        wrong = int((~np.isfinite(pixels)).sum())
        raise InputError(f"image '{path}' has {wrong} NaN or infinite pixels; expected finite values")
    if window is not None:
        low, high = window
        values = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return np.ascontiguousarray(np.clip(values, 0, 1), dtype=np.float32)
    if pixels.dtype == np.bool_:
        return np.ascontiguousarray(pixels, dtype=np.float32)
    if by_type:
        return np.ascontiguousarray(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))
    axes = tuple(range(1, pixels.ndim))
    least = pixels.min(axis=axes, keepdims=True).astype(np.float64)
    extent = pixels.max(axis=axes, keepdims=True).astype(np.float64) - least
    extent[extent == 0] = 1
    # single precision is exact enough, and half the memory
    small = pixels.dtype.itemsize <= 2 or (pixels.dtype == np.float32 and extent.max() < 1e30)
    values = np.subtract(pixels, least, dtype=np.float32 if small else np.float64, casting="unsafe")
    values /= extent.astype(values.dtype)
    return np.ascontiguousarray(values, dtype=np.float32)


def write_file(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Put a whole file in place: temporary name in the same folder, flush to the disk, rename.

    Args:
        durable: False leaves the flush to the caller, who writes many files and flushes them together.

    Raises:
        InputError: The disk is full, or the folder cannot be written to; nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write '{path}': {error.strerror or error}") from error


def format_of(path: str | Path) -> str | None:
    """The format a file name says, or None for a name this package cannot read."""
    suffix = _suffix(Path(path))
    return FORMATS.get(suffix) or _PILLOW_ONLY.get(suffix)


# --- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Raw:
    pixels: np.ndarray
    channel_axis: int | None
    alpha: bool
    spacing_mm: tuple[float, ...] | None
    geometry: Geometry | None
    format: str
    path: Path
    by_type: bool  # scale by the largest value of the type


def _read(path: Path, mask: bool = False) -> _Raw:
    if not path.exists():
        raise InputError(f"file '{path}' does not exist")
    if not path.is_file():
        raise InputError(f"'{path}' is not a file; expected an image")
    kind = format_of(path)
    if kind is None:
        raise InputError(f"cannot read '{path}': expected one of {', '.join(FORMATS)}")
    reader = {"nifti": _read_nifti, "tiff": _read_tiff}.get(kind)
    try:
        return reader(path) if reader else _read_pillow(path, kind, mask)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"cannot read '{path}': permission denied") from error
    except MemoryError as error:
        raise InputError(f"cannot read '{path}': not enough memory") from error
    except Exception as error:  # decoders raise what they like on broken files
        raise InputError(f"'{path}' is broken or not a {kind.upper()} file: {_first_line(error)}") from error


def _read_pillow(path: Path, kind: str, mask: bool) -> _Raw:
    import PIL.Image

    with _unlimited_pillow():
        image: Any = PIL.Image.open(path)
    with image:
        _limit(path, image.size)
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"'{path}' holds {image.n_frames} frames; expected one image")
        image.load()
        if image.mode == "P":
            if mask and not _grey_palette(image):
                pixels = np.asarray(image)
                return _Raw(pixels, None, False, None, None, kind, path, True)
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "F") and not image.mode.startswith(
            "I;16"
        ):
            image = image.convert("RGB")
        pixels = np.asarray(image)
        alpha = image.mode in ("LA", "RGBA")
    if pixels.dtype == np.int32 and kind == "png":
        pixels = pixels.astype(np.uint16)  # older Pillow opens 16 bit PNG as 32 bit
    by_type = pixels.dtype in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.bool_))
    return _Raw(pixels, 2 if pixels.ndim == 3 else None, alpha, None, None, kind, path, by_type)


@contextmanager
def _unlimited_pillow() -> Iterator[None]:
    """Our own limit stands in for Pillow's, which is global and warns instead of refusing."""
    import PIL.Image

    with _pillow_limit:
        before = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def _grey_palette(image: Any) -> bool:
    colours = np.array(image.convert("RGB").getcolors(256), dtype=object)
    return all(r == g == b for _, (r, g, b) in colours)


def _read_tiff(path: Path) -> _Raw:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise InputError(f"'{path}' is broken: it holds no image")
        series = file.series[0]
        _limit(path, series.shape)
        held = path.stat().st_size
        for page in series.pages:
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if ends and max(ends) > held:
                raise InputError(
                    f"'{path}' is cut short: its header asks for {max(ends)} bytes, the file has {held}"
                )
        axes: str = series.axes
        page = series.pages[0]
        alpha = page.samplesperpixel in (2, 4) and "S" in axes
        try:
            pixels = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _read_pillow(path, "tiff", mask=False)
        if page.photometric == 0:  # white is zero
            pixels = ~pixels if pixels.dtype == np.bool_ else np.iinfo(pixels.dtype).max - pixels
    keep = [i for i, a in enumerate(axes) if pixels.shape[i] != 1 or a in "YX"]
    axes = "".join(axes[i] for i in keep)
    pixels = pixels.reshape([pixels.shape[i] for i in keep])
    channel = next((i for i, a in enumerate(axes) if a in "SC"), None)
    if pixels.ndim - (channel is not None) not in (2, 3):
        raise InputError(f"'{path}' has axes {axes}; expected an image or a volume, with channels or without")
    by_type = pixels.dtype in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.bool_))
    return _Raw(pixels, channel, alpha, None, None, "tiff", path, by_type)


def _read_nifti(path: Path) -> _Raw:
    import nibabel

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        head = _exactly(stream, 540, path)
        order = "<" if head[:4] in (b"\x5c\x01\x00\x00", b"\x1c\x02\x00\x00") else ">"
        size = int(np.frombuffer(head[:4], order + "i4")[0]) if len(head) >= 4 else 0
        if size not in (348, 540) or len(head) < min(size, 348):
            raise InputError(f"'{path}' is broken or not a NIfTI file: no NIfTI header")
        kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
        header = kind(head[:size], check=False)
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        if not 2 <= len(shape) <= 5 or min(shape) < 1:
            raise InputError(f"'{path}' has the shape {shape}; expected two to five axes, none empty")
        if dtype.kind not in "iuf":
            raise InputError(f"'{path}' holds {dtype} values; expected whole numbers or floats")
        _limit(path, shape)
        offset = max(int(header["vox_offset"]), size)
        needed = offset + math.prod(shape) * dtype.itemsize
        held = path.stat().st_size
        if needed > held * (_DEFLATE_LIMIT if packed else 1):
            raise InputError(
                f"'{path}' is cut short: its header asks for {needed} bytes, "
                f"the file has {held}{' packed' if packed else ''}"
            )
        body = head + _exactly(stream, needed - len(head), path)
        if len(body) < needed:
            raise InputError(
                f"'{path}' is cut short: its header asks for {needed} bytes, the file gives {len(body)}"
            )
        if packed:
            _exhaust(stream, path)
    data = np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    scaled = slope is not None and (slope, intercept or 0.0) != (1.0, 0.0)
    if scaled:
        data = data * np.float64(slope) + np.float64(intercept or 0.0)
    space = shape[:2] if len(shape) == 2 or shape[2] == 1 else shape[:3]
    channels = math.prod(shape[3:])
    axes = (len(space), *range(len(space) - 1, -1, -1))
    pixels = data.reshape((*space, channels), order="F").transpose(axes)
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    spacing = _nifti_spacing(path, header, len(space))
    if not np.isfinite(affine).all():
        raise InputError(f"'{path}' has a position matrix that is not finite")
    by_type = dtype == np.uint8 and not scaled
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False) if not scaled else pixels
    geometry = Geometry(affine, shape, header)
    if channels == 1:
        return _Raw(pixels[0], None, False, spacing, geometry, "nifti", path, by_type)
    return _Raw(pixels, 0, False, spacing, geometry, "nifti", path, by_type)


def _nifti_spacing(path: Path, header: Any, axes: int) -> tuple[float, ...] | None:
    zooms = [float(z) for z in header["pixdim"][1 : axes + 1]]
    if any(z < 0 or not math.isfinite(z) for z in zooms):
        raise InputError(f"'{path}' has the spacing {zooms}; expected positive numbers")
    if any(z == 0 for z in zooms):
        return None
    unit = int(header["xyzt_units"]) & 7
    factor = {1: 1000.0, 3: 0.001}.get(unit, 1.0)  # metres, micrometres; else millimetres
    return tuple(z * factor for z in reversed(zooms))


def _exactly(stream: Any, count: int, path: Path) -> bytes:
    """Up to ``count`` bytes in pieces, so that no more memory is taken than the file fills."""
    pieces, left = [], count
    try:
        while left > 0 and (piece := stream.read(min(_CHUNK, left))):
            pieces.append(piece)
            left -= len(piece)
    except EOFError as error:
        raise InputError(f"'{path}' is cut short: its gzip stream ends too early") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"'{path}' is broken: {_first_line(error)}") from error
    return b"".join(pieces)


def _exhaust(stream: Any, path: Path) -> None:
    """Read to the end, for only there gzip compares its checksum."""
    spare = 64 * _CHUNK
    while piece := _exactly(stream, _CHUNK, path):
        spare -= len(piece)
        if spare < 0:
            raise InputError(f"'{path}' holds far more bytes than its header asks for")


def _limit(path: Path, shape: tuple[int, ...]) -> None:
    text = os.environ.get("MRPRISM_MAX_PIXELS", "1e9")
    try:
        most = int(float(text))
    except ValueError:
        raise InputError(f"MRPRISM_MAX_PIXELS is '{text}'; expected a number") from None
    if math.prod(int(n) for n in shape) > most:
        size = " × ".join(str(n) for n in shape)
        raise InputError(f"'{path}' has {size} pixels, more than MRPRISM_MAX_PIXELS = {most} allows")


# --- writing ------------------------------------------------------------------------------------


def _write(
    path: Path,
    kind: str,
    pixels: Shaped[np.ndarray, "channel *space"],
    geometry: Geometry | None,
    spacing_mm: tuple[float, ...] | None,
    durable: bool = True,
) -> None:
    if kind == "png":
        content = _png(path, pixels)
    elif kind == "tiff":
        content = _tiff(pixels)
    else:
        content = _nifti(path, pixels, geometry, spacing_mm)
    write_file(path, content, durable=durable)


def _png(path: Path, pixels: np.ndarray) -> bytes:
    import PIL.Image

    if pixels.ndim != 3 or len(pixels) not in (1, 3):
        raise InputError(
            f"cannot write '{path}': PNG holds one or three channels of a plane, "
            f"not shape {pixels.shape}; use .nii.gz or .tif"
        )
    if pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise InputError(f"cannot write '{path}': PNG holds values of 0 to 65535, not {pixels.dtype}")
    plane = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "PNG")
    return buffer.getvalue()


def _tiff(pixels: np.ndarray) -> bytes:
    import tifffile

    axes = {3: "CYX", 4: "CZYX"}[pixels.ndim]
    data = pixels
    if len(pixels) == 1:
        data, axes = pixels[0], axes[1:]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(data),
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": axes},
    )
    return buffer.getvalue()


def _nifti(
    path: Path, pixels: np.ndarray, geometry: Geometry | None, spacing_mm: tuple[float, ...] | None
) -> bytes:
    import nibabel

    data = pixels.transpose((*range(pixels.ndim - 1, 0, -1), 0))  # x, y[, z], channel
    space = data.shape[:-1]
    if geometry is not None and _space(geometry.shape) != space:
        raise InputError(
            f"cannot write '{path}': its shape {space[::-1]} differs from {_space(geometry.shape)[::-1]} "
            "of the file whose geometry it should take"
        )
    if len(space) == 2 and (data.shape[-1] > 1 or (geometry and len(geometry.shape) > 2)):
        data = data[:, :, None, :]
    if data.shape[-1] == 1:
        data = data[..., 0]
    affine, header = np.eye(4), None
    if geometry is not None:
        affine, header = geometry.affine, geometry.header
    elif spacing_mm is not None:
        affine = np.diag([*spacing_mm[::-1], 1.0, 1.0][: len(spacing_mm)] + [1.0] * (4 - len(spacing_mm)))
    kind = type(header) if header is not None else nibabel.Nifti1Header
    fresh = kind() if header is None else header.copy()
    fresh["cal_max"] = fresh["cal_min"] = 0
    image_kind = nibabel.Nifti1Image if kind is nibabel.Nifti1Header else nibabel.Nifti2Image
    fresh.set_data_dtype(data.dtype)
    image = image_kind(data, affine, fresh)
    if header is None:
        image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return gzip.compress(content, compresslevel=6, mtime=0) if path.name.lower().endswith(".gz") else content


def _space(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if len(shape) == 2 or shape[2] == 1 else shape[:3]


def _geometry(like: ImageFile | LabelFile | MaskFile | Geometry | None) -> Geometry | None:
    return like if isinstance(like, Geometry) or like is None else like.geometry


def _writable(path: Path) -> str:
    kind = FORMATS.get(_suffix(path))
    if kind is None or kind == "jpeg":
        raise InputError(f"cannot write '{path}': expected a name ending in .png, .tif, .nii or .nii.gz")
    return kind


def _smallest(array: np.ndarray, path: Path) -> np.ndarray:
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0:
        raise InputError(f"cannot write '{path}': labels must not be negative, found {low}")
    kind = next(t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if high <= np.iinfo(t).max)
    return array.astype(kind)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _distinct(array: np.ndarray) -> list[int]:
    if array.dtype == np.uint8:
        return [int(v) for v in np.flatnonzero(np.bincount(array.ravel(), minlength=1))]
    return [int(v) for v in np.unique(array)]


def _one_channel(raw: _Raw) -> np.ndarray:
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


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values) + ")"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
