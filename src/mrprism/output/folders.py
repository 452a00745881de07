"""A folder takes its name only when all in it is written; a set of files takes its places all together."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.output.lock import alone, beside

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.unfinished")
FLUSHED_TOGETHER = 8  # files


@contextmanager
def complete_folder(out: str | Path, what: str = "") -> Iterator[Path]:
    """A folder to write into, which takes the name ``out`` only when all is written and on the disk.

    Until then it has a name of its own. What a killed run left is removed by the next one; after an error nothing
    is left.

    Args:
        what: What is written, for the message, with a space behind it.

    Raises:
        InputError: ``out`` holds something, another command writes to it, or the disk refuses.
    """
    with alone(out) as sure:
        place = Path(os.path.realpath(out))
        _refuse_taken(place, out)
        if sure:
            remove_unfinished(place)
        with _failing(place, f"{what}'{out}'") as unfinished:
            unfinished.mkdir()
            yield unfinished
            flush(unfinished)
            if place.exists():
                place.rmdir()
            os.replace(unfinished, place)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of another one, if there is one, when it is whole.

    Between the two there is for a moment none, and never a mixture. For folders inside an output whose lock the caller
    holds, and in which `remove_unfinished_in` was called before the first of them.

    Raises:
        InputError: The disk refuses.
    """
    old = _unfinished(folder)
    with _failing(folder, f"'{folder}'") as unfinished:
        unfinished.mkdir(parents=True)
        yield unfinished
        _move([*([(folder, old)] if folder.exists() else []), (unfinished, folder)])
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def complete_set(
    folder: Path, name: str, older: Sequence[str], last: Sequence[str], *, known: bool = False
) -> Iterator[Path]:
    """A folder to write into, whose files and folders take their places in ``folder`` all together.

    The older ones go first and the new ones come after: whoever is killed in between leaves a part of the one or of the
    other, never a mixture, and without the files by which readers know the set, which go first and come last.
    For folders whose lock the caller holds.

    Args:
        name: Of the set, for the hidden name of what is not finished.
        older: Patterns of the files and folders that an older set may have.
        last: The files by which readers know the set.
        known: Something else tells that the folder is ours. Without it, files of such names beside none of ``last`` are
            somebody else's, unless a command was killed between the two sets.

    Raises:
        InputError: The disk refuses, or files of these names are somebody else's; what was there before is there
            still.
    """
    known = known or any((path / "old").is_dir() for path in _leftovers(folder / name))
    remove_unfinished(folder / name)
    with _gone_if_empty(folder), _failing(folder / name, f"'{folder}'") as unfinished:
        new, old = unfinished / "new", unfinished / "old"
        new.mkdir(parents=True)
        yield new
        flush(new)
        before = {path.name for pattern in older for path in folder.glob(pattern)}
        names = sorted((path.name for path in new.iterdir()), key=lambda name: name in last)
        before |= {name for name in names if (folder / name).exists()}
        if before and not (known or before.intersection(last)):
            raise InputError(
                f"'{folder / min(before)}' would be replaced, and beside it is no {last[0]} to tell that mrprism "
                "wrote it; name another folder, or move it away"
            )
        old.mkdir()
        away = sorted(before, key=lambda name: name not in last)
        _move(
            [(folder / name, old / name) for name in away] + [(new / name, folder / name) for name in names]
        )


@contextmanager
def _gone_if_empty(folder: Path) -> Iterator[None]:
    """A folder that is made meanwhile goes again if nothing came of it."""
    there = folder.exists()
    try:
        yield
    finally:
        if not there:
            with suppress(OSError):
                folder.rmdir()


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename all of these, one after the other, or none."""
    try:
        for source, target in moves:
            os.replace(source, target)
    except BaseException:
        for source, target in reversed(moves):
            if os.path.lexists(target) and not os.path.lexists(source):
                os.replace(target, source)
        raise


def remove_unfinished(out: Path) -> None:
    """Remove what killed commands left of a folder whose lock the caller holds."""
    for path in _leftovers(out):
        shutil.rmtree(path, ignore_errors=True)


def remove_unfinished_in(folder: Path) -> None:
    """Remove what killed commands left of folders within a folder whose lock the caller holds."""
    for path in _entries(folder):
        if _UNFINISHED.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _leftovers(out: Path) -> list[Path]:
    name = re.compile(re.escape(beside(out, "").name) + r"(\.[0-9a-f]{8})?\.unfinished")
    return [path for path in _entries(out.parent) if name.fullmatch(path.name)]


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return ()


def _unfinished(folder: Path) -> Path:
    return beside(folder, f".{secrets.token_hex(4)}.unfinished")


def _refuse_taken(place: Path, out: str | Path) -> None:
    """Raise InputError where a new folder cannot take its name in the end."""
    if place.exists() and (not place.is_dir() or any(path.name != ".lock" for path in place.iterdir())):
        raise InputError(f"'{out}' exists already; expected a new or empty folder")
    if os.path.ismount(place):
        raise InputError(f"'{out}' is a mounted disk, which cannot be replaced; name a new folder within it")
    if place == Path.cwd():
        raise InputError(f"'{out}' is the folder you are in, which cannot be replaced; name another one")


@contextmanager
def _failing(place: Path, out: str) -> Iterator[Path]:
    """The hidden folder of what is not finished yet, and what is said and removed when it never will be."""
    unfinished = _unfinished(place)
    try:
        yield unfinished
    except OSError as error:
        why = error.strerror or error
        where = Path(os.path.realpath(error.filename or place))
        full = error.errno in _FULL  # copying names the file that is read, whichever of the two failed
        if not (full or where.is_relative_to(unfinished) or place.is_relative_to(where)):
            raise InputError(f"cannot read '{error.filename}': {why}") from error
        raise InputError(f"cannot write {out}: {why}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def flush(folder: Path) -> None:
    """Bring every file to the disk; far quicker after writing than file by file.

    Several at a time: a journal takes what waits for it in one go.
    """
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    with ThreadPoolExecutor(FLUSHED_TOGETHER) as pool:
        for _ in pool.map(_flush, files):
            pass


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
