"""How much a file may ask for."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

from mrprism.errors import InputError

DEFLATE = 1032  # no deflate stream grows by more than this factor
_CHUNK = 1 << 20


def limit_pixels(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a file whose header announces more pixels than MRPRISM_MAX_PIXELS allows."""
    text = os.environ.get("MRPRISM_MAX_PIXELS", "1e9")
    try:
        most = int(float(text))
    except ValueError:
        raise InputError(f"MRPRISM_MAX_PIXELS is '{text}'; expected a number") from None
    if math.prod(int(n) for n in shape) > most:
        size = " × ".join(str(n) for n in shape)
        raise InputError(f"'{path}' has {size} pixels, more than MRPRISM_MAX_PIXELS = {most} allows")


def take(stream: Any, count: int, path: Path) -> bytearray:
    """Up to ``count`` bytes in pieces, so that no more memory is taken than the file fills."""
    taken = bytearray()
    try:
        while len(taken) < count and (piece := stream.read(min(_CHUNK, count - len(taken)))):
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


def first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
