"""What the readers of annotation tools share: pictures by name, JSON, and marks collected into cases."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.names import spoken
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import entries, folders, natural
from mrprism.images import format_of, limit_text, read_image
from mrprism.layouts.ledger import LEDGER, Ledger
from mrprism.layouts.source import Source, assemble
from mrprism.output.commands import option

_ALL = ""  # stands for every structure


@dataclass
class Canvas:
    """What one rater's marks draw on one picture."""

    size: tuple[int, int]
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # structure: an outline that encloses no pixel

    def add(self, structure: str, mask: np.ndarray, outline: str = "") -> None:
        """Unite a mask with what is there.

        Args:
            outline: What to call a mark that must enclose something; empty for a mask that may be blank.
        """
        if outline and not mask.any():
            self.lost[structure] = outline
            return
        self.masks[structure] = self.masks.get(structure, np.zeros(self.size, dtype=bool)) | mask

    def erase(self, mask: np.ndarray) -> None:
        for below in self.masks.values():
            below &= ~mask


Draw = Callable[[Any, Canvas], None]


@dataclass
class Pass:
    """One rater's whole work on one picture: what it lacks of the structures is empty, unless something was left out."""

    what: Any  # what to draw
    areas: set[str] = field(
        default_factory=set
    )  # structures, folded, of which an area was left out: not known
    lines: set[str] = field(
        default_factory=set
    )  # of which a point or line was: not known where nothing is drawn
    looked_for: frozenset[str] | None = None  # the structures that were to be marked; None: all of them


@dataclass
class Marks:
    """Who marked what on which picture: masks are drawn only when a case's turn comes."""

    ledger: Ledger
    images: Path
    passes: dict[Path, dict[str, Pass]] = field(default_factory=dict)  # picture: {rater: pass}
    spelling: Spelling = field(init=False)
    _asked: dict[Path, str] = field(default_factory=dict)  # picture: the name it was asked for by
    _known: dict[str, list[Path]] | None = None  # pictures by their folded names

    def __post_init__(self) -> None:
        self.spelling = Spelling(self.ledger)

    def structure(self, name: str, where: str) -> str:
        """A structure that may be marked."""
        return self.spelling.of(name, where)

    def nothing_of(self, file: Path) -> str:
        """What helps where a file holds no picture at all, so that its rater would vanish."""
        return f"expected the pictures of a rater; take the file out, or give {option('without', file.stem)}"

    def add(self, picture: Path, rater: str, done: Pass, file: Path) -> None:
        """One rater's whole pass over one picture."""
        passes = self.passes.setdefault(picture, {})
        if rater in passes:
            raise InputError(
                f"'{file}' has a second pass of rater '{rater}' over '{self.ledger.named(picture)}'; expected one"
            )
        passes[rater] = done

    def drop(
        self, done: Pass, what: str, why: str, structures: list[str], *, area: bool, rater: str, case: str
    ) -> None:
        """A mark that is not drawn, so that its structure is not known to be empty.

        Args:
            structures: What it is a mark of; none if that is not known.
            area: It encloses something, so that the whole structure is not known.
        """
        (done.areas if area else done.lines).update([spoken(name) for name in structures] or [_ALL])
        self.ledger.leave(what, why, "mark", rater=rater, case=case)

    def picture(self, name: str, file: Path) -> Path:
        """The picture that a file means by this name, which may come with folders or an address in front.

        Raises:
            InputError: It is not among the images, or another picture of this name was meant by the same one.
        """
        path = self.find(name)
        before = self._asked.setdefault(path, name)
        if not _one_ends(_parts(name), _parts(before)):
            raise InputError(
                f"'{before}' and '{name}' in '{file}' are two pictures, and '{path}' is the only one of that name; "
                f"expected both in '{self.images}', in folders as they are named"
            )
        return path

    def find(self, name: str) -> Path:
        """The picture of this name, whoever else meant it."""
        return find_picture(self.images, name, self._by_name)

    def _by_name(self) -> dict[str, list[Path]]:
        if self._known is None:
            self._known = {}
            for path in (path for folder in folders(self.images) for path in entries(folder)):
                if path.is_file() and format_of(path):
                    self._known.setdefault(spoken(path.name), []).append(path)
        return self._known

    def source(self, name: str, draw: Draw) -> Source:
        """The data set.

        Args:
            draw: Function of (what a rater marked, canvas to draw it on).
        """
        if not self.passes:
            raise InputError(f"'{name}' holds no annotated picture")
        raters = sorted({rater for passes in self.passes.values() for rater in passes}, key=natural)
        self.ledger.take_all(list(self.passes))
        idle = [path for paths in self._by_name().values() for path in paths if path not in self.passes]
        for path in idle:
            self.ledger.know(path, "a picture that nobody annotated")
        if idle:
            self.ledger.note(
                f"{len(idle)} pictures have no annotation, such as '{self.ledger.named(idle[0])}'"
            )
        first = read_image(next(iter(self.passes)))
        task = Task(len(first.array), self.spelling.names, tuple(raters))
        samples = self._samples(task, draw)
        return Source(name, task, samples, count=len(self.passes))

    def _samples(self, task: Task, draw: Draw) -> Iterator[MultiRaterSample]:
        for picture, passes in self.passes.items():
            file = read_image(picture)
            image = file.array
            if len(image) != task.channels:
                raise InputError(f"'{picture}' has {len(image)} channels; others have {task.channels}")
            masks: dict[tuple[str, str], np.ndarray] = {}
            for rater, done in passes.items():
                canvas = Canvas((image.shape[1], image.shape[2]))
                draw(done.what, canvas)
                for what in canvas.lost.values():
                    why = "encloses no pixel of the picture"
                    self.ledger.leave(what, why, "mark", rater=rater, case=self.case(picture))
                unknown = done.lines | {spoken(name) for name in canvas.lost}  # not known to be empty
                for structure in task.structures:
                    found, names = canvas.masks.get(structure), {spoken(structure), _ALL}
                    if names & done.areas or (found is None and names & unknown):
                        continue
                    if found is None and done.looked_for is not None and structure not in done.looked_for:
                        continue
                    masks[rater, structure] = np.zeros(canvas.size, dtype=bool) if found is None else found
            yield assemble(task, self.case(picture), image, masks, notes=file.notes)

    def case(self, picture: Path) -> str:
        """What a case is called."""
        return picture.relative_to(self.images).with_suffix("").as_posix()


class Spelling:
    """Names that several people wrote: those that fold alike are one, spelt as it was met first."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._first: dict[str, str] = {}
        self._written: dict[tuple[str, str], str] = {}  # as spelt in one file

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._first.values())

    def of(self, name: str, where: object) -> str:
        """The one spelling of a name.

        Args:
            where: The file; two spellings in one are two things, and refused.
        """
        key = spoken(name)
        if not key:
            raise InputError(f"'{where}' has a structure without a name")
        first = self._first.setdefault(key, " ".join(name.split()))
        before = self._written.setdefault((key, str(where)), name)
        if before != name:
            raise InputError(
                f"'{where}' has the structures '{before}' and '{name}', which differ in case, blanks or the form of an "
                "accent only; expected one spelling"
            )
        if first != name:
            self.ledger.note(f"'{name}' was taken to be '{first}'")
        return first


def find_picture(images: Path, name: str, by_name: Callable[[], dict[str, list[Path]]] | None = None) -> Path:
    """The picture of this name, which may come with folders or an address in front, inside ``images``.

    The longest end of the name that is there is taken: of `a/b/c.png` first that, then `b/c.png`, then `c.png`.

    Args:
        by_name: All pictures by their folded names, for a name that is spelt otherwise there.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or PureWindowsPath(name).drive or "\0" in name:
        raise InputError(f"the picture '{name}' is not a path inside '{images}'")
    parts = relative.parts
    for start in range(len(parts)):
        path = images.joinpath(*parts[start:])
        if format_of(path) and os.path.isfile(path):
            return path
    alike = (by_name() if by_name and parts else {}).get(spoken(parts[-1]), []) if parts else []
    folded = [path for path in alike if _one_ends(path.relative_to(images).parts, parts)]
    if len(folded) == 1:
        return folded[0]
    hint = ""
    if parts and not format_of(parts[-1]):
        hint = f"; '{PurePosixPath(parts[-1]).suffix or parts[-1]}' is not an ending that is read"
    elif len(folded) > 1:
        hint = f"; there are {len(folded)} of that name, in folders that are not named"
    raise InputError(f"the picture '{name}' is not in '{images}'{hint}")


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def _one_ends(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one path is the end of the other."""
    least = min(len(one), len(other))
    return [spoken(part) for part in one[-least:]] == [spoken(part) for part in other[-least:]]


def json_files(source: Path, ledger: Ledger, own: str) -> list[Path]:
    """The JSON files of a folder, or the one that was named; what this package or another tool keeps there is none."""
    if not source.is_dir():
        return [ledger.take(source)]
    found = [p for p in entries(source) if re.fullmatch(r".+\.json", p.name, re.IGNORECASE) and p.is_file()]
    found = [path for path in found if path.name != LEDGER]
    if not found:
        raise InputError(f"folder '{source}' has no JSON file; expected {own}")
    ledger.take_all(found)
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: It is missing, too large, or no JSON.
    """
    try:
        limit_text(path, plain_file(path).stat().st_size)
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not valid JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which no key may stand twice with two values."""
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] != value:
                raise ValueError(f"the key '{key}' appears twice in one object, with two values")
    return made


def from_runs(counts: list[int], length: int, what: str) -> np.ndarray:
    """Run lengths, zeros first, to a flat mask."""
    if any(count < 0 for count in counts):
        raise InputError(f"the runs of {what} hold the number {min(counts)}; expected none below 0")
    if sum(counts) != length:
        raise InputError(f"the runs of {what} add up to {sum(counts)}; expected {length} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, np.array(counts, dtype=np.int64))
