"""A folder of images, and beside it one folder of masks for each rater.

`images/NAME.png`, `RATER/NAME.png` for one structure or a label map, `RATER/STRUCTURE/NAME.png` for
several; `reference/` in the same way. A rater without a file for an image did not do it. An image may be
a folder of its own that holds a DICOM series.

Names of images and masks are compared without regard to case, blanks and how accents are composed. Where
some of a rater's masks lie in folders and some beside these, the other raters decide which are meant; the
rest is left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.later import Later, Unfit
from mrprism.datasets.manifest import Case, Drawn
from mrprism.datasets.open_image import open_image
from mrprism.datasets.tree import entries, needed, subfolder
from mrprism.images import ImageFile, format_of
from mrprism.layouts import colours as how
from mrprism.layouts.folder_files import Files, Picture, Tree, masks_of, readings_of, without_images
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import InPlace, Source, assemble, parse_labels, parse_window
from mrprism.output.commands import option

_REFERENCE = "reference"
_SAID = 8  # faults in one message


def read(
    source: Path,
    ledger: Ledger,
    *,
    images: str = "images",
    structure: str = "object",
    labels: str = "",
    threshold: str = "",
    colour: str = "",
    suffix: str = "",
    deep: str = "no",
    group: str = "",
    anonymous: str = "no",
    window: str = "",
    resample: str = "no",
    readings: str = "",
) -> Source:
    """Read the folder.

    Args:
        images: Name of the folder with the images. Without one there are masks only; "none" says so.
        structure: Name of the one structure, where there is one.
        labels: For label maps, such as "disc:1+2,cup:2".
        threshold: For masks with soft edges: what is as bright or brighter belongs to the structure, such as 128.
            With ``colour``: how far red, green and blue may each be from a named colour, such as 40.
        colour: For masks in colour: the structure's, such as "red", or "cup:#ff0000,disc:#00ff00".
        suffix: What stands behind a case's name in the files of images or masks, with commas between.
        deep: "yes" reads folders within the folders, which become part of a case's name.
        group: Regular expression whose first bracket finds the patient in a case's name.
        anonymous: "yes" if the folders are slots and not persons.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
        readings: How the folders of a second reading end, of a third, ..., with commas between: with ".2" lies in
            "ann.2" what "ann" drew when asked again.
    """
    if not source.is_dir():
        raise InputError(f"'{source}' is a file; expected the folder that holds images and masks")
    values = parse_labels(labels) if labels else {}
    drawn = how.Drawn(how.parse_threshold(threshold), how.parse_colours(colour))
    if values and drawn.colours:
        raise InputError("-o labels= is for values and -o colour= for colours; expected one of them")
    named = tuple(values) or tuple(s for s in drawn.colours or () if s and s.lower() != how.BACKGROUND)
    tree = Tree(ledger, tuple(s for s in suffix.split(",") if s), deep == "yes")
    alone = images.lower() in ("images", "none") and subfolder(source, images) is None
    pictures: dict[str, Picture] = {}
    if not alone:
        place = needed(source, images)
        pictures = tree.pictures(place)
        if not pictures:
            raise InputError(f"folder '{place}' has no images{tree.instead(place)}")
    others = [p for p in entries(source) if p.is_dir() and p.name.lower() != images.lower()]
    for unwanted in [p for p in others if p.name in ledger.without]:
        others.remove(unwanted)
        ledger.know(unwanted, "of a rater who was not wanted")
        ledger.skipped.add(unwanted.name)
    files = masks_of(tree, others, structure, named, None if alone else set(pictures), images)
    files, again = readings_of(files, readings)
    raters = tuple(name for name in files if name.lower() != _REFERENCE)
    if not raters:
        where = "no folder of masks" if alone else f"no folder of masks beside '{images}'"
        raise InputError(f"folder '{source}' has {where}: no rater was found")
    if alone:
        pictures = without_images(tree, files, source)
        ledger.note("there is no folder 'images': the cases have masks only")
    structures = named or tuple(sorted({s for found in files.values() for _, s in found if s}))
    image = next(iter(pictures.values())).path
    channels = 0 if image is None else len(open_image(image, window=parse_window(window)).array)
    first = next(path for found in files.values() for path in found.values()) if image is None else image
    task = Task(channels, structures or (structure,), raters, anonymous == "yes")
    kind = {"nifti": "nifti", "nrrd": "nifti", "metaimage": "nifti", "tiff": "tiff"}.get(
        format_of(first) or "", "png"
    )
    cases = _cases(task, pictures, files, again, group)
    here = None if drawn != how.Drawn() else InPlace(_in_place(cases, task), values, parse_window(window))
    reading = _Reading(task, drawn, values, window, resample)
    name = source.resolve().name
    return Source(name, task, reading.samples(cases), image_format=kind, here=here, count=len(cases))


@dataclass
class _Case:
    name: str
    path: Path | None
    group: str | None
    masks: dict[str, dict[str, Path]] = field(default_factory=dict)  # {rater: {structure or "": file}}
    again: list[dict[str, dict[str, Path]]] = field(default_factory=list)  # the same, of each further reading
    reference: dict[str, Path] = field(default_factory=dict)


def _cases(
    task: Task,
    pictures: dict[str, Picture],
    files: dict[str, Files],
    again: list[dict[str, Files]],
    group: str,
) -> list[_Case]:
    cases = {key: _Case(p.name, p.path, _group(group, p.name)) for key, p in pictures.items()}
    for rater, found in files.items():
        for (name, structure), path in found.items():
            case = cases[name]
            masks = case.reference if rater.lower() == _REFERENCE else case.masks.setdefault(rater, {})
            masks[structure] = path
    for number, reading in enumerate(again):
        for case in cases.values():
            case.again.append({})
        for rater, found in reading.items():
            for (name, structure), path in found.items():
                cases[name].again[number].setdefault(rater, {})[structure] = path
    return list(cases.values())


def _in_place(cases: Iterable[_Case], task: Task) -> list[Case]:
    """The cases as they lie."""

    def drawn(masks: dict[str, Path]) -> Drawn:
        return str(masks[""]) if "" in masks else {part: str(path) for part, path in masks.items()}

    placed = []
    for case in cases:
        whole = "" in case.reference or set(case.reference) == set(task.structures)
        placed.append(
            Case(
                name=case.name,
                image=None if case.path is None else str(case.path),
                masks={rater: drawn(masks) for rater, masks in case.masks.items()},
                readings={
                    rater: [drawn(reading[rater]) for reading in case.again if rater in reading]
                    for rater in case.masks
                    if any(rater in reading for reading in case.again)
                },
                reference=drawn(case.reference) if case.reference and whole else None,
                group=case.group,
            )
        )
    return placed


@dataclass(frozen=True)
class _Reading:
    """Cases, read in turn; what does not fit is gathered and said together at the end."""

    task: Task
    drawn: how.Drawn
    values: dict[str, tuple[int, ...]]
    window: str
    resample: str

    def samples(self, cases: list[_Case]) -> Later:
        together = partial(_together, raters=len(self.task.raters))
        return Later([case.name for case in cases], partial(self.of, cases), together)

    def of(self, cases: list[_Case], number: int) -> MultiRaterSample:
        """One case.

        Raises:
            Unfit: Some of its masks do not fit.
        """
        case, faults = cases[number], []  # rater and sentence
        limits = parse_window(self.window)
        image = _grid(case) if case.path is None else open_image(case.path, window=limits)
        if len(image.array) != self.task.channels:
            raise InputError(
                f"image '{case.path}' has {len(image.array)} channels; others have {self.task.channels}"
            )
        masks: dict[tuple[str, str], np.ndarray] = {}
        reference: dict[str, np.ndarray] = {}
        again: list[dict[tuple[str, str], np.ndarray]] = [{} for _ in case.again]
        drawn = [
            (place, rater, s, f)
            for place, reading in zip((masks, *again), (case.masks, *case.again), strict=True)
            for rater, found in reading.items()
            for s, f in found.items()
        ]
        for place, rater, structure, file in [
            *drawn,
            *((masks, "", s, f) for s, f in case.reference.items()),
        ]:
            labels = structure or self.values or self.task.structures[0]
            try:
                found = self.drawn.structures(file, labels, image, resample=self.resample)
            except InputError as error:
                more = _meant(file) if case.path is None else ""
                faults.append((rater, f"{error}{more}"))
                continue
            for part, mask in found.items():
                if rater:
                    place[rater, part] = mask
                else:
                    reference[part] = mask
        if faults:
            raise Unfit(faults)
        return assemble(
            self.task,
            case.name,
            image.array,
            masks,
            reference,
            group=case.group,
            like=image,
            again=again,
        )


def _together(faults: Sequence[tuple[str, str]], raters: int) -> InputError:
    return InputError(_told(faults, raters))


def _told(faults: Sequence[tuple[str, str]], raters: int) -> str:
    """All masks that do not fit, in one message; one rater's alone may not be masks at all."""
    who = {rater for rater, _ in faults}
    only = next(iter(who)) if len(who) == 1 and len(faults) > 2 and raters > 2 else ""
    way = f"; all are in '{only}', which {option('without', only)} leaves out" if only else ""
    if len(faults) == 1:
        return faults[0][1]
    more = f"\n  and {len(faults) - _SAID} more" if len(faults) > _SAID else ""
    return (
        f"{len(faults)} masks do not fit{way}:\n  " + "\n  ".join(text for _, text in faults[:_SAID]) + more
    )


def _grid(case: _Case) -> ImageFile:
    """Size and place of a case without an image: those of its first mask."""
    drawn = [*case.masks.values(), case.reference]
    first = open_image(next(path for found in drawn for path in found.values()))
    nothing = np.zeros((0, *first.array.shape[1:]), np.float32)
    return replace(first, array=nothing, values=None, window=None)


def _meant(file: Path) -> str:
    """To be said of a mask that is none, where no folder of images was found."""
    return (
        f"; there is no folder 'images', so every folder was taken for a rater's: if '{file.parent.name}' holds the images, "
        f"{option('images', file.parent.name)} says so"
    )


def _group(pattern: str, name: str) -> str | None:
    if not pattern:
        return None
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise InputError(f"group '{pattern}' is not a regular expression: {error}") from error
    if not found or not found.groups() or found[1] is None:
        raise InputError(f"group '{pattern}' finds no patient in the case '{name}'; expected one bracket")
    return found[1]
