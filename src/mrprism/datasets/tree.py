"""Finding files in layouts other people made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.names import spoken

_SYSTEM = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin",
    "system volume information", "lost+found", "__pycache__",
}  # fmt: skip


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or is left behind by an operating system or a file server."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in counting order, without hidden files and what operating systems leave behind.

    Raises:
        InputError: There is no such folder, or two names differ in case, blanks or the form of an accent only.
    """
    if not folder.is_dir():
        raise InputError(f"folder '{folder}' does not exist")
    found = [p for p in folder.iterdir() if not is_system(p.name)]
    found.sort(key=lambda p: natural(p.name))
    seen: dict[str, Path] = {}
    for path in found:
        twin = seen.setdefault(spoken(path.name), path)
        if twin is not path:
            how = (
                "case" if twin.name.lower() == path.name.lower() else "case, blanks or the form of an accent"
            )
            raise InputError(f"'{twin}' and '{path.name}' differ in {how} only; expected one of them")
    return found


def folders(root: Path, *, but: Collection[str] = ()) -> Iterator[Path]:
    """A folder and all below it, each once, even where links lead in circles.

    Args:
        but: Names, in small letters, of folders that are passed over.
    """
    seen: set[Path] = set()

    def below(folder: Path) -> Iterator[Path]:
        real = folder.resolve()
        if real in seen:
            return
        seen.add(real)
        yield folder
        for path in entries(folder):
            if path.is_dir() and path.name.lower() not in but:
                yield from below(path)

    yield from below(root)


def matching(folder: Path, pattern: str) -> list[tuple[re.Match[str], Path]]:
    """The entries of a folder whose whole name matches, upper and lower case alike."""
    tried = ((re.fullmatch(pattern, path.name, re.IGNORECASE), path) for path in entries(folder))
    return [(match, path) for match, path in tried if match]


def subfolder(folder: Path, *names: str) -> Path | None:
    """The first of these folders that is there; a folder inside one of its own name is stepped into."""
    for name in names:
        for path in entries(folder) if folder.is_dir() else []:
            if path.is_dir() and path.name.lower() == name.lower():
                inner = [p for p in entries(path) if p.is_dir() and p.name.lower() == name.lower()]
                return inner[0] if inner else path
    return None


def needed(folder: Path, *names: str) -> Path:
    """As `subfolder`, but it must be there."""
    found = subfolder(folder, *names)
    if found is None:
        raise InputError(f"folder '{folder}' has no folder '{names[0]}'; expected this data set's own layout")
    return found


def stem(path: Path) -> str:
    """A file's name without its ending; `.nii.gz` is one."""
    return re.sub(r"(\.nii\.gz|\.[^.]+)$", "", path.name, flags=re.IGNORECASE)


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key that counts: seg2 before seg10."""
    parts = re.split(r"(\d+)", text.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
