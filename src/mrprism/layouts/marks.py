"""What the readers of annotation tools share: pictures by name, JSON, and marks collected into cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import natural
from mrprism.images import format_of, limit_text, read_image
from mrprism.layouts.source import Source, assemble


@dataclass
class Marks:
    """Who marked what on which picture: masks are drawn only when a case's turn comes."""

    passes: dict[str, dict[str, Any]] = field(default_factory=dict)  # picture: {rater: what to draw}
    structures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, picture: str, rater: str, what: Any, file: Path) -> None:
        """One rater's whole pass over one picture; what it lacks of the structures is empty."""
        passes = self.passes.setdefault(picture, {})
        if rater in passes:
            raise InputError(f"'{file}' has a second pass of rater '{rater}' over '{picture}'")
        passes[rater] = what

    def source(self, name: str, images: Path, draw: Any) -> Source:
        """The data set.

        Args:
            draw: Function of (what a rater marked, image size) that returns {structure: mask}.
        """
        if not self.passes:
            raise InputError(f"'{name}' holds no annotated picture")
        raters = sorted({rater for passes in self.passes.values() for rater in passes}, key=natural)
        paths = {picture: find_picture(images, picture) for picture in self.passes}
        first = read_image(next(iter(paths.values())))
        task = Task(len(first.array), tuple(self.structures), tuple(raters))
        return Source(name, task, self._samples(task, paths, draw), notes=self.notes)

    def _samples(self, task: Task, paths: dict[str, Path], draw: Any) -> Iterator[MultiRaterSample]:
        for picture, passes in self.passes.items():
            image = read_image(paths[picture]).array
            if len(image) != task.channels:
                raise InputError(f"'{paths[picture]}' has {len(image)} channels; others have {task.channels}")
            masks: dict[tuple[str, str], np.ndarray] = {}
            for rater, what in passes.items():
                drawn = draw(what, image.shape[1:])
                for structure in self.structures:
                    empty = np.zeros(image.shape[1:], dtype=bool)
                    masks[rater, structure] = drawn.get(structure, empty)
            yield assemble(task, str(PurePosixPath(picture).with_suffix("")), image, masks)


def find_picture(images: Path, name: str) -> Path:
    """The picture of this name, which may come with folders, inside ``images``."""
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or PureWindowsPath(name).drive:
        raise InputError(f"the picture '{name}' is not a path inside '{images}'")
    for path in (images / relative, images / relative.name):
        if path.is_file() and format_of(path):
            return path
    raise InputError(f"the picture '{name}' is not in '{images}'")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: It is missing, too large, or no JSON.
    """
    try:
        limit_text(path, path.stat().st_size)
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not valid JSON: {error}") from error


def from_runs(counts: list[int], length: int, what: str) -> np.ndarray:
    """Run lengths, zeros first, to a flat mask."""
    if any(count < 0 for count in counts) or sum(counts) != length:
        raise InputError(f"the runs of {what} add up to {sum(counts)}; expected {length} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, np.array(counts, dtype=np.int64))
