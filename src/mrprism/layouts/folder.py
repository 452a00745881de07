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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.names import spoken
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.dicom import dicom_files
from mrprism.datasets.manifest import Case, Drawn
from mrprism.datasets.open_image import is_series, open_image
from mrprism.datasets.tree import entries, folders, natural, needed, stem, subfolder
from mrprism.images import ImageFile, format_of
from mrprism.layouts import colours as how
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Spelling
from mrprism.layouts.source import InPlace, Source, assemble, parse_labels, parse_window

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
    values = parse_labels(labels) if labels else {}
    drawn = how.Drawn(how.parse_threshold(threshold), how.parse_colours(colour))
    if values and drawn.colours:
        raise InputError("-o labels= is for values and -o colour= for colours; expected one of them")
    named = tuple(values) or tuple(s for s in drawn.colours or () if s and s.lower() != how.BACKGROUND)
    tree = _Tree(ledger, tuple(s for s in suffix.split(",") if s), deep == "yes")
    alone = images.lower() in ("images", "none") and subfolder(source, images) is None
    pictures: dict[str, _Picture] = {}
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
    files = _masks(tree, others, structure, named, None if alone else set(pictures), images)
    files, again = _readings(files, readings)
    raters = tuple(name for name in files if name.lower() != _REFERENCE)
    if not raters:
        where = "no folder of masks" if alone else f"no folder of masks beside '{images}'"
        raise InputError(f"folder '{source}' has {where}: no rater was found")
    if alone:
        pictures = _without_images(tree, files, source)
        ledger.note("there is no folder 'images': the cases have masks only")
    structures = named or tuple(sorted({s for found in files.values() for _, s in found if s}))
    image = next(iter(pictures.values())).path
    channels = 0 if image is None else len(open_image(image, window=parse_window(window)).array)
    first = next(path for found in files.values() for path in found.values()) if image is None else image
    task = Task(channels, structures or (structure,), raters, anonymous == "yes")
    kind = {"nifti": "nifti", "nrrd": "nifti", "tiff": "tiff"}.get(format_of(first) or "", "png")
    cases = _cases(task, pictures, files, again, group)
    here = None if drawn != how.Drawn() else InPlace(_in_place(cases, task), values, parse_window(window))
    reading = _Reading(task, drawn, values, window, resample)
    name = source.resolve().name
    return Source(name, task, reading.samples(cases), image_format=kind, here=here, count=len(cases))


@dataclass(frozen=True)
class _Picture:
    name: str
    path: Path | None  # None: there are masks only


Files = dict[tuple[str, str], Path]  # (folded case, structure or "" for all of them)


@dataclass
class _Case:
    name: str
    path: Path | None
    group: str | None
    masks: dict[str, dict[str, Path]] = field(default_factory=dict)  # {rater: {structure or "": file}}
    again: list[dict[str, dict[str, Path]]] = field(default_factory=list)  # the same, of each further reading
    reference: dict[str, Path] = field(default_factory=dict)


class _Tree:
    """Files of a folder by the cases they are of."""

    def __init__(self, ledger: Ledger, suffixes: tuple[str, ...], deep: bool) -> None:
        self.ledger, self.suffixes, self.deep = ledger, suffixes, deep

    def pictures(self, folder: Path) -> dict[str, _Picture]:
        """The images, by their folded names; a folder of DICOM slices is one."""
        found: dict[str, _Picture] = {}
        for name, path in self._named(folder, series=True):
            self._once(found, name, _Picture(name, path), path)
            self.ledger.take_all(dicom_files(path) if path.is_dir() else [path])
        return found

    def masks(self, folder: Path) -> dict[str, Path]:
        """The masks of one folder, by the folded names of their cases."""
        found: dict[str, _Picture] = {}
        for name, path in self._named(folder):
            self._once(found, name, _Picture(name, path), path)
        return {key: self.ledger.take(path) for key, path in _paths(found)}

    def instead(self, folder: Path) -> str:
        """What a folder without images holds, to be said behind that it has none."""
        other = next((p for inner in folders(folder) for p in entries(inner) if p.is_file()), None)
        if other is None:
            return ""
        deeper = "; -o deep=yes reads folders within" if other.parent != folder and format_of(other) else ""
        return f" but '{self.ledger.named(other)}'{deeper}"

    def _named(self, folder: Path, *, series: bool = False, before: str = "") -> Iterator[tuple[str, Path]]:
        for path in entries(folder):
            if path.is_file():
                if format_of(path):
                    yield before + self.stem(path), path
            elif series and is_series(path):
                yield before + path.name, path
            elif self.deep:
                yield from self._named(path, series=series, before=f"{before}{path.name}/")

    def stem(self, path: Path) -> str:
        """What a file is called, without its ending and the suffix that was told."""
        name = stem(path)
        for suffix in self.suffixes:
            if name.lower().endswith(suffix.lower()) and len(name) > len(suffix):
                return name[: -len(suffix)]
        return name

    def _once(self, found: dict[str, _Picture], name: str, picture: _Picture, path: Path) -> None:
        other = found.setdefault(spoken(name), picture)
        if other is not picture:
            how_ = (
                "have the same name but for the ending"
                if other.name == name
                else "are of one case by their names"
            )
            raise InputError(f"'{other.path}' and '{path.name}' {how_}; expected one of them")


def _paths(found: dict[str, _Picture]) -> Iterator[tuple[str, Path]]:
    return ((key, picture.path) for key, picture in found.items() if picture.path is not None)


def _readings(files: dict[str, Files], endings: str) -> tuple[dict[str, Files], list[dict[str, Files]]]:
    """The first reading of every rater, and each further one by the names of the raters."""
    first = dict(files)
    again: list[dict[str, Files]] = []
    for number, ending in enumerate([e.strip() for e in endings.split(",") if e.strip()], start=2):
        folders_ = [name for name in files if name.endswith(ending) and name != ending]
        if not folders_:
            raise InputError(
                f"no folder ends in '{ending}'; expected reading {number} in such, as -o readings= says"
            )
        found = {}
        for name in folders_:
            rater = name.removesuffix(ending)
            if rater not in files:
                raise InputError(
                    f"'{name}' is reading {number} by '{rater}', but there is no folder '{rater}'"
                )
            found[rater] = first.pop(name)
            for case, part in found[rater]:
                if not any(drawn == case for drawn, _ in files[rater]):
                    path = found[rater][case, part]
                    raise InputError(
                        f"'{path}' is reading {number} by '{rater}' of a case that '{rater}' has no first reading of"
                    )
        again.append(found)
    return first, again


def _without_images(tree: _Tree, files: dict[str, Files], source: Path) -> dict[str, _Picture]:
    """The cases there are masks of."""
    found: dict[str, _Picture] = {}
    for masks in files.values():
        for (case, _), path in masks.items():
            name = case if tree.deep else tree.stem(path)
            found.setdefault(case, _Picture(name, None))
    if not found:
        raise InputError(f"folder '{source}' has neither a folder 'images' nor a mask")
    return dict(sorted(found.items(), key=lambda item: natural(item[1].name)))


def _masks(
    tree: _Tree,
    others: list[Path],
    structure: str,
    named: tuple[str, ...],
    known: set[str] | None,
    images: str,
) -> dict[str, Files]:
    """The masks of every rater, and of the reference; ``known`` is None where there are no images."""
    some = known or set()
    plain = (
        {p: tree.masks(p) for p in others}
        if not tree.deep
        else {p: _plain(tree, p, some) if known is not None else tree.masks(p) for p in others}
    )
    parts = {p: {i: f for i in entries(p) if i.is_dir() and (f := _part(tree, i, some))} for p in others}
    structured = any(parts[p] and not plain[p] for p in others)
    mixed = [p for p in others if parts[p] and plain[p]]
    if mixed and all(parts[p] for p in others if plain[p] or parts[p]) and not structured:
        inner = next(iter(parts[mixed[0]]))
        raise InputError(
            f"'{mixed[0]}' has masks and beside them folders of masks, such as '{inner.name}'; expected masks of one "
            "structure, or a folder for each"
        )
    if structured and named:
        first = next(p for p in others if parts[p] and not plain[p])
        raise InputError(
            f"'{first}' has folders for structures; expected files that hold {', '.join(named)} together, as told"
        )
    spelling = Spelling(tree.ledger)
    files: dict[str, Files] = {}
    for folder in others:
        found: Files = {}
        if structured:
            for part, masks in parts[folder].items():
                found |= {(name, spelling.of(part.name, folder)): path for name, path in masks.items()}
        else:
            found = {(name, "" if named else structure): path for name, path in plain[folder].items()}
        unused = plain[folder].values() if structured else _all(parts[folder])
        why = (
            "beside folders for structures"
            if structured
            else "in a folder beside masks, and no other rater has such"
        )
        for path in unused:
            tree.ledger.leave(path, why, rater=folder.name)
        if not found and (other := _first_file(folder, set(unused))):
            raise InputError(
                f"'{folder}' holds no mask but '{other.name}'; expected beside '{images}' a folder of masks for each rater "
                f"and nothing else, or -o without={folder.name}"
            )
        files[folder.name] = found
    if known is not None:
        _strange(tree, files, known, images)
    return files


def _plain(tree: _Tree, folder: Path, known: set[str]) -> dict[str, Path]:
    """Of a deep folder, the masks whose place is that of an image."""
    return {name: path for name, path in tree.masks(folder).items() if name in known or "/" not in name}


def _part(tree: _Tree, folder: Path, known: set[str]) -> dict[str, Path]:
    """The masks of a folder that may be a structure's; none if, in a deep tree, images have such a folder."""
    if tree.deep and any(name.startswith(f"{spoken(folder.name)}/") for name in known):
        return {}
    return tree.masks(folder)


def _all(parts: dict[Path, dict[str, Path]]) -> list[Path]:
    return [path for masks in parts.values() for path in masks.values()]


def _first_file(folder: Path, but: set[Path]) -> Path | None:
    inside = (path for inner in folders(folder) for path in entries(inner))
    return next((path for path in inside if path.is_file() and path not in but), None)


def _strange(tree: _Tree, files: dict[str, Files], known: set[str], images: str) -> None:
    """Every mask has an image, or all that have none are named, with the option that would help."""
    strange = [
        (rater, path, name)
        for rater, found in files.items()
        for (name, _), path in found.items()
        if name not in known
    ]
    if not strange:
        return
    rater, path, _ = strange[0]
    if len(strange) == 1:
        text = f"'{rater}' has a mask '{path.name}' for which there is no image in '{images}'"
    else:
        some = ", ".join(f"'{tree.ledger.named(p)}'" for _, p, _ in strange[:_SAID])
        more = ", ..." if len(strange) > _SAID else ""
        text = f"{len(strange)} masks have no image in '{images}': {some}{more}"
    raise InputError(text + _suffix_hint([name for _, _, name in strange], known))


def _suffix_hint(strange: list[str], known: set[str]) -> str:
    """The suffixes that would bring masks and images together, if there are such."""
    pairs = set()
    by_start: dict[str, list[str]] = {}
    for name in known:
        by_start.setdefault(re.split(r"[-_. ]", name)[0], []).append(name)
    for name in strange:
        near = known & {name[:n] for n in range(1, len(name))}
        if near:
            best = max(near, key=len)
            pairs.add(("", name[len(best) :]))
            continue
        alike = by_start.get(re.split(r"[-_. ]", name)[0], [])
        if len(alike) != 1:
            return ""
        start = len(re.split(r"[-_. ]", name)[0])
        pairs.add((alike[0][start:], name[start:]))
    endings = {end for pair in pairs for end in pair if end}
    if not endings or len(endings) > 4:
        return ""
    return f"; if these belong together, -o suffix={','.join(sorted(endings))} takes the endings off"


def _cases(
    task: Task,
    pictures: dict[str, _Picture],
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

    def samples(self, cases: list[_Case]) -> Iterator[MultiRaterSample]:
        limits = parse_window(self.window)
        faults: list[str] = []
        for case in cases:
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
                    faults.append(f"{error}{_meant(file) if case.path is None else ''}")
                    continue
                for part, mask in found.items():
                    if rater:
                        place[rater, part] = mask
                    else:
                        reference[part] = mask
            if not faults:
                yield assemble(
                    self.task,
                    case.name,
                    image.array,
                    masks,
                    reference,
                    group=case.group,
                    like=image,
                    again=again,
                )
        if len(faults) == 1:
            raise InputError(faults[0])
        if faults:
            more = f"\n  and {len(faults) - _SAID} more" if len(faults) > _SAID else ""
            raise InputError(f"{len(faults)} masks do not fit:\n  " + "\n  ".join(faults[:_SAID]) + more)


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
        f"-o images={file.parent.name} says so"
    )


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
