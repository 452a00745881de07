"""Symbolic links in data sets: none may lead outside, unless the user allows it.

Importing and exporting copy what a link leads to, and what they write is handed on: in a data set from
elsewhere, a link to a file of one's own would be copied along unnoticed.
"""

from __future__ import annotations

import os
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.images import follows_links

ALLOWED = "set MRPRISM_FOLLOW_LINKS=1 if these links are yours"


def leads_outside(path: Path | str, real_root: str) -> str | None:
    """Where a path really leads, if that is outside a folder given by its real path and is not allowed."""
    target = os.path.realpath(path)
    if follows_links() or Path(target).is_relative_to(real_root):
        return None
    return target


def refuse_links(folder: Path) -> None:
    """Refuse a folder in which, at any depth, a symbolic link leads outside of it.

    Raises:
        InputError: Names the first such link and where it leads.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        for name in sorted([*folders, *files]):
            path = Path(place, name)
            if path.is_symlink() and (target := leads_outside(path, root)) is not None:
                raise InputError(f"'{path}' is a link to '{target}', outside '{folder}'; {ALLOWED}")


def _unreadable(error: OSError) -> None:
    raise InputError(f"cannot read '{error.filename}': {error.strerror or error}") from error
