"""MONAI datalist: a JSON file with `training`, `validation` and `test`, each a list of images and labels.

A datalist knows no raters, so where they stand must be said, in one of three ways:
- ``raters=label_*``: a key for each rater; what the star stands for is the name;
- ``rater=reader``: an item for each rater, named under this key; items of one image are one case;
- ``raters=label``: a list under this key, its places the raters 1, 2, ...; null is missing.
A key that is absent or null is missing. Paths start at the file's folder and may not leave it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.manifest import OWN, Case
from mrprism.datasets.tree import matching, natural, stem
from mrprism.images import format_of, read_image
from mrprism.layouts import colours as how
from mrprism.layouts.fields import name_of
from mrprism.layouts.ledger import LEDGER, Ledger
from mrprism.layouts.marks import read_json
from mrprism.layouts.source import (
    InPlace,
    Source,
    assemble,
    parse_labels,
    parse_window,
    together,
)
from mrprism.layouts.table import inside

_SPLITS = {"training": "train", "validation": "val", "test": "test"}


def read(
    source: Path,
    ledger: Ledger,
    *,
    raters: str = "",
    rater: str = "",
    image: str = "image",
    label: str = "label",
    structure: str = "object",
    labels: str = "",
    threshold: str = "",
    colour: str = "",
    group: str = "",
    window: str = "",
    resample: str = "no",
) -> Source:
    """Read a datalist, or the one in a folder.

    Args:
        raters: The keys of the raters' masks, such as label_*, or the one key of a list.
        rater: The key that names an item's rater; its mask then stands under ``label``.
        image: The key of the image; a list of files is its channels.
        structure: Name of the one structure.
        labels: For label maps, such as "disc:1+2,cup:2".
        threshold: For masks with soft edges: what is as bright or brighter belongs to the structure, such as 128.
        colour: For masks in colour: the structure's, such as "red", or "cup:#ff0000,disc:#00ff00".
        group: The key of the patient.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    if bool(raters) == bool(rater):
        raise InputError(
            "a datalist does not say where its raters are; expected -o raters=label_* for a key each, "
            "-o raters=label for a list, or -o rater=KEY for an item each"
        )
    file = ledger.take(_datalist(source))
    drawn = how.Drawn(how.parse_threshold(threshold), how.parse_colours(colour))
    named = tuple(s for s in drawn.colours or () if s and s.lower() != how.BACKGROUND)
    cases: dict[tuple[Path, ...], _Case] = {}
    named_raters: dict[str, None] = {}
    for split, item in _items(file, ledger):
        paths = tuple(inside(file.parent, text, file) for text in _texts(item.get(image), file))
        if not paths:
            raise InputError(f"'{file}' has an item without '{image}': {sorted(item)}")
        patient = _patient(item, group, file)
        case = cases.setdefault(paths, _Case(split, patient))
        if case.group != patient:
            raise InputError(f"'{file}' has '{paths[0]}' of the patient '{case.group}' and of '{patient}'")
        if case.split != split:
            raise InputError(f"'{file}' has '{paths[0]}' both in {case.split} and in {split}")
        for name, text in _drawn(item, raters, rater, label, file):
            named_raters[name] = None
            if text is None:
                continue
            if name in case.masks:
                raise InputError(f"'{file}' has two masks of '{paths[0]}' by '{name}'")
            case.masks[name] = ledger.take(inside(file.parent, text, file))
        ledger.take_all(paths)
    found = sorted(named_raters, key=natural)
    if not any(case.masks for case in cases.values()):
        raise InputError(f"'{file}' has no mask under '{raters or label}'")
    if group and all(case.group is None for case in cases.values()):
        raise InputError(
            f"'{file}' has no item with '{group}'; expected under it the patient, as -o group= says"
        )
    values = parse_labels(labels) if labels else {}
    first = next(iter(cases))
    channels = sum(len(read_image(path).array) for path in first)
    task = Task(channels, tuple(values) or named or (structure,), tuple(found))
    samples = _samples(task, cases, values, window, resample, file, drawn)
    kind = {"nifti": "nifti", "tiff": "tiff"}.get(format_of(first[0]) or "", "png")
    placed = _placed(task, cases, values, file)
    here = None if drawn != how.Drawn() else InPlace(placed, values, parse_window(window))
    return Source(stem(file), task, samples, image_format=kind, here=here, count=len(cases))


@dataclass
class _Case:
    split: str
    group: str | None
    masks: dict[str, Path] = field(default_factory=dict)  # by rater


def _datalist(source: Path) -> Path:
    if not source.is_dir():
        return source
    files = [path for _, path in matching(source, r".+\.json") if path.name not in (OWN, LEDGER)]
    if len(files) != 1:
        raise InputError(f"folder '{source}' has {len(files)} JSON files; expected the datalist itself")
    return files[0]


def _items(file: Path, ledger: Ledger) -> Iterator[tuple[str, dict[str, Any]]]:
    document = read_json(file)
    if not isinstance(document, dict) or not any(key in document for key in _SPLITS):
        raise InputError(
            f"'{file}' is not a MONAI datalist: expected 'training', 'validation' or 'test' in it"
        )
    for key, value in document.items():
        if key not in _SPLITS and isinstance(value, list) and any(isinstance(item, dict) for item in value):
            ledger.leave(
                f"'{key}' of '{ledger.named(file)}'", f"is none of {', '.join(_SPLITS)}", "annotation"
            )
    for key, split in _SPLITS.items():
        listed = document.get(key, [])
        if not isinstance(listed, list):
            raise InputError(f"'{file}' has no list under '{key}'")
        bare = sum(isinstance(item, str) for item in listed)
        if bare:
            ledger.note(f"{bare} images of '{key}' have no masks and were left out")
        for item in listed:
            if isinstance(item, dict):
                yield split, item
            elif isinstance(item, str):
                ledger.know(file.parent / item, "an image without masks")
            else:
                raise InputError(f"'{file}' has '{item}' under '{key}'; expected an image with its labels")


def _patient(item: dict[str, Any], group: str, file: Path) -> str | None:
    """The patient under the key that was told, if he is known."""
    found = item.get(group)
    return None if found is None else name_of(found, f"'{group}' of an item in '{file}'")


def _texts(value: Any, file: Path) -> list[str]:
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(text, str) and text for text in listed):
        raise InputError(f"'{file}' has '{value}' where the name of a file is expected")
    return listed


def _drawn(
    item: dict[str, Any], raters: str, rater: str, label: str, file: Path
) -> Iterator[tuple[str, str | None]]:
    """The raters of an item and their files; None for a mask that is missing."""
    if rater:
        if item.get(rater) in (None, ""):
            raise InputError(f"'{file}' has an item without '{rater}': {sorted(item)}")
        found = {name_of(item[rater], f"'{rater}' of an item in '{file}'"): item.get(label)}
    elif "*" in raters:
        pattern = "(.+)".join(re.escape(part) for part in raters.split("*", 1))
        found = {m[1]: value for key, value in item.items() if (m := re.fullmatch(pattern, key))}
    else:
        listed = item.get(raters)
        if listed is not None and not isinstance(listed, list):
            raise InputError(f"'{file}' has '{listed}' under '{raters}'; expected a list, one mask a rater")
        found = {f"rater {number}": value for number, value in enumerate(listed or [], start=1)}
    for name, value in found.items():
        texts = _texts(value, file)
        if len(texts) > 1:
            raise InputError(f"'{file}' has {len(texts)} files of '{name}'; expected one label map")
        yield name, texts[0] if texts else None


def _names(cases: Iterable[tuple[Path, ...]], file: Path) -> list[str]:
    """After the images; with their folders where these are needed to tell them apart."""
    firsts = [paths[0] for paths in cases]
    plain = [stem(path) for path in firsts]
    count = Counter(plain)
    return [
        name if count[name] == 1 else path.relative_to(file.parent).with_name(name).as_posix()
        for name, path in zip(plain, firsts, strict=True)
    ]


def _placed(
    task: Task, cases: dict[tuple[Path, ...], _Case], values: dict[str, tuple[int, ...]], file: Path
) -> list[Case]:
    """The cases as they lie."""
    return [
        Case(
            name=name,
            image=str(paths[0]) if len(paths) == 1 else [str(path) for path in paths],
            masks={
                rater: str(path) if values else {task.structures[0]: str(path)}
                for rater, path in case.masks.items()
            },
            group=case.group,
            split=case.split,  # type: ignore[arg-type]
        )
        for (paths, case), name in zip(cases.items(), _names(cases, file), strict=True)
    ]


def _samples(
    task: Task,
    cases: dict[tuple[Path, ...], _Case],
    values: dict[str, tuple[int, ...]],
    window: str,
    resample: str,
    file: Path,
    how_: how.Drawn,
) -> Iterator[MultiRaterSample]:
    drawn = values or task.structures[0]
    for (paths, case), name in zip(cases.items(), _names(cases, file), strict=True):
        parts = [read_image(path, window=parse_window(window)) for path in paths]
        image = together(parts, resample=resample)
        if len(image.array) != task.channels:
            raise InputError(f"'{paths[0]}' has {len(image.array)} channels; others have {task.channels}")
        masks = {
            (rater, structure): mask
            for rater, path in case.masks.items()
            for structure, mask in how_.structures(path, drawn, parts[0], resample=resample).items()
        }
        yield assemble(task, name, image.array, masks, group=case.group, split=case.split, like=image)
