"""NIfTI files, read whole and written slice by slice."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mrprism.core.errors import InputError
from mrprism.images.content import Raw
from mrprism.images.geometry import Geometry
from mrprism.images.limits import DEFLATE, exhaust, limit_pixels, take
from mrprism.output.files import replacing


def read_nifti(path: Path) -> Raw:
    """Decode a file, compressed or not."""
    import nibabel

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        body = take(stream, 540, path)
        order = "<" if bytes(body[:4]) in (b"\x5c\x01\x00\x00", b"\x1c\x02\x00\x00") else ">"
        size = int(np.frombuffer(bytes(body[:4]), order + "i4")[0]) if len(body) >= 4 else 0
        if size not in (348, 540) or len(body) < min(size, 348):
            raise InputError(f"'{path}' is broken or not a NIfTI file: no NIfTI header")
        kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
        header = kind(bytes(body[:size]), check=False)
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        if not 2 <= len(shape) <= 5 or min(shape) < 1:
            raise InputError(f"'{path}' has the shape {shape}; expected two to five axes, none empty")
        if dtype.kind not in "iuf":
            raise InputError(f"'{path}' holds {dtype} values; expected whole numbers or floats")
        limit_pixels(path, shape)
        offset = max(int(header["vox_offset"]), size)
        needed = offset + math.prod(shape) * dtype.itemsize
        held = path.stat().st_size
        if needed > held * (DEFLATE if packed else 1):
            raise InputError(
                f"'{path}' is cut short: its header asks for {needed} bytes, "
                f"the file has {held}{' packed' if packed else ''}"
            )
        body += take(stream, needed - len(body), path)
        if len(body) < needed:
            raise InputError(
                f"'{path}' is cut short: its header asks for {needed} bytes, the file gives {len(body)}"
            )
        if packed:
            exhaust(stream, path)
    data = np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    scaled = slope is not None and (slope, intercept or 0.0) != (1.0, 0.0)
    if scaled:
        data = data * np.float64(slope) + np.float64(intercept or 0.0)
    geometry = Geometry(np.asarray(header.get_best_affine(), dtype=np.float64), shape, header)
    space = geometry.space
    channels = math.prod(shape[3:])
    axes = (len(space), *range(len(space) - 1, -1, -1))
    pixels = data.reshape((*space, channels), order="F").transpose(axes)
    spacing = _spacing(path, header, len(space))
    if not np.isfinite(geometry.affine).all():
        raise InputError(f"'{path}' has a position matrix that is not finite")
    by_type = dtype == np.uint8 and not scaled
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False) if not scaled else pixels
    if channels == 1:
        return Raw(pixels[0], None, False, spacing, geometry, "nifti", path, by_type)
    return Raw(pixels, 0, False, spacing, geometry, "nifti", path, by_type)


def _spacing(path: Path, header: Any, axes: int) -> tuple[float, ...] | None:
    zooms = [float(z) for z in header["pixdim"][1 : axes + 1]]
    if any(z < 0 or not math.isfinite(z) for z in zooms):
        raise InputError(f"'{path}' has the spacing {zooms}; expected positive numbers")
    if any(z == 0 for z in zooms):
        return None
    unit = int(header["xyzt_units"]) & 7
    factor = {1: 1000.0, 3: 0.001}.get(unit, 1.0)  # metres, micrometres; else millimetres
    return tuple(z * factor for z in reversed(zooms))


class NiftiWriter:
    """A NIfTI file written front to back, under a temporary name until it is complete.

    Floats are compressed lightly, for the noise in their low bits does not pack.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        geometry: Geometry | None = None,
        spacing_mm: tuple[float, ...] | None = None,
        *,
        durable: bool = True,
    ) -> None:
        """Settle the header.

        Args:
            shape: As on disk, x first.
            geometry: Gives the position; without it, ``spacing_mm`` (one per axis of space, x last).
        """
        self.path, self.durable = path, durable
        self.header = _header(shape, dtype, geometry, spacing_mm)
        self.dtype = dtype.newbyteorder(self.header.endianness)

    def __enter__(self) -> NiftiWriter:
        self.open = ExitStack()
        raw = self.open.enter_context(replacing(self.path, durable=self.durable))
        self.file: Any = raw
        if self.path.name.lower().endswith(".gz"):
            level = 1 if self.dtype.kind == "f" else 6
            packed = gzip.GzipFile("", "wb", compresslevel=level, fileobj=raw, mtime=0)
            self.file = self.open.enter_context(packed)
        head: bytes = self.header.binaryblock
        self.file.write(head + bytes(int(self.header["vox_offset"]) - len(head)))
        return self

    def append(self, block: np.ndarray) -> None:
        """Write the next voxels, x fastest: an array whose last axis is x and lies row by row."""
        self.file.write(np.ascontiguousarray(block, self.dtype).data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.__exit__(kind, error, trace)


def write_nifti(
    path: Path,
    pixels: Shaped[np.ndarray, "channel *space"],
    convert: Callable[[np.ndarray], np.ndarray],
    geometry: Geometry | None,
    spacing_mm: tuple[float, ...] | None,
    durable: bool,
) -> None:
    """Write an array plane by plane, each passed through ``convert`` first, so that no copy is made of all."""
    channels, *space = pixels.shape
    if geometry is not None and geometry.space != tuple(space[::-1]):
        raise InputError(
            f"cannot write '{path}': its shape {tuple(space)} differs from {geometry.space[::-1]} "
            "of the file whose geometry it should take"
        )
    shape = tuple(space[::-1])
    if len(space) == 2 and (channels > 1 or (geometry is not None and len(geometry.shape) > 2)):
        shape = (*shape, 1)
    if channels > 1:
        shape = (*shape, channels)
    planes = [channel[z] for channel in pixels for z in range(len(channel))] if len(space) == 3 else [*pixels]
    kind = convert(planes[0]).dtype
    with NiftiWriter(path, shape, kind, geometry, spacing_mm, durable=durable) as file:
        for plane in planes:
            file.append(convert(plane))


def _header(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    geometry: Geometry | None,
    spacing_mm: tuple[float, ...] | None,
) -> Any:
    import nibabel

    affine, lent = np.eye(4), None
    if geometry is not None:
        affine, lent = geometry.affine, geometry.header
    elif spacing_mm is not None:
        affine = np.diag([*spacing_mm[::-1], 1.0, 1.0][: len(spacing_mm)] + [1.0] * (4 - len(spacing_mm)))
    fresh = nibabel.Nifti1Header() if lent is None else lent.copy()
    fresh.extensions.clear()
    fresh["cal_max"] = fresh["cal_min"] = 0
    fresh.set_data_dtype(dtype)
    nothing = np.broadcast_to(np.zeros((), dtype), shape)  # nibabel wants an array to fill in a header
    large = isinstance(fresh, nibabel.Nifti2Header)
    image = (nibabel.Nifti2Image if large else nibabel.Nifti1Image)(nothing, affine, fresh)
    header = image.header
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 544 if large else 352
    header["magic"] = b"n+2" if large else b"n+1"
    if lent is None:
        header.set_xyzt_units("mm")
    return header
