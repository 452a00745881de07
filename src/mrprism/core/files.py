"""Files that end: what is read of somebody's folder is no pipe."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mrprism.core.errors import InputError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of_no_file(path: str | os.PathLike[str]) -> str:
    """What a path is that can be opened like a file and may never end; nothing for files, folders and what is not there."""
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "")
    except (OSError, ValueError):  # a name that no file can have
        return ""


def plain_file(path: Path) -> Path:
    """The path, where it may be opened.

    Raises:
        InputError: It is a pipe, a socket or a device, on which reading might wait for ever.
    """
    if kind := kind_of_no_file(path):
        raise InputError(f"'{path}' is {kind}; expected a file")
    return path


def stem(file: Path) -> str:
    """A file's name without its ending, which may be two: `scan.nii.gz`."""
    return file.name.removesuffix(".gz").rsplit(".", 1)[0]
