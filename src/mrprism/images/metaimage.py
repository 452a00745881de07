"""MetaImage files: data attached (.mha) or in one file beside a header (.mhd), in patient space.

A row of TransformMatrix is the direction of one axis and Offset the centre of the first voxel, both
left-posterior-superior, as ITK has it. AnatomicalOrientation only repeats the matrix in words and is not read.
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.content import Raw
from mrprism.images.geometry import Geometry
from mrprism.images.limits import DEFLATE, beside, limit_pixels, numbers_in

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_HEADER = 1_000_000  # bytes
_LINES = 10_000
_PIECE = 1 << 20


def read_metaimage(path: Path) -> Raw:
    """Decode a file.

    Raises:
        InputError: It is broken, cut short, too large, of a kind that is not read, or keeps its data elsewhere than
            in itself or one file beside it.
    """
    with path.open("rb") as file:
        header = _header(path, file)
        rest = file.tell()
    axes = _count(path, header, "NDims")
    shape = tuple(int(n) for n in _numbers(path, header, "DimSize", axes))
    channels = _count(path, header, "ElementNumberOfChannels", 1)
    kind = header.get("ElementType", "").upper().removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise InputError(
            f"'{path}' holds {header.get('ElementType', 'no')} values; expected whole numbers or floats"
        )
    if not 2 <= axes <= 4 or min(shape) < 1 or channels < 1 or any(n != 1 for n in shape[3:]):
        raise InputError(
            f"'{path}' has the size {shape} of {channels} channels; expected an image or a volume"
        )
    limit_pixels(path, (*shape, channels))
    big = _true(header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False")))
    dtype = np.dtype((">" if big else "<") + _TYPES[kind])
    count = math.prod(shape) * channels
    name = header["ElementDataFile"]
    local = name.upper() == "LOCAL"
    data = path if local else beside(path, name)
    values = _values(path, data, header, rest if local else 0, count, dtype, local=local)
    array = values.reshape((*shape[::-1], channels)).astype(dtype.newbyteorder("="), copy=False)
    spacing = _spacing(path, header, axes)
    space = shape[:3] if len(shape) == 2 or shape[2] != 1 else shape[:2]
    pixels = np.moveaxis(array.reshape((*space[::-1], channels)), -1, 0)
    placed = axes >= 3 and any(key in header for key in (*_OFFSET, *_MATRIX))
    geometry = Geometry(_affine(path, header, axes, spacing or (1.0,) * axes), shape[:3]) if placed else None
    known = None if spacing is None else spacing[: len(space)][::-1]
    return Raw(pixels, known, geometry, "metaimage", path, 255.0 if dtype == np.uint8 else None)


_OFFSET, _MATRIX = ("Offset", "Position", "Origin"), ("TransformMatrix", "Rotation", "Orientation")


def _header(path: Path, file: Any) -> dict[str, str]:
    """The lines up to ElementDataFile, which is the last."""
    header: dict[str, str] = {}
    for _ in range(_LINES):
        line = file.readline(_HEADER)
        key, equal, value = line.decode("utf-8", "replace").partition("=")
        if not equal:
            break
        key = key.strip()
        if header.setdefault(key, value.strip()) != value.strip():
            raise InputError(f"'{path}' is broken: its header says {key} twice")
        if key == "ElementDataFile":
            if header.get("ObjectType", "Image").lower() != "image":
                raise InputError(f"'{path}' holds a MetaIO {header['ObjectType']}; expected an image")
            return header
    raise InputError(f"'{path}' is broken or not a MetaImage file: no header that ends with ElementDataFile")


def _values(
    path: Path,
    data: Path,
    header: dict[str, str],
    start: int,
    count: int,
    dtype: np.dtype[Any],
    *,
    local: bool,
) -> np.ndarray:
    needed, held = count * dtype.itemsize, data.stat().st_size
    skip = int(header.get("HeaderSize", "0")) if not local else 0
    packed = _true(header.get("CompressedData", "False"))
    if not _true(header.get("BinaryData", "True")):
        with data.open("rb") as file:
            file.seek(start)
            return numbers_in(path, file, count, dtype)
    start = held - needed if skip == -1 else start + skip
    if start < 0 or needed > (held - start) * (DEFLATE if packed else 1):
        raise InputError(
            f"'{path}' is cut short: its header asks for {needed} bytes, "
            f"the file has {max(0, held - max(start, 0))}{' packed' if packed else ''}"
        )
    with data.open("rb") as file:
        file.seek(start)
        content = _unpacked(path, file, needed) if packed else file.read(needed)
    if len(content) < needed:
        raise InputError(
            f"'{path}' is cut short: its header asks for {needed} bytes, it gives {len(content)}"
        )
    return np.frombuffer(content, dtype)


def _unpacked(path: Path, file: io.BufferedReader, needed: int) -> bytearray:
    """The deflated data, never more than the header announces."""
    unpack, content = zlib.decompressobj(wbits=47), bytearray()  # 47: deflate or gzip, whichever it is
    try:
        while not unpack.eof and len(content) <= needed:
            piece = unpack.unconsumed_tail or file.read(_PIECE)
            if not piece:
                break
            content += unpack.decompress(piece, _PIECE)
    except zlib.error as error:
        raise InputError(f"'{path}' is broken: {error}") from error
    if len(content) > needed:
        raise InputError(f"'{path}' holds more bytes than its header asks for")
    if not unpack.eof:
        raise InputError(f"'{path}' is cut short: its packed data end too early")
    return content


def _affine(path: Path, header: dict[str, str], axes: int, spacing: tuple[float, ...]) -> np.ndarray:
    matrix = next((key for key in _MATRIX if key in header), None)
    offset = next((key for key in _OFFSET if key in header), None)
    turn = (
        np.eye(axes)
        if matrix is None
        else np.reshape(_numbers(path, header, matrix, axes * axes), (axes, axes))
    )
    first = [0.0] * axes if offset is None else _numbers(path, header, offset, axes)
    affine = np.eye(4)
    affine[:3, :3] = turn[:3, :3].T * np.asarray(spacing[:3])
    affine[:3, 3] = first[:3]
    affine[:2] *= -1  # from left-posterior-superior to right-anterior-superior
    if not np.isfinite(affine).all() or abs(np.linalg.det(turn[:3, :3])) < 1e-6:
        raise InputError(f"'{path}' has a position that cannot be used: {header.get(matrix or '', '')}")
    return affine


def _spacing(path: Path, header: dict[str, str], axes: int) -> tuple[float, ...] | None:
    key = "ElementSpacing" if "ElementSpacing" in header else "ElementSize"
    if key not in header:
        return None
    steps = _numbers(path, header, key, axes)
    if any(not 0 < step < math.inf for step in steps):
        raise InputError(f"'{path}' has the spacing {steps}; expected positive numbers")
    return tuple(steps)


def _numbers(path: Path, header: dict[str, str], key: str, count: int) -> list[float]:
    try:
        values = [float(part) for part in header[key].split()]
    except (KeyError, ValueError) as error:
        raise InputError(f"'{path}' is broken: its header has no {key} that can be read") from error
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(f"'{path}' has {key} = {header[key][:60]}; expected {count} numbers")
    return values


def _count(path: Path, header: dict[str, str], key: str, default: int | None = None) -> int:
    if default is not None and key not in header:
        return default
    value = _numbers(path, header, key, 1)[0]
    if value != int(value):
        raise InputError(f"'{path}' has {key} = {value:g}; expected a whole number")
    return int(value)


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes")
