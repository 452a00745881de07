"""NRRD files: data attached (.nrrd) or beside a header (.nhdr), raw, ascii, hex, gzip or bzip2, in patient space."""

from __future__ import annotations

import bz2
import gzip
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.images.content import Raw
from mrprism.images.geometry import Geometry
from mrprism.images.limits import beside, limit_pixels, numbers_in, take

_TYPES = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1",
    "uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1",
    "short": "i2", "short int": "i2", "signed short": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "uint16": "u2", "uint16_t": "u2",
    "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
    "longlong": "i8", "long long": "i8", "long long int": "i8", "signed long long": "i8",
    "signed long long int": "i8", "int64": "i8", "int64_t": "i8",
    "ulonglong": "u8", "unsigned long long": "u8", "unsigned long long int": "u8", "uint64": "u8", "uint64_t": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip
_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001, "microns": 0.001}
_VECTOR = re.compile(r"\([^)]*\)|[Nn]one")
_HEADER = 10_000_000  # bytes; a header of Slicer has some thousands
_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}


@dataclass(frozen=True)
class Nrrd:
    """The content of a file."""

    array: np.ndarray  # axes as on disk, fastest first
    affine: np.ndarray | None  # (4, 4) voxel to millimetres, right-anterior-superior
    fields: dict[str, str]  # the key/value pairs
    list_axis: int | None = None  # the axis that is not one of space: colours, layers
    spacing: tuple[float, ...] | None = None  # of the axes of space, fastest first; None if unknown


def read_nrrd(path: Path) -> Nrrd:
    """Read a file whole.

    Raises:
        InputError: It is missing, broken, cut short, too large, or of a kind that is not read here.
    """
    try:
        raw = plain_file(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    end, gap = min(
        ((i, len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (i := raw.find(mark, 0, _HEADER)) > 0),
        default=(-1, 0),
    )
    if end < 0 and path.suffix.lower() == ".nhdr" and len(raw) <= _HEADER:
        end = len(raw)  # a header alone needs no empty line behind it
    if not raw.startswith(b"NRRD000") or end < 0:
        raise InputError(f"'{path}' is broken or not an NRRD file: no header")
    header, fields = _header(raw[:end].decode("utf-8", "replace"))
    try:
        return _content(path, memoryview(raw)[end + gap :], header, fields)
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise InputError(f"'{path}' is broken: {type(error).__name__} {error}") from error


def decode_nrrd(path: Path) -> Raw:
    """A file as an image or a mask."""
    content = read_nrrd(path)
    array, listed = content.array, content.list_axis
    space = tuple(n for axis, n in enumerate(array.shape) if axis != listed)
    if len(space) not in (2, 3):
        raise InputError(f"'{path}' has the sizes {array.shape}; expected an image or a volume")
    spacing = content.spacing
    if len(space) == 3 and space[2] == 1:
        third = [axis for axis in range(array.ndim) if axis != listed][2]
        array, spacing = array.squeeze(third), spacing and spacing[:2]
        listed = None if listed is None else listed - (listed > third)
    geometry = None if content.affine is None else Geometry(content.affine, space)
    pixels = array.transpose()
    pixels = pixels[None] if listed is None else np.moveaxis(pixels, array.ndim - 1 - listed, 0)
    top = 255.0 if array.dtype == np.uint8 else None
    return Raw(pixels, spacing and spacing[::-1], geometry, "nrrd", path, top)


def _header(text: str) -> tuple[dict[str, str], dict[str, str]]:
    header: dict[str, str] = {}
    fields: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        if ":=" in line:
            key, value = line.split(":=", 1)
            fields[key.strip()] = value
        elif ": " in line:
            key, value = line.split(": ", 1)
            header[key.strip().lower()] = value.strip()
    return header, fields


def _content(path: Path, body: memoryview, header: dict[str, str], fields: dict[str, str]) -> Nrrd:
    shape = tuple(int(n) for n in header["sizes"].split())
    order = "<" if header.get("endian", "little") == "little" else ">"
    dtype = np.dtype(order + _TYPES[header["type"].lower()])
    if min(shape) < 1 or len(shape) != int(header["dimension"]):
        raise InputError(f"'{path}' has the sizes {shape} for {header['dimension']} axes")
    limit_pixels(path, shape)
    for skip in ("byte skip", "byteskip", "line skip", "lineskip"):
        if int(header.get(skip, 0)):
            raise InputError(f"'{path}' asks for a {skip}; expected data from the first byte on")
    detached = header.get("data file", header.get("datafile"))
    source: Path | BytesIO = BytesIO(body) if detached is None else beside(path, detached)
    needed = math.prod(shape) * dtype.itemsize
    encoding = header["encoding"].lower()
    unpack: dict[str, Callable[[Any], Any]] = {
        "gzip": gzip.open,
        "gz": gzip.open,
        "bzip2": bz2.open,
        "bz2": bz2.open,
    }
    if encoding not in ("raw", "ascii", "text", "txt", "hex", *unpack):
        raise InputError(f"'{path}' has the encoding '{encoding}'; expected raw, ascii, hex, gzip or bzip2")
    values: bytearray | np.ndarray
    with source.open("rb") if isinstance(source, Path) else source as file:
        if encoding == "raw":
            values = take(file, needed, path)
        elif encoding in unpack:
            with unpack[encoding](file) as stream:
                values = take(stream, needed, path)
                if len(values) == needed and take(stream, 1, path):
                    raise ValueError("it holds more than its header says")
        elif encoding == "hex":
            try:
                values = bytearray.fromhex(take(file, 3 * needed, path).decode("latin-1"))
            except ValueError:
                raise ValueError("its encoding is hex, and it holds what are no hexadecimal digits") from None
            if len(values) > needed:
                raise ValueError("it holds more than its header says")
        else:
            values = numbers_in(path, file, math.prod(shape), dtype).view(np.uint8)
    if len(values) < needed:
        raise InputError(f"'{path}' is cut short: its header asks for {needed} bytes, it gives {len(values)}")
    array = np.frombuffer(values, dtype).reshape(shape, order="F")
    listed, vectors = _vectors(path, header, len(shape))
    affine = _affine(path, header, vectors)
    spacing = _spacing(path, header, vectors, listed)
    return Nrrd(array.astype(dtype.newbyteorder("="), copy=False), affine, fields, listed, spacing)


def _vectors(path: Path, header: dict[str, str], axes: int) -> tuple[int | None, list[list[float]] | None]:
    """Which axis is a list, and the step along each axis of space, where the header knows it."""
    directions = header.get("space directions")
    kinds = header.get("kinds", "").lower().split()
    if directions is None:
        listed = [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "???", "none")]
        vectors = None
    else:
        parts = _VECTOR.findall(directions)
        listed = [axis for axis, part in enumerate(parts) if part.lower() == "none"]
        unit = _unit(path, header)
        vectors = [[v * unit for v in _vector(part)] for part in parts if part.lower() != "none"]
        if len(vectors) + len(listed) != axes:
            raise InputError(f"'{path}' gives {len(parts)} directions for {axes} axes")
    if len(listed) > 1 or (not listed and axes > 3):
        raise InputError(f"'{path}' has {axes} axes; expected two or three of space and at most one more")
    return (listed[0] if listed else None), vectors


def _affine(path: Path, header: dict[str, str], vectors: list[list[float]] | None) -> np.ndarray | None:
    if vectors is None or "space origin" not in header or len(vectors) != 3 or "space" not in header:
        return None
    space = header["space"].lower()
    if space not in _TO_RAS:
        raise InputError(f"'{path}' lies in the space '{space}'; expected left-posterior-superior")
    affine = np.eye(4)
    affine[:3, :3] = np.array(vectors).T
    affine[:3, 3] = [v * _unit(path, header) for v in _vector(header["space origin"])]
    affine[:3] *= np.array(_TO_RAS[space])[:, None]
    if not np.isfinite(affine).all():
        raise InputError(f"'{path}' has a position that is not finite")
    return affine


def _vector(text: str) -> list[float]:
    return [float(v) for v in text.strip("() ").replace(",", " ").split()]


def _unit(path: Path, header: dict[str, str]) -> float:
    """Millimetres in the unit of the header's vectors."""
    units = {unit.lower() for unit in re.findall(r'"([^"]*)"', header.get("space units", ""))} - {""}
    if len(units) > 1 or not units <= set(_UNITS):
        raise InputError(f"'{path}' has the units {', '.join(sorted(units))}; expected mm for all axes")
    return _UNITS[units.pop()] if units else 1.0


def _spacing(
    path: Path, header: dict[str, str], vectors: list[list[float]] | None, listed: int | None
) -> tuple[float, ...] | None:
    told = None
    if "spacings" in header:
        parts = header["spacings"].split()
        told = [float(part) for axis, part in enumerate(parts) if axis != listed]
    steps = told if vectors is None else [math.hypot(*vector) for vector in vectors]
    if steps is None or any(math.isnan(step) for step in steps):
        return None
    if any(not 0 < step < math.inf for step in steps):
        raise InputError(f"'{path}' has the spacing {steps}; expected positive numbers")
    if told is not None and (
        len(told) != len(steps)
        or any(abs(one - other) > 0.01 * other for one, other in zip(told, steps, strict=True))
    ):
        raise InputError(
            f"'{path}' gives two sizes for its voxels: {told} (spacings) and {steps} (space directions); expected one"
        )
    return tuple(steps)
