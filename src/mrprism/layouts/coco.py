"""COCO: one JSON file for each rater, beside a folder `images`; or one file with a rater in each annotation.

Polygons of one annotation are united; run lengths go down the columns. A category a rater did not
mark on a picture of their file is empty, unless their file does not list it; a picture that is not in
their file is missing. An annotation without an outline (a box alone, key points) is left out and named,
and its category is then not known for that rater and picture; `-o boxes=yes` draws the box.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.datasets.tree import needed
from mrprism.layouts.fields import Ids, entry, name_of, of_kind, shown, whole
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Canvas, Marks, Pass, from_runs, json_files, read_json
from mrprism.layouts.shapes import polygon, rectangle
from mrprism.layouts.source import Source


def read(
    source: Path, ledger: Ledger, *, images: str = "images", rater: str = "", boxes: str = "no"
) -> Source:
    """Read a folder.

    Args:
        images: Name of the folder with the pictures.
        rater: Key of an annotation, or of its "attributes", that names the rater; without it every
            JSON file is one rater's.
        boxes: "yes" draws the box of an annotation that has no outline.
    """
    files = json_files(source, ledger, "a COCO file for each rater")
    marks = Marks(ledger, needed(source if source.is_dir() else source.parent, images))
    marked: set[str] = set()
    for file in files:
        if not rater and file.stem in ledger.without:
            ledger.skipped.add(file.stem)
            continue
        marked |= _collect(file, rater, boxes == "yes", marks)
    if unused := [name for name in marks.spelling.names if name not in marked]:
        some = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
        ledger.note(f"nobody marked {some}: listed, and so looked for and found nowhere")
    return marks.source(source.resolve().name, _draw)


@dataclass(frozen=True)
class _Picture:
    name: str
    height: int
    width: int

    def __repr__(self) -> str:
        return f"'{self.name}' of {self.height} × {self.width}"


@dataclass(frozen=True)
class _Shape:
    structure: str
    label: str  # what to call it
    segmentation: Any  # None: the box
    box: Any


def _collect(file: Path, key: str, boxes: bool, marks: Marks) -> set[str]:
    """Collect what one file says, and return the structures that are marked in it."""
    document = read_json(file)
    if not isinstance(document, dict):
        kind = "a list, perhaps the results of a detector" if isinstance(document, list) else shown(document)
        raise InputError(
            f"'{file}' is not a COCO file: it is {kind}; expected images, categories and annotations"
        )
    where = f"'{file}'"
    lacking = [key for key in ("images", "categories", "annotations") if key not in document]
    if lacking:
        raise InputError(f"'{file}' is not a COCO file: it has no '{lacking[0]}'")
    pictures: Ids[_Picture] = Ids("picture", file)
    for image in entry(document, "images", list, where):
        about = f"picture {shown(of_kind(image, dict, f'a picture of {where}').get('id'))} in {where}"
        size = whole(image, "height", about), whole(image, "width", about)
        pictures.add(image.get("id"), _Picture(entry(image, "file_name", str, about), *size))
    if not pictures:
        raise InputError(f"{where} lists no picture; {marks.nothing_of(file)}")
    names: Ids[str] = Ids("category", file)
    for category in entry(document, "categories", list, where):
        about = f"category {shown(of_kind(category, dict, f'a category of {where}').get('id'))} in {where}"
        names.add(category.get("id"), name_of(category.get("name"), f"the name of {about}"))
    structures = {id_: marks.structure(name, str(file)) for id_, name in names.items()}
    for name, count in Counter(structures.values()).items():
        if count > 1:
            called = marks.ledger.named(file)
            marks.ledger.note(f"'{called}' has {count} categories named '{name}', taken for one")
    found: defaultdict[tuple[Any, str], list[dict[str, Any]]] = defaultdict(list)
    for annotation in entry(document, "annotations", list, where):
        about = _called(of_kind(annotation, dict, f"an annotation of {where}"), file)
        pictures.find(annotation.get("image_id"), about)
        names.find(annotation.get("category_id"), about)
        found[annotation["image_id"], _rater(annotation, key, file) if key else file.stem].append(annotation)
    if not key:
        for picture in pictures:
            found.setdefault((picture, file.stem), [])
    _note(document["annotations"], file, marks)
    for (id_, who), listed in found.items():
        picture = pictures[id_]
        path = marks.picture(picture.name, file)
        shapes: list[_Shape] = []
        done = Pass(
            ((picture.height, picture.width), shapes, file), looked_for=frozenset(structures.values())
        )
        for annotation in listed:
            structure = structures[annotation["category_id"]]
            shape = _Shape(structure, _called(annotation, file), _outline(annotation), annotation.get("bbox"))
            if shape.segmentation is None and not (boxes and shape.box):
                kind = "key points" if annotation.get("keypoints") else "a box" if shape.box else "nothing"
                why = f"it has {kind} and no outline" + ("; -o boxes=yes draws boxes" if shape.box else "")
                what = f"annotation {shown(annotation.get('id'))} of '{structure}'"
                marks.drop(done, what, why, [structure], area=True, rater=who, case=marks.case(path))
            else:
                shapes.append(shape)
        marks.add(path, who, done, file)
    return {structures[annotation["category_id"]] for annotation in document["annotations"]}


def _note(annotations: list[dict[str, Any]], file: Path, marks: Marks) -> None:
    """What is odd about a file and does no harm."""
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in annotations)
    name = marks.ledger.named(file)
    if crowds:
        marks.ledger.note(f"'{name}' has crowds (iscrowd), each drawn as one region: {crowds}")
    ids = Counter(shown(annotation["id"]) for annotation in annotations if annotation.get("id") is not None)
    again = next((id_ for id_, count in ids.items() if count > 1), None)
    if again is not None:
        marks.ledger.note(f"'{name}' has several annotations of one id, such as {again}; all are drawn")


def _called(annotation: dict[str, Any], file: Path) -> str:
    return f"annotation {shown(annotation.get('id'))} in '{file}'"


def _outline(annotation: dict[str, Any]) -> Any:
    """None where there is no outline: no such key, nothing in it, or empty polygons alone."""
    found = annotation.get("segmentation")
    if found is None or found in ([], {}, ""):
        return None
    if isinstance(found, list) and all(part == [] for part in found):
        return None
    return found


def _rater(annotation: dict[str, Any], key: str, file: Path) -> str:
    attributes = annotation.get("attributes")
    who = annotation.get(key, attributes.get(key) if isinstance(attributes, dict) else None)
    if who in (None, ""):
        raise InputError(f"{_called(annotation, file)} has no '{key}'; expected the rater under it")
    return name_of(who, f"'{key}' of {_called(annotation, file)}").strip()


def _draw(what: Any, canvas: Canvas) -> None:
    said, shapes, file = what
    if said != canvas.size:
        size = canvas.size
        raise InputError(f"'{file}' says {said[0]} × {said[1]} for a picture of {size[0]} × {size[1]}")
    for shape in shapes:
        try:
            mask = _segmentation(shape, canvas.size)
        except InputError as error:
            raise InputError(
                str(error) if shape.label in str(error) else f"{shape.label}: {error}"
            ) from error
        outline = shape.label if not isinstance(shape.segmentation, dict) else ""
        canvas.add(shape.structure, mask, outline)


def _segmentation(shape: _Shape, size: tuple[int, int]) -> np.ndarray:
    segmentation, label = shape.segmentation, shape.label
    if segmentation is None:
        box = of_kind(shape.box, list, f"'bbox' of {label}")
        if len(box) != 4:
            raise InputError(f"'bbox' of {label} is {shown(box)}; expected x, y, width, height")
        x, y, width, height = (of_kind(value, float, f"'bbox' of {label}") for value in box)
        return rectangle((x, y), (width, height), 0.0, size)
    if isinstance(segmentation, list):
        mask = np.zeros(size, dtype=bool)
        parts = [segmentation] if isinstance(segmentation[0], int | float) else segmentation  # not nested
        for numbers in parts:
            if not isinstance(numbers, list) or len(numbers) < 6 or len(numbers) % 2:
                raise InputError(f"{label} has a polygon that is not three or more pairs of numbers")
            points = [of_kind(value, float, f"a polygon of {label}") for value in numbers]
            mask |= polygon(np.array(points).reshape(-1, 2), size)
        return mask
    if not isinstance(segmentation, dict):
        raise InputError(f"'segmentation' of {label} is {shown(segmentation)}; expected polygons or runs")
    runs = segmentation
    if runs.get("size") != list(size):
        raise InputError(
            f"{label} has runs that are not for a picture of {size[0]} × {size[1]}: {shown(runs.get('size'))}"
        )
    counts = runs.get("counts")
    if isinstance(counts, str):
        lengths = unpack(counts)
    else:
        lengths = [of_kind(count, int, f"a run of {label}") for count in entry(runs, "counts", list, label)]
    return from_runs(lengths, size[0] * size[1], label).reshape(size, order="F")


def unpack(text: str) -> list[int]:
    """The run lengths in COCO's string form: five bits a character, from the fourth on as differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise InputError(f"run lengths hold the character '{character}', which cannot be there")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("run lengths end in the middle of a number")
    return counts
