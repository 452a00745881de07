"""nnU-Net v2: `dataset.json`, `imagesTr/CASE_0000.ending`, and labels of several raters.

nnU-Net knows no raters. They are told apart by one of three rules:
- folders: `labelsTr_RATER/CASE.ending` for each rater (a plain `labelsTr` becomes the reference);
- a regular expression ``rater`` whose first bracket finds the rater in the case's name, as in
  `labelsTr/liver07_ann.nii.gz` with ``rater=_(ann|bob)$``; the image is then taken from whichever of
  the cases has it;
- data sets: a folder of `Dataset501_RATER/` for each rater, whose label values are the same. ``rater`` may find the
  rater in the name of the data set; a case's image is taken from the first that has it.
Label values and regions become structures; a region is every value it lists. Pixels with the `ignore`
label cannot be kept apart and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.manifest import Case
from mrprism.datasets.tree import matching, natural, needed
from mrprism.images import ImageFile, read_image, read_labels
from mrprism.layouts.marks import read_json
from mrprism.layouts.source import InPlace, Source, aligned, assemble, parse_window, split_labels, together


def read(source: Path, *, rater: str = "", window: str = "", resample: str = "no") -> Source:
    """Read one data set folder, or a folder that holds one for each rater.

    Args:
        rater: Regular expression that finds the rater in a case's name, or in the name of a data set of
            several; without it raters are folders.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    sets = [] if (source / "dataset.json").exists() else matching(source, r"Dataset\d{3}_(.+)")
    about = _about(sets[0][1] if sets else source)
    references: dict[str, Path] = {}
    if sets:
        drawn, images = _by_set([(match[1], folder) for match, folder in sets], about, rater)
    else:
        by_name = _by_name(source, about.ending, rater) if rater else _by_folder(source, about.ending)
        drawn, references = by_name
        images = _images(needed(source, "imagesTr"), about.ending, rater)
    raters = sorted({who for found in drawn.values() for who in found}, key=natural)
    if not raters:
        raise InputError(
            f"'{source}' has no folders 'labelsTr_RATER'; expected them, or -o rater= and a pattern"
        )
    first = read_image(next(iter(images.values()))[0])
    count = sum(len(read_image(path).array) for path in next(iter(images.values())))
    task = Task(count, tuple(about.labels), tuple(raters))
    reading = _Reading(task, about.labels, about.ignored, parse_window(window), resample)
    samples = reading.samples(images, drawn, references)
    kind = "nifti" if first.format == "nifti" else "png"
    named = about.channels if len(about.channels) == count else None
    here = InPlace(_cases(images, drawn, references), about.labels, parse_window(window))
    name = source.resolve().name if sets else about.name or source.resolve().name
    return Source(name, task, samples, named, kind, here=here)


@dataclass(frozen=True)
class _About:
    """What a `dataset.json` says."""

    labels: dict[str, tuple[int, ...]]
    ignored: int | None
    channels: tuple[str, ...]
    ending: str
    name: str


def _about(folder: Path) -> _About:
    file = folder / "dataset.json"
    document = read_json(file)
    try:
        labels, ignored = _labels(document["labels"], folder)
        channels = tuple(str(name) for name in document["channel_names"].values())
        about = _About(
            labels, ignored, channels, str(document["file_ending"]), str(document.get("name") or "")
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"'{file}' is not one of nnU-Net v2: {type(error).__name__} {error}") from error
    if "dataset" in document:
        raise InputError(f"'{file}' lists its files itself, which is not read")
    return about


def _cases(images: dict[str, list[Path]], drawn: Files, references: dict[str, Path]) -> list[Case]:
    """The cases as they lie."""
    return [
        Case(
            name=case,
            image=str(paths[0]) if len(paths) == 1 else [str(path) for path in paths],
            masks={rater: str(path) for rater, path in drawn.get(case, {}).items()},
            reference=str(references[case]) if case in references else None,
        )
        for case, paths in images.items()
    ]


Files = dict[str, dict[str, Path]]  # {case: {rater: label map}}


def _labels(listed: dict[str, Any], source: Path) -> tuple[dict[str, tuple[int, ...]], int | None]:
    labels = {
        name: tuple(int(v) for v in value) if isinstance(value, list) else (int(value),)
        for name, value in listed.items()
    }
    if labels.pop("background", None) != (0,):
        raise InputError(f"'{source / 'dataset.json'}' must name the label 0 'background'")
    ignored = labels.pop("ignore", None)
    values = sorted({v for group in labels.values() for v in group} - {0})
    if values != list(range(1, len(values) + 1)):
        raise InputError(f"'{source / 'dataset.json'}' has the labels {values}; expected 1, 2, 3, ...")
    return labels, ignored[0] if ignored else None


def _by_folder(source: Path, ending: str) -> tuple[Files, dict[str, Path]]:
    drawn: Files = {}
    for match, folder in matching(source, r"labelsTr_(.+)"):
        for found, path in matching(folder, rf"(.+){re.escape(ending)}"):
            drawn.setdefault(found[1], {})[match[1]] = path
    plain = source / "labelsTr"
    listed = matching(plain, rf"(.+){re.escape(ending)}") if plain.is_dir() else []
    return drawn, {found[1]: path for found, path in listed}


def _by_set(sets: list[tuple[str, Path]], first: _About, pattern: str) -> tuple[Files, dict[str, list[Path]]]:
    """A data set for each rater; images of those that have a case agree, or the masks will not fit."""
    drawn: Files = {}
    images: dict[str, list[Path]] = {}
    names: dict[str, Path] = {}
    for plain, folder in sets:
        rater = _taken_apart(plain, pattern)[1] if pattern else plain
        if rater is None:
            raise InputError(f"the pattern '{pattern}' finds no rater in '{folder}'")
        if rater in names:
            raise InputError(
                f"'{names[rater]}' and '{folder}' are both of rater '{rater}'; expected one of them"
            )
        names[rater] = folder
        about = _about(folder)
        if (about.labels, about.ignored, about.ending) != (first.labels, first.ignored, first.ending):
            raise InputError(
                f"'{folder / 'dataset.json'}' has the labels {about.labels} in {about.ending}, "
                f"'{sets[0][1] / 'dataset.json'}' {first.labels} in {first.ending}; expected the same"
            )
        for found, path in matching(needed(folder, "labelsTr"), rf"(.+){re.escape(about.ending)}"):
            drawn.setdefault(found[1], {})[rater] = path
        for case, paths in _images(needed(folder, "imagesTr"), about.ending, "").items():
            images.setdefault(case, paths)
    return drawn, images


def _by_name(source: Path, ending: str, pattern: str) -> tuple[Files, dict[str, Path]]:
    drawn: Files = {}
    for found, path in matching(needed(source, "labelsTr"), rf"(.+){re.escape(ending)}"):
        case, rater = _taken_apart(found[1], pattern)
        if rater is None:
            raise InputError(f"the pattern '{pattern}' finds no rater in '{path}'")
        files = drawn.setdefault(case, {})
        if rater in files:
            raise InputError(f"'{files[rater]}' and '{path}' are the same case and rater")
        files[rater] = path
    return drawn, {}


def _taken_apart(name: str, pattern: str) -> tuple[str, str | None]:
    try:
        found = re.search(pattern, name)
        if found is None:
            return name, None
        return name[: found.start()] + name[found.end() :], found[1]
    except (re.error, IndexError) as error:
        raise InputError(f"'{pattern}' is not a regular expression with one bracket: {error}") from error


def _images(folder: Path, ending: str, pattern: str) -> dict[str, list[Path]]:
    channels: dict[str, dict[int, Path]] = {}
    for found, path in matching(folder, rf"(.+)_(\d{{4}}){re.escape(ending)}"):
        case = _taken_apart(found[1], pattern)[0] if pattern else found[1]
        channels.setdefault(case, {}).setdefault(int(found[2]), path)
    if not channels:
        raise InputError(f"folder '{folder}' has no file like 'case_0000{ending}'")
    return {case: [found[i] for i in sorted(found)] for case, found in channels.items()}


class _Reading:
    """Cases of one data set, read in turn."""

    def __init__(
        self,
        task: Task,
        labels: dict[str, tuple[int, ...]],
        ignored: int | None,
        window: tuple[float, float] | None,
        resample: str,
    ) -> None:
        self.task, self.labels, self.ignored, self.window = task, labels, ignored, window
        self.resample = resample

    def samples(
        self, images: dict[str, list[Path]], drawn: Files, references: dict[str, Path]
    ) -> Iterator[MultiRaterSample]:
        for case in drawn:
            if case not in images:
                raise InputError(f"case '{case}' has labels but no image in imagesTr")
        for case, paths in images.items():
            parts = [read_image(path, window=self.window) for path in paths]
            image = together(parts, resample=self.resample)
            masks = {
                (rater, structure): mask
                for rater, path in drawn.get(case, {}).items()
                for structure, mask in self._structures(path, parts[0]).items()
            }
            reference = self._structures(references[case], parts[0]) if case in references else None
            yield assemble(self.task, case, image, masks, reference, like=parts[0])

    def _structures(self, path: Path, image: ImageFile) -> dict[str, np.ndarray]:
        file = read_labels(path)
        array = aligned(file, image, resample=self.resample)
        if self.ignored is not None and (array == self.ignored).any():
            raise InputError(f"label map '{path}' marks pixels to ignore, which cannot be kept")
        return split_labels(array, self.labels, path)
