"""A folder of images, and beside it one folder of masks for each rater.

`images/NAME.png`, `RATER/NAME.png` for one structure or a label map, `RATER/STRUCTURE/NAME.png` for
several; `reference/` in the same way. A rater without a file for an image did not do it. An image may be
a folder of its own that holds a DICOM series.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.manifest import Case, Drawn
from mrprism.datasets.open_image import is_series, open_image
from mrprism.datasets.tree import entries, folders, needed, stem
from mrprism.images import format_of
from mrprism.layouts.source import InPlace, Source, assemble, parse_labels, parse_window, structures_of

_REFERENCE = "reference"


def read(
    source: Path,
    *,
    images: str = "images",
    structure: str = "object",
    labels: str = "",
    group: str = "",
    anonymous: str = "no",
    window: str = "",
    resample: str = "no",
) -> Source:
    """Read the folder.

    Args:
        images: Name of the folder with the images.
        structure: Name of the one structure, where there is one.
        labels: For label maps, such as "disc:1+2,cup:2".
        group: Regular expression whose first bracket finds the patient in a case's name.
        anonymous: "yes" if the folders are slots and not persons.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    pictures = _by_stem(needed(source, images), series=True)
    if not pictures:
        raise InputError(f"folder '{source / images}' has no images")
    others = [p for p in entries(source) if p.is_dir() and p.name.lower() != images.lower()]
    values = parse_labels(labels) if labels else {}
    files = {p.name: _masks(p, structure, list(values)) for p in others}
    for rater, found in files.items():
        other = None if found else next(_files(source / rater), None)
        if other:
            raise InputError(
                f"'{source / rater}' holds no mask but '{other.name}'; expected beside '{images}' a folder of masks "
                "for each rater, empty where a rater has drawn nothing yet"
            )
        strange = sorted(name for name, _ in found if name not in pictures)
        if strange:
            raise InputError(
                f"'{source / rater}' has a mask '{strange[0]}' for which there is no image in '{images}'"
            )
    raters = tuple(name for name in files if name.lower() != _REFERENCE)
    if not raters:
        raise InputError(f"folder '{source}' has no folder of masks beside '{images}'")
    drawn = {s for found in files.values() for _, s in found if s}
    structures = tuple(values) if values else tuple(sorted(drawn))
    first = next(iter(pictures.values()))
    channels = len(open_image(first, window=parse_window(window)).array)
    task = Task(channels, structures, raters, anonymous == "yes")
    kind = {"nifti": "nifti", "tiff": "tiff"}.get(format_of(first) or "", "png")
    samples = _samples(task, pictures, files, values, group, window, resample)
    here = InPlace(_cases(task, pictures, files, group), values, parse_window(window))
    return Source(source.resolve().name, task, samples, image_format=kind, here=here)


def _cases(task: Task, pictures: dict[str, Path], files: dict[str, Files], group: str) -> list[Case]:
    """The cases as they lie."""
    drawn: dict[str, dict[str, Drawn]] = {name: {} for name in pictures}
    for rater, found in files.items():
        for (case, structure), file in found.items():
            if not structure:
                drawn[case][rater] = str(file)
                continue
            masks = drawn[case].setdefault(rater, {})
            assert isinstance(masks, dict)
            masks[structure] = str(file)
    cases = []
    for name, path in pictures.items():
        reference = next((d for rater, d in drawn[name].items() if rater.lower() == _REFERENCE), None)
        whole = isinstance(reference, str) or set(reference or ()) == set(task.structures)
        cases.append(
            Case(
                name=name,
                image=str(path),
                masks={rater: d for rater, d in drawn[name].items() if rater.lower() != _REFERENCE},
                reference=reference if whole else None,
                group=_group(group, name),
            )
        )
    return cases


Files = dict[tuple[str, str], Path]  # (case, structure or "" for a label map)


def _samples(
    task: Task,
    pictures: dict[str, Path],
    files: dict[str, Files],
    values: dict[str, tuple[int, ...]],
    group: str,
    window: str,
    resample: str,
) -> Iterator[MultiRaterSample]:
    limits = parse_window(window)
    for name, path in pictures.items():
        image = open_image(path, window=limits)
        if len(image.array) != task.channels:
            raise InputError(f"image '{path}' has {len(image.array)} channels; others have {task.channels}")
        masks: dict[tuple[str, str], np.ndarray] = {}
        reference: dict[str, np.ndarray] = {}
        for rater, found in files.items():
            for (case, structure), file in found.items():
                if case != name:
                    continue
                drawn = structures_of(file, structure or values, image, resample=resample)
                for part, mask in drawn.items():
                    if rater.lower() == _REFERENCE:
                        reference[part] = mask
                    else:
                        masks[rater, part] = mask
        yield assemble(task, name, image.array, masks, reference, group=_group(group, name), like=image)


def _masks(folder: Path, structure: str, labels: list[str]) -> Files:
    inner = [p for p in entries(folder) if p.is_dir()]
    if inner and labels:
        raise InputError(f"'{folder}' has folders for structures; expected label maps, as labels are given")
    if not inner:
        return {(name, "" if labels else structure): path for name, path in _by_stem(folder).items()}
    return {(name, part.name): path for part in inner for name, path in _by_stem(part).items()}


def _files(folder: Path) -> Iterator[Path]:
    return (path for inner in folders(folder) for path in entries(inner) if path.is_file())


def _by_stem(folder: Path, *, series: bool = False) -> dict[str, Path]:
    """The images of a folder by their names; with ``series`` also folders of DICOM slices."""
    found: dict[str, Path] = {}
    for path in entries(folder):
        if (path.is_file() and format_of(path)) or (series and is_series(path)):
            name = path.name if path.is_dir() else stem(path)
            if name in found:
                raise InputError(f"'{found[name]}' and '{path.name}' have the same name but for the ending")
            found[name] = path
    return found


def _group(pattern: str, name: str) -> str | None:
    if not pattern:
        return None
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise InputError(f"group '{pattern}' is not a regular expression: {error}") from error
    if not found or not found.groups():
        raise InputError(f"group '{pattern}' finds no patient in the case '{name}'; expected one bracket")
    return found[1]
