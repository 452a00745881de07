"""BIDS derivatives: `sub-X/[ses-Y/]anat/..._desc-RATER_dseg.nii.gz` or `..._label-NAME_desc-RATER_mask.nii.gz`.

BIDS has no entity for the rater, so it is named: `desc` unless told. A rater without a file for an
image did not do it; an image without any is left out. `mask` files hold one structure each, named by `label`; `dseg` files are label maps
whose values are named in a `dseg.tsv` beside them or in a folder above. Each mask goes with the image
whose entities are all among its own, the more the better.

Names in side files that `mrprism export` wrote (Rater, Structure, Case) are used as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.manifest import Case, Drawn
from mrprism.datasets.tree import entries, folders, natural, subfolder
from mrprism.images import ImageFile, format_of, read_image
from mrprism.layouts.fields import Ids, name_of
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Spelling, read_json
from mrprism.layouts.source import InPlace, Source, assemble, parse_window, structures_of
from mrprism.layouts.table import read_table

_ENDING = r"\.nii(?:\.gz)?"
_DRAWN = ("mask", "seg", "dseg", "probseg")
_ENTITIES = {"sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "space", "res", "label", "desc"}
_TABLES = r"dataset_description\.json|(participants|samples|sub-.+_(scans|sessions))\.(tsv|json)"
_APART = ("derivatives", "sourcedata", "code")
_OF_IMAGES = ("desc", "res")  # entities that an image may have and its masks lack
_PROCESSING = {"preproc", "brain", "smooth", "orig", "coreg", "ref", "aseg", "aparcaseg", "hmc"}


def read(
    source: Path,
    ledger: Ledger,
    *,
    rater: str = "desc",
    images: str = "",
    suffix: str = "",
    structure: str = "object",
    window: str = "",
    resample: str = "no",
) -> Source:
    """Read one derivative.

    Args:
        rater: The entity that names the rater.
        images: Folder of the raw data set, if it is neither this one nor the one whose `derivatives`
            this one lies in.
        suffix: Which image, such as T1w, where there are several.
        structure: Name for masks without a `label`.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    files = list(_files(source, ledger))
    for file in [file for file in files if _named_as_drawn(file)]:
        ledger.leave(file.path, f"'{file.suffix}' is none of {', '.join(_DRAWN[:3])}")
        files.remove(file)
    asked = _Asked(source, rater, structure, ledger, Spelling(ledger))
    drawings = [found for file in files if (found := _drawing(file, asked))]
    if not drawings:
        raise InputError(
            f"'{source}' has no mask or dseg file with the entity '{rater}-'{_instead(source, ledger)}; expected names "
            f"such as sub-01_label-lesion_{rater}-ann_mask.nii.gz"
        )
    odd = [d.file.path.name for d in drawings if d.file.others or not _is_last(d.file)]
    if odd:
        ledger.note(f"{len(odd)} names have their parts in another order than BIDS wants, such as '{odd[0]}'")
    root = _raw(source, images)
    own = root.resolve() == source.resolve()
    pictures = [
        f for f in (files if own else _files(root, None)) if f.suffix not in _DRAWN and not _named_as_drawn(f)
    ]
    if not own:
        for file in files:
            if file.suffix not in _DRAWN:
                ledger.know(file.path, "an image of the derivative, beside the raw one")
    if suffix:
        pictures = [file for file in pictures if file.suffix == suffix]
    by_subject: dict[str | None, list[_File]] = {}
    for file in pictures:
        by_subject.setdefault(file.get("sub"), []).append(file)
    cases: dict[_File, list[_Drawing]] = {}
    for drawing in drawings:
        cases.setdefault(
            _picture(drawing, rater, by_subject.get(drawing.file.get("sub"), []), root), []
        ).append(drawing)
    _once(cases)
    _idle([file for file in files if file.suffix not in _DRAWN and file not in cases], ledger)
    ledger.take_all([*(file.path for file in cases), *(drawing.file.path for drawing in drawings)])
    raters = sorted({drawing.rater for drawing in drawings}, key=natural)
    structures = dict.fromkeys(name for drawing in drawings for name in drawing.labels)
    first = read_image(min(cases, key=lambda file: natural(str(file.path))).path)
    task = Task(len(first.array), tuple(structures), tuple(raters))
    samples = _samples(task, cases, window, resample)
    here = _in_place(cases, window)
    return Source(source.resolve().name, task, samples, image_format="nifti", here=here, count=len(cases))


@dataclass(frozen=True)
class _File:
    """A name taken apart: `sub-01_ses-2_T1w.nii.gz` is {sub: 01, ses: 2} and T1w."""

    path: Path
    entities: tuple[tuple[str, str], ...]
    suffix: str
    others: tuple[str, ...] = ()  # words besides, as in `sub-01_T2w_label-lesion_mask.nii.gz`

    def get(self, key: str) -> str | None:
        return dict(self.entities).get(key)


@dataclass(frozen=True)
class _Drawing:
    """A rater's file."""

    file: _File
    rater: str
    labels: dict[str, tuple[int, ...]]  # a mask's one structure has no values
    case: str | None  # as the side file has it


@dataclass(frozen=True)
class _Asked:
    """What drawings are looked for, and where."""

    source: Path
    entity: str
    structure: str
    ledger: Ledger
    spelling: Spelling
    tables: dict[Path, list[Path]] = field(default_factory=dict)  # of a folder
    labels: dict[Path, dict[str, tuple[int, ...]]] = field(default_factory=dict)  # of a table


def _files(folder: Path, ledger: Ledger | None) -> Iterator[_File]:
    """Every NIfTI file of a subject, at any depth; other derivatives that lie in this folder excepted."""
    if ledger:
        for name in _APART:
            ledger.know(folder / name, "another data set, or what it was made with")
    for path in (path for part in folders(folder, but=_APART) for path in entries(part)):
        if ledger and re.fullmatch(_TABLES, path.name):
            ledger.know(path, "about the data set or its subjects")
        match = re.fullmatch(rf"(sub-.+?){_ENDING}", path.name, re.IGNORECASE)
        if not match or not path.is_file():
            continue
        parts = match[1].split("_")
        words = [part for part in parts if "-" not in part]
        if lacking := [word for word in words[:-1] if word in _ENTITIES]:
            raise InputError(
                f"'{path}' is not named as BIDS wants it: '{lacking[0]}' has no value; expected entity-value pairs, "
                "then a suffix"
            )
        suffix = next((word for word in words if word in _DRAWN), words[-1] if words else "")
        if suffix:
            others = tuple(word for word in words if word != suffix)
            yield _File(
                path, _entities("_".join(part for part in parts if "-" in part), path), suffix, others
            )


def _entities(text: str, path: Path) -> tuple[tuple[str, str], ...]:
    pairs = [part.partition("-") for part in text.split("_")]
    if any(not key or not value for key, _, value in pairs):
        raise InputError(
            f"'{path}' is not named as BIDS wants it: expected entity-value pairs, then a suffix"
        )
    entities: Ids[str] = Ids("entity", path)
    for key, _, value in pairs:
        entities.add(key, value)
    return tuple(entities.items())


def _drawing(file: _File, asked: _Asked) -> _Drawing | None:
    if file.suffix not in _DRAWN:
        return None
    entity, ledger = asked.entity, asked.ledger
    rater = file.get(entity)
    if file.suffix == "probseg" or rater is None:
        why = (
            "holds probabilities"
            if file.suffix == "probseg"
            else f"has no entity '{entity}-' to name the rater"
        )
        ledger.leave(file.path, why)
        return None
    if rater in _PROCESSING:
        raise InputError(
            f"'{file.path}' has '{entity}-{rater}', which names a kind of processing and no rater; "
            "expected -o rater= and the entity that names the rater"
        )
    beside = _side(file.path, ledger)
    if file.suffix != "dseg":
        name = _said(beside, "Structure", file) or file.get("label") or asked.structure
        labels: dict[str, tuple[int, ...]] = {asked.spelling.of(name, file.path): ()}
    else:
        named = _table(file, asked)
        labels = {asked.spelling.of(name, file.path): values for name, values in named.items()}
    return _Drawing(file, _said(beside, "Rater", file) or rater, labels, _said(beside, "Case", file))


def _named_as_drawn(file: _File) -> bool:
    """Whether this may be somebody's drawing by another suffix, as the old `roi`, and so is no image."""
    return file.suffix not in _DRAWN and (file.suffix == "roi" or file.get("label") is not None)


def _is_last(file: _File) -> bool:
    """Whether the suffix stands where it should."""
    return re.search(rf"_{file.suffix}{_ENDING}$", file.path.name, re.IGNORECASE) is not None


def _side(path: Path, ledger: Ledger) -> dict[str, Any]:
    beside = path.with_name(re.sub(rf"{_ENDING}$", ".json", path.name, flags=re.IGNORECASE))
    content = read_json(ledger.take(beside)) if beside.is_file() else {}
    if not isinstance(content, dict):
        raise InputError(f"'{beside}' is not a side file: expected an object")
    return content


def _said(beside: dict[str, Any], key: str, file: _File) -> str | None:
    """A name in a side file; None where it says nothing."""
    found = beside.get(key)
    return None if found in (None, "") else name_of(found, f"'{key}' in the side file of '{file.path}'")


def _table(file: _File, asked: _Asked) -> dict[str, tuple[int, ...]]:
    """The names of a label map's values, from the nearest `dseg.tsv` whose entities are all its own."""
    source = asked.source
    for folder in file.path.parents:
        if folder not in asked.tables:
            asked.tables[folder] = sorted(folder.glob("*dseg.tsv"), key=lambda p: len(p.name), reverse=True)
        for path in asked.tables[folder]:
            stem = path.name.removesuffix("dseg.tsv").removesuffix("_")
            if set(_entities(stem, path) if stem else ()) <= set(file.entities):
                if path not in asked.labels:
                    asked.labels[path] = _labels(asked.ledger.take(path))
                return asked.labels[path]
        if folder == source:
            break
    raise InputError(f"'{file.path}' has no dseg.tsv beside it or above that names its values")


def _labels(path: Path) -> dict[str, tuple[int, ...]]:
    labels: dict[str, tuple[int, ...]] = {}
    names: Ids[str] = Ids("index", path)
    for row in read_table(path, "index", "name", separator="\t"):
        try:
            value = int(row["index"])
        except ValueError:
            raise InputError(f"'{path}' has the index '{row['index']}'; expected whole numbers") from None
        names.add(value, row["name"])
        if value and value not in labels.get(row["name"], ()):
            labels[row["name"]] = (*labels.get(row["name"], ()), value)
    return labels


def _idle(pictures: list[_File], ledger: Ledger) -> None:
    """Images that nobody drew on."""
    for file in pictures:
        ledger.know(file.path, "an image nobody drew on")
        ledger.know(
            re.sub(rf"{_ENDING}$", ".json", str(file.path), flags=re.IGNORECASE), "about such an image"
        )
    if pictures:
        ledger.note(
            f"{len(pictures)} images without any mask were left out, such as '{pictures[0].path.name}'"
        )


def _instead(source: Path, ledger: Ledger) -> str:
    """What else there is, to be said where no drawing was found."""
    if ledger.left:
        return f"; '{ledger.left[0].what}' {ledger.left[0].why}"
    inside = subfolder(source, "derivatives")
    if inside is not None:
        names = ", ".join(f"'{path}'" for path in entries(inside) if path.is_dir())
        return f"; its derivatives are data sets of their own: {names}"
    some = next((path for part in folders(source) for path in entries(part) if format_of(path)), None)
    return f"; there is '{ledger.named(some)}'" if some else ""


def _raw(source: Path, images: str) -> Path:
    if images:
        return Path(images)
    for above in source.resolve().parents:
        if above.name == "derivatives":
            return above.parent
    return source


def _picture(drawing: _Drawing, rater: str, pictures: list[_File], root: Path) -> _File:
    """The image of its subject that a drawing is of."""
    own = {pair for pair in drawing.file.entities if pair[0] != rater}
    fitting = [
        file for file in pictures if {pair for pair in file.entities if pair[0] not in _OF_IMAGES} <= own
    ]
    if not fitting:
        raise InputError(
            f"'{drawing.file.path}' has no image in '{root}'; expected the raw data set there, or -o images="
        )
    said = [file for file in fitting if file.suffix in drawing.file.others]
    fitting = said or fitting
    most = max(_common(file, own) for file in fitting)
    best = [file for file in fitting if _common(file, own) == most]
    if len(best) > 1:
        raise InputError(
            f"'{drawing.file.path}' may belong to '{best[0].path.name}' or '{best[1].path.name}'; "
            f"expected -o suffix= one of {', '.join(sorted({file.suffix for file in best}))}"
        )
    return best[0]


def _common(file: _File, own: set[tuple[str, str]]) -> int:
    return len(own & set(file.entities))


def _once(cases: dict[_File, list[_Drawing]]) -> None:
    for drawings in cases.values():
        seen: dict[tuple[str, str], _Drawing] = {}
        for drawing in drawings:
            for structure in drawing.labels:
                first = seen.setdefault((drawing.rater, structure), drawing)
                if first is not drawing:
                    raise InputError(
                        f"'{first.file.path}' and '{drawing.file.path.name}' are both '{structure}' "
                        f"by '{drawing.rater}'; expected one of them"
                    )


def _name(picture: _File, drawings: list[_Drawing]) -> str:
    """A case is called after what distinguishes its image, unless a side file knows better."""
    kept = [f"{key}-{value}" for key, value in picture.entities if key not in _OF_IMAGES]
    named = {drawing.case for drawing in drawings if drawing.case}
    if len(named) > 1:
        raise InputError(f"side files call '{picture.path}' by two names: {' and '.join(sorted(named))}")
    return next(iter(named), "_".join(kept))


def _in_place(cases: dict[_File, list[_Drawing]], window: str) -> InPlace | None:
    """The cases as they lie, if they are masks only, or label maps with one table."""
    drawings = [drawing for found in cases.values() for drawing in found]
    first = drawings[0].labels if drawings[0].file.suffix == "dseg" else {}
    if any((d.labels if d.file.suffix == "dseg" else {}) != first for d in drawings):
        return None
    placed = []
    for picture, found in sorted(cases.items(), key=lambda item: natural(item[0].path.name)):
        masks: dict[str, Drawn] = {}
        for drawing in found:
            path = str(drawing.file.path)
            known = masks.setdefault(drawing.rater, path if first else {})
            if isinstance(known, dict):
                known.update(dict.fromkeys(drawing.labels, path))
        name = _name(picture, found)
        placed.append(Case(name=name, image=str(picture.path), masks=masks, group=picture.get("sub")))
    return InPlace(placed, first, parse_window(window))


def _samples(
    task: Task, cases: dict[_File, list[_Drawing]], window: str, resample: str
) -> Iterator[MultiRaterSample]:
    for picture, drawings in sorted(cases.items(), key=lambda item: natural(item[0].path.name)):
        image = read_image(picture.path, window=parse_window(window))
        if len(image.array) != task.channels:
            raise InputError(f"'{picture.path}' has {len(image.array)} channels; others have {task.channels}")
        masks = {
            (drawing.rater, structure): mask
            for drawing in drawings
            for structure, mask in _masks(drawing, image, resample).items()
        }
        yield assemble(
            task, _name(picture, drawings), image.array, masks, group=picture.get("sub"), like=image
        )


def _masks(drawing: _Drawing, image: ImageFile, resample: str) -> dict[str, np.ndarray]:
    labels = next(iter(drawing.labels)) if drawing.file.suffix != "dseg" else drawing.labels
    return structures_of(drawing.file.path, labels, image, resample=resample)
