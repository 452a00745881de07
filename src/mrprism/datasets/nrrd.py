"""NRRD files as 3D Slicer writes them: attached data, raw or gzip, in patient space."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrprism.errors import InputError

_TYPES = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1",
    "uchar": "u1", "unsigned char": "u1", "uint8": "u1", "uint8_t": "u1",
    "short": "i2", "short int": "i2", "signed short": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "uint16": "u2", "uint16_t": "u2",
    "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4",
    "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
    "float": "f4", "double": "f8",
}  # fmt: skip
_HEADER = 10_000_000  # bytes; a header of Slicer has some thousands
_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
}


@dataclass(frozen=True)
class Nrrd:
    """The content of a file."""

    array: np.ndarray  # axes as on disk, fastest first; a list axis, if there is one, comes first
    affine: np.ndarray | None  # (4, 4) voxel to millimetres, right-anterior-superior
    fields: dict[str, str]  # the key/value pairs


def read_nrrd(path: Path) -> Nrrd:
    """Read a file whole.

    Raises:
        InputError: It is missing, broken, cut short, too large, or of a kind that Slicer does not write.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    end, gap = min(
        ((i, len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (i := raw.find(mark, 0, _HEADER)) > 0),
        default=(-1, 0),
    )
    if not raw.startswith(b"NRRD000") or end < 0:
        raise InputError(f"'{path}' is broken or not an NRRD file: no header")
    header, fields = _header(raw[:end].decode("utf-8", "replace"))
    try:
        return Nrrd(*_content(path, raw[end + gap :], header), fields)
    except InputError:
        raise
    except (KeyError, ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' is broken: {type(error).__name__} {error}") from error


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


def _content(path: Path, body: bytes, header: dict[str, str]) -> tuple[np.ndarray, np.ndarray | None]:
    if "data file" in header or "datafile" in header:
        raise InputError(f"'{path}' keeps its data in another file; expected them in one")
    shape = tuple(int(n) for n in header["sizes"].split())
    order = "<" if header.get("endian", "little") == "little" else ">"
    dtype = np.dtype(order + _TYPES[header["type"].lower()])
    if min(shape) < 1 or len(shape) != int(header["dimension"]):
        raise InputError(f"'{path}' has the sizes {shape} for {header['dimension']} axes")
    most = float(os.environ.get("MRPRISM_MAX_PIXELS", "1e9"))
    if math.prod(shape) > most:
        raise InputError(f"'{path}' has {math.prod(shape)} pixels, more than MRPRISM_MAX_PIXELS allows")
    needed = math.prod(shape) * dtype.itemsize
    encoding = header["encoding"].lower()
    if encoding in ("gzip", "gz"):
        body = _unpacked(body, needed)
    elif encoding != "raw":
        raise InputError(f"'{path}' has the encoding '{encoding}'; expected raw or gzip")
    if len(body) < needed:
        raise InputError(f"'{path}' is cut short: its header asks for {needed} bytes, it gives {len(body)}")
    array = np.frombuffer(body, dtype, math.prod(shape)).reshape(shape, order="F")
    return array.astype(dtype.newbyteorder("=")), _affine(path, header)


def _unpacked(body: bytes, needed: int) -> bytes:
    """What a gzip stream holds, its checksum compared, and never more than is needed."""
    import io

    with gzip.open(io.BytesIO(body)) as stream:
        content = stream.read(needed)
        if len(content) == needed and stream.read(1):
            raise ValueError("it holds more than its header says")
    return content


def _affine(path: Path, header: dict[str, str]) -> np.ndarray | None:
    if "space directions" not in header or "space origin" not in header:
        return None
    space = header.get("space", "").lower()
    if space not in _TO_RAS:
        raise InputError(f"'{path}' lies in the space '{space}'; expected left-posterior-superior")
    vectors = [
        [float(v) for v in part.split(",")]
        for part in header["space directions"].replace("none", "").replace("(", " ").replace(")", " ").split()
    ]
    affine = np.eye(4)
    affine[:3, :3] = np.array(vectors).T
    affine[:3, 3] = [float(v) for v in header["space origin"].strip("() ").split(",")]
    affine[:3] *= np.array(_TO_RAS[space])[:, None]
    if not np.isfinite(affine).all():
        raise InputError(f"'{path}' has a position that is not finite")
    return affine
