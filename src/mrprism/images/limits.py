"""How much a file may ask for; docs/reference/limits.md says so to users.

Every limit is an environment variable, read when a file is.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file

DEFLATE = 1032  # no deflate stream grows by more than this factor
_CHUNK = 1 << 20


LIMITS = {
    "MRPRISM_MAX_PIXELS": "1e9",  # of one image or volume
    "MRPRISM_MAX_UNPACKED": "4e9",  # bytes all members of one archive unpack to
    "MRPRISM_MAX_TEXT": "5e8",  # bytes of one JSON, XML or CSV file
    "MRPRISM_FOLLOW_LINKS": "0",  # 1: links in data sets may lead outside
}


def limit_pixels(path: Path | str, shape: tuple[int, ...]) -> None:
    """Refuse a file whose header announces more pixels than MRPRISM_MAX_PIXELS allows."""
    most = _limit("MRPRISM_MAX_PIXELS")
    if math.prod(int(n) for n in shape) > most:
        size = " × ".join(str(n) for n in shape)
        raise InputError(f"'{path}' has {size} pixels, more than MRPRISM_MAX_PIXELS = {most} allows")


def limit_growth(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a packed picture whose header announces more than a file of its size can hold.

    No format read here packs more than eight pixels of one bit into a byte, and no deflate, LZW or JPEG
    stream grows by more than `DEFLATE`.
    """
    held = path.stat().st_size
    if math.prod(int(n) for n in shape) > 8 * DEFLATE * held:
        size = " × ".join(str(n) for n in shape)
        raise InputError(
            f"'{path}' is cut short: its header asks for {size} pixels, the file has {held} bytes"
        )


def limit_archive(path: Path) -> None:
    """Refuse a zip archive (.zip, .npz) that unpacks to more than MRPRISM_MAX_UNPACKED bytes."""
    most = _limit("MRPRISM_MAX_UNPACKED")
    with zipfile.ZipFile(plain_file(path)) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > most:
        raise InputError(f"'{path}' unpacks to {total} bytes, more than MRPRISM_MAX_UNPACKED = {most} allows")


def limit_text(path: Path | str, size: int) -> None:
    """Refuse text of more than MRPRISM_MAX_TEXT bytes: parsed it takes many times the memory."""
    most = _limit("MRPRISM_MAX_TEXT")
    if size > most:
        raise InputError(f"'{path}' has {size} bytes of text, more than MRPRISM_MAX_TEXT = {most} allows")


def follows_links() -> bool:
    """Whether symbolic links in data sets may lead outside."""
    return _limit("MRPRISM_FOLLOW_LINKS") != 0


def _limit(name: str) -> int:
    text = os.environ.get(name, LIMITS[name])
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise InputError(f"{name} is '{text}'; expected a number") from None


def take(stream: Any, count: int, path: Path, behind: bytearray | None = None) -> bytearray:
    """Up to ``count`` bytes in pieces, so that no more memory is taken than the file fills.

    Args:
        behind: What they are put behind, and what is given back then.
    """
    taken = bytearray() if behind is None else behind
    end = len(taken) + count
    try:
        while len(taken) < end and (piece := stream.read(min(_CHUNK, end - len(taken)))):
            taken += piece
    except EOFError as error:
        raise InputError(f"'{path}' is cut short: its gzip stream ends too early") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"'{path}' is broken: {first_line(error)}") from error
    return taken


def exhaust(stream: Any, path: Path) -> None:
    """Read to the end, for only there gzip compares its checksum."""
    spare = 64 * _CHUNK
    while piece := take(stream, _CHUNK, path):
        spare -= len(piece)
        if spare < 0:
            raise InputError(f"'{path}' holds far more bytes than its header asks for")


def beside(path: Path, name: str) -> Path:
    """The file in which a header keeps its data: one, in the same folder.

    Raises:
        InputError: It is several, elsewhere, leads elsewhere, or is not there.
    """
    several = name.upper().startswith("LIST") or "%" in name or " " in name.strip()
    if several and not os.path.isfile(path.parent / name):
        raise InputError(f"'{path}' keeps its data in several files; expected one")
    if os.path.basename(name) != name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise InputError(f"'{path}' keeps its data in '{name}'; expected a file in the same folder")
    data = path.parent / name
    if os.path.realpath(data.parent) != os.path.dirname(os.path.realpath(data)) or not os.path.isfile(data):
        raise InputError(f"'{path}' keeps its data in '{name}', which is not there; expected it beside")
    return data


def numbers_in(path: Path, stream: Any, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Numbers written as text, ``count`` of them, read in pieces.

    Raises:
        InputError: There are fewer or more, or something that is no number of the type.
    """
    found: list[np.ndarray] = []
    have, tail = 0, b""
    while have <= count and (piece := stream.read(_CHUNK)):
        parts = (tail + piece).replace(b",", b" ").split()
        tail = parts.pop() if parts and not piece[-1:].isspace() else b""
        if len(tail) > 64:
            break
        found.append(_parsed(path, parts, dtype))
        have += len(parts)
    if tail:
        found.append(_parsed(path, [tail], dtype))
        have += 1
    if have != count:
        what = "is cut short" if have < count else "is broken"
        raise InputError(f"'{path}' {what}: its header asks for {count} numbers, it gives {have}")
    return np.concatenate(found) if found else np.empty(0, dtype)


def _parsed(path: Path, parts: list[bytes], dtype: np.dtype[Any]) -> np.ndarray:
    try:
        values = np.array([float(part) if dtype.kind == "f" else int(part) for part in parts], dtype)
    except (ValueError, OverflowError) as error:
        raise InputError(f"'{path}' is broken: {first_line(error)}") from error
    return values


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
