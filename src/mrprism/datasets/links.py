"""Symbolic links in data sets: none may lead outside, unless the user allows it.

Importing and exporting copy what a link leads to, and what they write is handed on: in a data set from
elsewhere, a link to a file of one's own would be copied along unnoticed.
"""

from __future__ import annotations

import os
from pathlib import Path

from mrprism.images import follows_links

ALLOWED = "set MRPRISM_FOLLOW_LINKS=1 if these links are yours"


def leads_outside(path: Path | str, real_root: str) -> str | None:
    """Where a path really leads, if that is outside a folder given by its real path and is not allowed."""
    target = os.path.realpath(path)
    if follows_links() or Path(target).is_relative_to(real_root):
        return None
    return target
