"""A file takes its name only when it is whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mrprism.core.errors import InputError
from mrprism.output.lock import beside, is_at, lock


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write into: temporary name in the same folder, flush to the disk, rename.

    Args:
        durable: False leaves the flush to the caller, who writes many files and flushes them together.

    Raises:
        InputError: The disk is full, or the folder cannot be written to; nothing is left behind.
    """
    temporary = beside(path, f".{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _begun(temporary) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if os.name != "nt":  # which renames no open file
                os.replace(temporary, path)
        if os.name == "nt":
            os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"cannot write '{path}': {error.strerror or error}") from error
        raise


def _begun(path: Path) -> BinaryIO:
    """A new file, locked, which tells it from what a killed command left."""
    while True:
        file = path.open("xb")
        try:
            lock(file, wait=True)
        except OSError:  # a file system without locks
            return file
        if is_at(file, path):
            return file
        file.close()  # taken for a leftover before it was locked


def write_file(path: str | Path, content: bytes | str, *, durable: bool = True) -> None:
    """Put a whole file in place, by `replacing`.

    Text is written as UTF-8; halves of pairs, for which UTF-8 has no bytes, as JSON writes them, `\\ud800`.
    """
    with replacing(Path(path), durable=durable) as file:
        file.write(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def remove_leftovers(folder: Path) -> None:
    """Remove the files that killed commands left half-written in a folder; those being written stay."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        with suppress(OSError), path.open("rb") as file:
            lock(file)
            if os.name != "nt":
                path.unlink()
        if os.name == "nt":
            with suppress(OSError):  # which refuses while another has it open
                path.unlink()
