"""The ledger of an import: each file, mark and annotation that was seen is read, or is named with the reason.

A reader cannot forget a file: the ledger lists all that lie in the source before the reader begins, and
those that nobody claims are named when it ends. A reader *takes* the files it reads, *knows* those that
hold no rater's work (a table of patients, a folder of predictions), and *leaves* what may be somebody's
work but is not drawn. What is left trips `--strict`; the files of operating systems do not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from mrprism.core.errors import InputError
from mrprism.core.files import kind_of_no_file, plain_file
from mrprism.datasets.links import ALLOWED, leads_outside
from mrprism.datasets.tree import is_system
from mrprism.images import format_of

LEDGER = "mrprism-import.json"
_OURS = {"dataset.json", "mrprism.json", "manifest.json", LEDGER}  # what this package writes beside data
_ABOUT = re.compile(  # what tells about a data set and holds none of it
    r"(read.?me|licen[cs]e|copying|citation|authors|change(s|log)|notice|terms|md5|sha\d+|checksums?)\b.*"
    r"|.*\.(md|pdf|docx?|rtf|html?|url|bib|cff)",
    re.IGNORECASE,
)
_SHOWN = 3  # examples of one reason
_NOTES = 20  # printed

Kind = Literal["file", "mark", "annotation", "image"]


@dataclass(frozen=True)
class Left:
    """Something that was seen and not drawn."""

    what: str
    why: str
    kind: Kind = "file"
    rater: str = ""
    case: str = ""


class Ledger:
    """What one import saw."""

    def __init__(self, root: Path, files: Iterable[str]) -> None:
        """
        Args:
            files: All that lie below ``root``, by their absolute paths.
        """
        self.root = os.path.abspath(root)
        self.left: list[Left] = []
        self.ignored: list[str] = []  # of operating systems
        self.notes: list[str] = []  # what was decided
        self.own: list[str] = []  # of the layout or about it, and no rater's work
        self.without: frozenset[str] = frozenset()  # raters whom the user does not want
        self.skipped: set[str] = set()  # those of them whom the reader did not look at
        self._files = list(files)
        self.tell: Callable[[int], None] | None = None  # how many files were looked at
        self._taken: set[str] = set()
        self._known: dict[str, str] = {}  # file or folder: why
        self._settled = False

    @classmethod
    def of(cls, source: Path) -> Ledger:
        """Everything below a folder; of a file nothing but itself.

        Raises:
            InputError: A link leads outside of the folder, or a folder cannot be read.
        """
        if not source.is_dir():
            return cls(source.parent, [os.path.abspath(source)])
        return cls(source, _walk(source))

    def take(self, path: Path) -> Path:
        """This file is read; given back as it came.

        Raises:
            InputError: It is a pipe, a socket or a device.
        """
        self._taken.add(os.path.abspath(plain_file(path)))
        if self.tell is not None:
            self.tell(len(self._taken))
        return path

    def take_all(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.take(path)

    def know(self, path: Path | str, why: str) -> None:
        """This file, or all in this folder, is no rater's work."""
        self._known[os.path.abspath(path)] = why

    def leave(
        self, what: Path | str, why: str, kind: Kind = "file", *, rater: str = "", case: str = ""
    ) -> None:
        """This may be a rater's work and is not drawn."""
        if isinstance(what, Path):
            self._taken.add(os.path.abspath(what))
        self.left.append(Left(self.named(what) if isinstance(what, Path) else what, why, kind, rater, case))

    def note(self, text: str) -> None:
        """Something was decided; said once."""
        if text not in self.notes:
            self.notes.append(text)

    def named(self, path: Path | str) -> str:
        """A path as it is spoken of: below the source, with forward slashes."""
        full = os.path.abspath(path)
        inside = full.startswith(self.root + os.sep)
        return (full[len(self.root) + 1 :] if inside else str(path)).replace(os.sep, "/")

    def settle(self) -> None:
        """Name every file that nobody claimed; done once, when all cases were read."""
        if self._settled:
            return
        self._settled = True
        for file in self._files:
            if file in self._taken or self._is_data_of_another(file):
                continue
            name = self.named(file)
            if any(is_system(part) for part in name.split("/")):
                self.ignored.append(name)
            elif (
                self._why_known(file)
                or os.path.basename(file) in _OURS
                or _ABOUT.fullmatch(os.path.basename(file))
            ):
                self.own.append(name)
            elif kind := kind_of_no_file(file):
                self.left.append(Left(name, f"{kind}, not a file"))
            elif format_of(file) is None:
                self.left.append(Left(name, "neither an image nor a file of this layout"))
            else:
                self.left.append(Left(name, "not where, or not named as, this layout has its files"))

    def lines(self) -> list[str]:
        """A summary for the terminal: a line for each reason, with examples."""
        groups: dict[tuple[Kind, str], list[Left]] = {}
        for item in self.left:
            groups.setdefault((item.kind, item.why), []).append(item)
        found = [f"note: {note}" for note in self.notes[:_NOTES]]
        if len(self.notes) > _NOTES:
            found.append(f"note: {len(self.notes) - _NOTES} more such notes are in {LEDGER}")
        for (kind, why), items in groups.items():
            if len(items) == 1:
                found.append(f"left out: {_shown(items[0])}: {why}")
            else:
                some = ", ".join(_shown(item) for item in items[:_SHOWN])
                more = ", ..." if len(items) > _SHOWN else ""
                found.append(f"left out: {len(items)} {kind}s: {why}: {some}{more}")
        if self.ignored:
            some = ", ".join(f"'{name}'" for name in self.ignored[:_SHOWN])
            more = ", ..." if len(self.ignored) > _SHOWN else ""
            found.append(
                f"ignored: {len(self.ignored)} hidden files or files of an operating system: {some}{more}"
            )
        return found

    def refuse_left(self) -> None:
        """For --strict.

        Raises:
            InputError: Something was left out.
        """
        if self.left:
            first = self.left[0]
            count = len(self.left)
            rest = f" and {count - 1} more" if count > 1 else ""
            raise InputError(
                f"{_shown(first)} ({first.why}){rest} would be left out; with --strict this is refused: "
                "repair the source, or import without --strict, which names everything that it leaves out"
            )

    def renamed(self, names: Mapping[str, str]) -> None:
        """Speak of raters by other names, in all that is kept."""
        if not names:
            return
        wanted = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        pattern = re.compile(rf"(?<!\w)(?:{wanted})(?!\w)")

        def other(text: str) -> str:
            return pattern.sub(lambda found: names[found[0]], text)

        self.notes[:] = [other(note) for note in self.notes]
        self.left[:] = [
            replace(item, what=other(item.what), why=other(item.why), rater=other(item.rater))
            for item in self.left
        ]
        self.own[:] = [other(name) for name in self.own]
        self.ignored[:] = [other(name) for name in self.ignored]

    def document(self, **facts: object) -> bytes:
        """All of it as JSON, with more that is known of the import."""
        content = {
            "format": "mrprism-import/1",
            **facts,
            "files_read": len(self._taken) - sum(item.kind == "file" for item in self.left),
            "notes": self.notes,
            "left_out": [{k: v for k, v in asdict(item).items() if v} for item in self.left],
            "no_raters_work": self.own,
            "ignored": self.ignored,
        }
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="replace")

    def _is_data_of_another(self, file: str) -> bool:
        """Whether these are the voxels of a MetaImage or NRRD whose header is a file of its own."""
        stem = re.sub(r"\.(raw|zraw|bin|dat|img)(\.(gz|bz2))?$", "", file, flags=re.IGNORECASE)
        return stem != file and any(f"{stem}{ending}" in self._taken for ending in (".mhd", ".nhdr"))

    def _why_known(self, file: str) -> str | None:
        if not self._known:
            return None
        place = file
        while len(place) > len(self.root):
            if place in self._known:
                return self._known[place]
            place = os.path.dirname(place)
        return None


def _shown(item: Left) -> str:
    who = f" by {item.rater}" if item.rater else ""
    where = f" on '{item.case}'" if item.case else ""
    return (f"'{item.what}'" if item.kind == "file" else item.what) + who + where


def _walk(folder: Path) -> list[str]:
    """All files, each by its absolute path; links that stay inside are followed, each folder once."""
    real_root, start = os.path.realpath(folder), os.path.abspath(folder)
    found: list[str] = []
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(place) as listed:
                inside = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"cannot read '{error.filename}': {error.strerror or error}") from error
        for entry in inside:
            path = os.path.join(place, entry.name)
            if entry.is_symlink() and (target := leads_outside(path, real_root)) is not None:
                raise InputError(f"'{path}' is a link to '{target}', outside '{folder}'; {ALLOWED}")
            if entry.is_dir():
                # folders themselves before links to them, so that a file has its own name
                waiting.insert(0 if entry.is_symlink() else len(waiting), path)
            else:
                found.append(path)
    return sorted(found)
