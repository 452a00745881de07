"""A folder takes its name only when all in it is written."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mrprism.core.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def complete_folder(out: Path, what: str = "") -> Iterator[Path]:
    """A folder to write into, which takes the name ``out`` only when all is written and on the disk.

    What a killed run left is removed by the next one; after an error nothing is left.

    Args:
        what: What is written, for the message, with a space behind it.

    Raises:
        InputError: ``out`` holds something, or the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"'{out}' exists already; expected a new or empty folder")
    unfinished = out.parent / f".{out.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        _flush(unfinished)
        if out.exists():
            out.rmdir()
        os.replace(unfinished, out)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        why = error.strerror or error
        where = Path(error.filename or out)
        full = error.errno in _FULL  # copying names the file that is read, whichever of the two failed
        if not (full or where.is_relative_to(unfinished) or out.is_relative_to(where)):
            raise InputError(f"cannot read '{error.filename}': {why}") from error
        raise InputError(f"cannot write {what}'{out}': {why}") from error
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _flush(folder: Path) -> None:
    """Bring every file to the disk; far quicker after writing than file by file."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
