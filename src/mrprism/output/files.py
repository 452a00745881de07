"""A file takes its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mrprism.core.errors import InputError


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write into: temporary name in the same folder, flush to the disk, rename.

    Args:
        durable: False leaves the flush to the caller, who writes many files and flushes them together.

    Raises:
        InputError: The disk is full, or the folder cannot be written to; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"cannot write '{path}': {error.strerror or error}") from error
        raise


def write_file(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Put a whole file in place, by `replacing`."""
    with replacing(Path(path), durable=durable) as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left in a folder that nobody else writes to."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        with suppress(OSError):
            path.unlink()
