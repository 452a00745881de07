"""Label Studio: a JSON export beside a folder `images`; one annotation is one rater's pass.

The rater is `completed_by`. Cancelled passes, predictions and drafts are nobody's; a pass that was
submitted without a mark is empty, unless it has answers (choices, ratings): then it is not known. Of
several passes by one rater over a picture the newest counts.

Drawn are brushes, bitmasks, polygons, rectangles and ellipses, with labels of their own or from a tag
`Labels` beside them. Whatever else was marked is left out and named, and its structure is then not
known for that rater and picture: points and lines where nothing else was drawn, all else in any case.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from mrprism.core.errors import InputError
from mrprism.datasets.tree import needed
from mrprism.images import format_of
from mrprism.layouts.brushes import run_lengths, unpack_bitmask, unpack_brush
from mrprism.layouts.fields import Ids, entry, name_of, number, of_kind, pairs, shown, whole
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Canvas, Marks, Pass, json_files, read_json
from mrprism.layouts.shapes import ellipse, polygon, rectangle
from mrprism.layouts.source import Source
from mrprism.output.commands import option

_DRAWN = ("brush", "bitmask", "polygon", "rectangle", "ellipse")
_LINES = ("keypoint", "vector", "line", "relation")
_ANSWERS = {  # about a picture or a region; nothing is drawn by them
    "choices", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise", "ranker", "relation",
}  # fmt: skip
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what an upload puts before a name
_EXPORT = "an export of the kind 'JSON'"


def read(
    source: Path,
    ledger: Ledger,
    *,
    images: str = "images",
    key: str = "",
    to: str = "",
    structure: str = "",
    answers: str = "",
) -> Source:
    """Read every JSON export in a folder.

    Args:
        images: Name of the folder with the pictures.
        key: Which entry of a task's `data` is the picture; found by its ending unless told.
        to: Where a task shows several pictures: the name of the tag (`to_name`) whose marks are meant.
        structure: Name for marks without a label.
        answers: What a pass of answers only (choices, ratings, texts) means: "empty", its rater saw nothing to
            mark; unless told it is not known.

    Raises:
        InputError: What `fields` and `marks` say, or `answers` is another word.
    """
    if answers not in ("", "empty"):
        raise InputError(f"option answers is '{answers}'; expected -o answers=empty")
    files = json_files(source, ledger, _EXPORT)
    marks = Marks(ledger, needed(source if source.is_dir() else source.parent, images))
    asks = _Asks(key, to, structure, answers == "empty")
    for file in files:
        export = _Export(file, marks, asks)
        for place, task in enumerate(_tasks(file), start=1):
            export.collect(task, place)
        export.say()
    return marks.source(source.resolve().name, _draw)


@dataclass(frozen=True)
class _Asks:
    """What the user asked for."""

    key: str
    to: str
    structure: str
    answers_are_empty: bool  # a pass of answers only is one of somebody who saw nothing


def _tasks(file: Path) -> list[Any]:
    document = read_json(file)
    if isinstance(document, dict) and "annotations" in document and "categories" in document:
        raise InputError(f"'{file}' is a COCO file and no Label Studio export; expected mrprism import coco")
    if not isinstance(document, list):
        raise InputError(f"'{file}' is not a Label Studio export: expected a list of tasks, {_EXPORT}")
    return document


class _Export:
    """One file."""

    def __init__(self, file: Path, marks: Marks, asks: _Asks) -> None:
        self.file, self.marks, self.asks = file, marks, asks
        self.counts: dict[str, int] = {}  # of what is nobody's work
        self.urls: dict[Path, str] = {}  # picture: the address that a task gave for it
        self.persons: Ids[str] = Ids("person", file)

    def collect(self, task: Any, place: int) -> None:
        """One task: its picture, and the pass that counts of each rater."""
        where = self._where(task, place)
        annotations = of_kind(task["annotations"], list, f"'annotations' of {where}")
        self._count("predictions", task.get("predictions"))
        self._count("drafts", task.get("drafts"))
        passes: dict[str, list[dict[str, Any]]] = {}
        for annotation in annotations:
            of_kind(annotation, dict, f"an annotation of {where}")
            about = _called(annotation, where)
            if annotation.get("was_cancelled"):
                self._count("cancelled passes", [annotation])
                continue
            passes.setdefault(_rater(annotation, about, self.persons), []).append(annotation)
        if not passes:
            self._count("tasks that nobody annotated", [task])
            return
        picture = self._picture(entry(task, "data", dict, where), where)
        case = self.marks.case(picture)
        to = self._tag(task["data"], passes, where)
        for rater, found in passes.items():
            newest = max(range(len(found)), key=lambda index: (_when(found[index]), index))
            for index, older in enumerate(found):
                if index != newest:
                    what = f"annotation {shown(older.get('id', 'without an id'))}"
                    why = "an older annotation of the same rater; the newest counts"
                    self.marks.ledger.leave(what, why, "annotation", rater=rater, case=case)
            self.marks.add(picture, rater, self._pass(found[newest], rater, case, to, where), self.file)

    def say(self) -> None:
        """Note what was met that is nobody's work."""
        for what, count in self.counts.items():
            name = self.marks.ledger.named(self.file)
            self.marks.ledger.note(f"'{name}' has what is nobody's work and not read: {what}, {count}")

    def _count(self, what: str, found: Any) -> None:
        if isinstance(found, list) and found:
            self.counts[what] = self.counts.get(what, 0) + len(found)

    def _where(self, task: Any, place: int) -> str:
        where = f"task {place} in '{self.file}'"
        if not isinstance(task, dict):
            raise InputError(
                f"'{self.file}' is not a Label Studio export: {where} is {shown(task)}; expected an object"
            )
        if isinstance(task.get("id"), int | str):
            where = f"task {task['id']} in '{self.file}'"
        if "annotations" not in task:
            if "completions" in task:
                kind = "of Label Studio before version 1.0"
            elif "annotator" in task or "annotation_id" in task or "data" not in task:
                kind = "of the kind 'JSON-MIN'"
            else:
                raise InputError(f"{where} has no 'annotations'; expected {_EXPORT}")
            raise InputError(
                f"'{self.file}' is an export {kind}; expected {_EXPORT}, which names raters and their passes"
            )
        return where

    def _picture(self, data: dict[str, Any], where: str) -> Path:
        key = self.asks.key
        if key:
            values = [data[key]] if key in data else []
            if not values:
                raise InputError(f"{where} has no '{key}' in its data; it has {', '.join(data) or 'nothing'}")
            if isinstance(values[0], list) and len(values[0]) == 1:
                values = values[0]
            if isinstance(values[0], list):
                raise InputError(
                    f"{where} shows {len(values[0])} pages under '{key}'; expected one picture in a task: "
                    "make a task of each page"
                )
        else:
            values = [v for v in data.values() if isinstance(v, str) and format_of(_address(v))]
            pages = [k for k, v in data.items() if isinstance(v, list) and any(map(_is_picture, v))]
            if len(pages) == 1 and not values and len(data[pages[0]]) == 1:
                values = data[pages[0]]
            if pages and not values:
                raise InputError(
                    f"{where} shows {len(data[pages[0]])} pages under '{pages[0]}'; expected one picture in a task: "
                    "make a task of each page"
                )
        if not values:
            raise InputError(f"{where} has no picture in its data; expected -o key= to say where it stands")
        if len(values) > 1:
            keys = [k for k, v in data.items() if _is_picture(v)]
            raise InputError(
                f"{where} shows {len(keys)} pictures ({', '.join(keys)}); expected -o key= to say which one, and "
                "-o to= with the name of the tag that shows it"
            )
        url = of_kind(values[0], str, f"the picture of {where}")
        return self._found(url)

    def _found(self, url: str) -> Path:
        """The picture of a task; two tasks of one file may not mean one picture by two addresses."""
        address = _address(url)
        upload = re.search(r"(^|/)upload/\d+/[^/]+$", address) is not None
        name = PurePosixPath(address).name
        ways = [name, _UPLOAD.sub("", name, count=1)] if upload else [address.lstrip("/")]
        if not upload and _UPLOAD.match(name):
            ways.append(_UPLOAD.sub("", name, count=1))
        picture = (
            self.marks.find(self._named(ways)) if upload else self.marks.picture(self._named(ways), self.file)
        )
        before = self.urls.setdefault(picture, url)
        if before != url:
            raise InputError(
                f"'{before}' and '{url}' in '{self.file}' are two pictures, and '{picture}' is the only one of that "
                f"name; expected each in '{self.marks.images}' under the name the export has, folders included"
            )
        return picture

    def _named(self, ways: list[str]) -> str:
        for way in ways[:-1]:
            with suppress(InputError):
                self.marks.find(way)
                return way
        return ways[-1]

    def _tag(self, data: dict[str, Any], passes: dict[str, list[dict[str, Any]]], where: str) -> str:
        """The tag whose marks are on the picture; empty where there is one only."""
        tags: dict[str, None] = {}
        for annotation in (a for found in passes.values() for a in found):
            for item in _results(annotation, where):
                if _plain(item) in _DRAWN + _LINES[:3] and item.get("to_name") is not None:
                    tags[str(item["to_name"])] = None
                if item.get("item_index") not in (None, 0):
                    raise InputError(
                        f"{where} has marks on several pages (item_index); expected one picture in a task: make a "
                        "task of each page"
                    )
        pictures = [k for k, v in data.items() if _is_picture(v)]
        if self.asks.to:
            return self.asks.to
        if len(tags) > 1:
            raise InputError(
                f"{where} has marks on several pictures, {', '.join(tags)}; expected -o to= with the tag whose "
                "picture -o key= names"
            )
        if len(pictures) > 1 and tags and self.asks.key not in tags:
            raise InputError(
                f"{where} shows {len(pictures)} pictures ({', '.join(pictures)}) and has marks on '{next(iter(tags))}'; "
                f"expected {option('to', next(iter(tags)))} if that tag shows '{self.asks.key}'"
            )
        return ""

    def _pass(self, annotation: dict[str, Any], rater: str, case: str, to: str, where: str) -> Pass:
        done = Pass(([], self.file))
        shapes: list[dict[str, Any]] = []
        labels: dict[str, list[dict[str, Any]]] = {}  # from a tag of their own, by the mark they are of
        answers: dict[str, None] = {}
        for place, item in enumerate(_results(annotation, where)):
            kind = str(item.get("type"))
            if kind in _ANSWERS:
                self._count(f"answers of the kind '{kind}'", [item])
                answers[kind] = None
            elif kind == "labels":
                labels.setdefault(str(item.get("id", f" {place}")), []).append(item)
            else:
                shapes.append(item)
        for shape in shapes:
            own = _labels(shape, where)
            beside = labels.get(str(shape.get("id")), [])
            names = [*own, *(label for item in beside for label in _labels(item, where))]
            self._mark(shape, names, done, rater, case, to)
        if answers and not shapes and not labels and not self.asks.answers_are_empty:
            what = f"an annotation with answers only ({', '.join(answers)})"
            why = "nothing is marked, and it is not known whether there was nothing to mark; if so, give -o answers=empty"
            self.marks.drop(done, what, why, [], area=True, rater=rater, case=case)
        known = {str(shape.get("id")) for shape in shapes}
        for item in (item for key, items in labels.items() if key not in known for item in items):
            self._mark(item, _labels(item, where), done, rater, case, to)
        return done

    def _mark(
        self, shape: dict[str, Any], labels: list[str], done: Pass, rater: str, case: str, to: str
    ) -> None:
        kind, tag = _plain(shape), str(shape.get("to_name", ""))
        labels = list(dict.fromkeys(labels))
        article = "an" if kind[:1] in "aeiou" else "a"
        what = "labels without a mark" if kind == "labels" else f"{article} {kind}"
        what = what if isinstance(shape.get("type"), str) else "a mark of no stated kind"
        what += f" of '{', '.join(labels)}'" if labels else ""
        if to and tag != to:
            self.marks.ledger.leave(what, f"on another picture than '{to}'", "mark", rater=rater, case=case)
            return
        if not labels and self.asks.structure:
            labels = [self.asks.structure]
        if kind not in _DRAWN:
            area = kind not in _LINES
            why = "not a kind of mark that is read" if area else "a point or line, which encloses nothing"
            self.marks.drop(done, what, why, labels, area=area, rater=rater, case=case)
        elif not labels:
            why = "it has no label; -o structure= names what such marks are of"
            self.marks.drop(done, what, why, [], area=True, rater=rater, case=case)
        else:
            if shape.get("image_rotation"):
                raise InputError(f"'{self.file}': a mark on the turned picture '{case}' cannot be placed")
            structures = [self.marks.structure(label, str(self.file)) for label in labels]
            done.what[0].extend((structure, shape, f"{what} in '{self.file}'") for structure in structures)


def _called(annotation: dict[str, Any], where: str) -> str:
    known = annotation.get("id")
    return f"an annotation of {where}" if known is None else f"annotation {shown(known)} of {where}"


def _results(annotation: dict[str, Any], where: str) -> list[dict[str, Any]]:
    about = _called(annotation, where)
    return [of_kind(item, dict, f"a result of {about}") for item in entry(annotation, "result", list, about)]


def _plain(item: dict[str, Any]) -> str:
    """The kind of a mark, with labels or without: polygon and polygonlabels are one."""
    kind = str(item.get("type"))
    return kind if kind == "labels" else kind.removesuffix("labels")


def _labels(item: dict[str, Any], where: str) -> list[str]:
    kind = str(item.get("type"))
    if not kind.endswith("labels"):
        return []
    value = of_kind(item.get("value"), dict, f"'value' of a mark of {where}")
    listed = value.get(kind, [])
    return [
        name_of(label, f"a label of {where}")
        for label in of_kind(listed, list, f"'{kind}' of a mark of {where}")
    ]


def _rater(annotation: dict[str, Any], about: str, persons: Ids[str]) -> str:
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        known = who.get("email") or who.get("username") or who.get("id")
        name = name_of(known, f"'completed_by' of {about}").strip()
        return name if who.get("id") is None else persons.add(who["id"], name)
    if who is None:
        raise InputError(f"{about} has no 'completed_by'; expected {_EXPORT}, which names who made it")
    named = name_of(who, f"'completed_by' of {about}")
    return persons.add(who, f"user {named}")


def _when(annotation: dict[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and format_of(_address(value)) is not None


def _address(url: str) -> str:
    """Where a picture lies, folders included: of local files what stands behind ?d=, of others their path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    local = re.search(r"(?:^|&)(?:d|fileuri)=([^&]+)", parts.query)
    return unquote(local[1] if local else parts.path).replace("\\", "/").lstrip("/")


def _draw(what: Any, canvas: Canvas) -> None:
    shapes, file = what
    height, width = canvas.size
    for structure, item, name in shapes:
        said = whole(item, "original_height", name), whole(item, "original_width", name)
        if said != canvas.size:
            raise InputError(f"'{file}' says {said[0]} × {said[1]} for a picture of {height} × {width}")
        try:
            mask = _shape(item, canvas.size, name)
        except InputError as error:
            text = str(error)
            raise InputError(text if str(file) in text else f"'{file}': {text}") from error
        canvas.add(
            structure, mask, "" if _plain(item) in ("brush", "bitmask") else name.rsplit(" in '", 1)[0]
        )


def _shape(item: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    value, kind = entry(item, "value", dict, where), _plain(item)
    height, width = size
    if kind == "brush":
        return unpack_brush(run_lengths(value, where), size)
    if kind == "bitmask":
        return unpack_bitmask(entry(value, "imageDataURL", str, where), size, where)
    if kind == "polygon":
        points = np.array(pairs(entry(value, "points", list, where), f"the points of {where}")).reshape(-1, 2)
        return polygon(points * (width / 100, height / 100), size)
    x, y = number(value, "x", where) * width / 100, number(value, "y", where) * height / 100
    turned = number(value, "rotation", where, 0.0)
    if kind == "ellipse":
        radii = number(value, "radiusX", where) * width / 100, number(value, "radiusY", where) * height / 100
        return ellipse((x, y), radii, turned, size)
    extent = number(value, "width", where) * width / 100, number(value, "height", where) * height / 100
    return rectangle((x, y), extent, turned, size)
