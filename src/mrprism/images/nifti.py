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
        if dtype.names is not None:
            raise InputError(
                f"'{path}' holds red, green and blue in one value; expected one number a voxel, such as one of the three"
            )
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
        take(stream, needed - len(body), path, body)
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
    geometry, spacing, notes = place(path, header)
    space = geometry.space
    channels = math.prod(shape[3:])
    axes = (len(space), *range(len(space) - 1, -1, -1))
    pixels = data.reshape((*space, channels), order="F").transpose(axes)
    top = 255.0 if dtype == np.uint8 and not scaled else None
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False) if not scaled else pixels
    return Raw(pixels, spacing, geometry, "nifti", path, top, notes)


def place(path: Path, header: Any) -> tuple[Geometry, tuple[float, ...] | None, tuple[str, ...]]:
    """Where the voxels of a file lie and how large they are, from one source; and what is to be said of it.

    The sform is taken where its code says that it means something, else the qform, else pixdim alone; spacing is that
    of the matrix taken, in millimetres whatever unit the file has. Where pixdim says something else than the matrix
    (by more than 1 %), nobody can tell which is right, and every volume depends on it.

    Returns:
        The geometry, the spacing of the axes of space (x last; None: unknown), and notes.

    Raises:
        InputError: Two sizes for one voxel, or none that is a positive number.
    """
    shape = tuple(int(n) for n in header.get_data_shape())
    unit = {1: 1000.0, 3: 0.001}.get(
        int(header["xyzt_units"]) & 7, 1.0
    )  # metres, micrometres; else millimetres
    steps = np.abs(np.asarray(header["pixdim"][1:4], np.float64)) * unit
    by_sform, by_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    notes: tuple[str, ...] = ()
    if not by_sform and any(not z >= 0 for z in header["pixdim"][1 : min(len(shape), 3) + 1]):
        raise InputError(f"'{path}' has the spacing {_mm(header['pixdim'][1:4])}; expected positive numbers")
    try:
        affine = (
            header.get_sform() if by_sform else header.get_qform() if by_qform else header.get_base_affine()
        )
    except Exception as error:  # nibabel raises what it likes on odd numbers
        raise InputError(f"'{path}' has a position that cannot be understood: {error}") from error
    affine = np.array(affine, np.float64)
    affine[:3] *= unit
    if not np.isfinite(affine).all():
        raise InputError(f"'{path}' has a position matrix that is not finite")
    geometry = Geometry(affine, shape, header)
    axes = len(geometry.space)
    if not (by_sform or by_qform):
        known = all(0 < z < math.inf for z in steps[:axes])
        return geometry, tuple(float(z) for z in steps[:axes][::-1]) if known else None, notes
    found = geometry.spacing[:axes]
    if not (found > 0).all():
        raise InputError(f"'{path}' has a position matrix in which an axis has no length: {_mm(found)} mm")
    told = [(f, z) for f, z in zip(found, steps[:axes], strict=True) if z > 0 or not math.isfinite(z)]
    if any(not abs(f - z) <= 0.01 * f for f, z in told):
        raise InputError(
            f"'{path}' gives two sizes for its voxels: {_mm(steps[:axes])} mm (pixdim) and {_mm(found)} mm "
            f"({'sform' if by_sform else 'qform'}); expected one; correct the wrong one, "
            "in nibabel with image.header.set_zooms or image.set_sform"
        )
    if by_sform and by_qform:
        try:
            other = np.array(header.get_qform(), np.float64)
        except Exception:  # damage in what is not taken
            other = None
        if other is not None:
            other[:3] *= unit
            apart = geometry.differs(Geometry(other, shape), 0.5)
            if apart is not None:
                notes = ("its qform and its sform name different places; the sform is taken",)
    return geometry, tuple(float(z) for z in found[::-1]), notes


def _mm(values: Any) -> str:
    return " × ".join(f"{float(v):.4g}" for v in values)


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
    header.set_xyzt_units("mm", None if lent is None else header.get_xyzt_units()[1])
    return header
