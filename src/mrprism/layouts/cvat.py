"""CVAT for images 1.1: one export for each rater, beside a folder `images`.

CVAT keeps no name at a shape, so a rater is a file: `RATER.xml`, `RATER.zip`, or
`RATER/annotations.xml`. Shapes are drawn in the order of `z_order`; those of one label are united, and
one labelled "background" cuts out of all that lies below. Lines, points and skeletons enclose nothing:
they are left out and named, and a label that was marked by them alone is not known for that picture.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.datasets.tree import entries, needed
from mrprism.images import limit_text
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Canvas, Marks, Pass, from_runs
from mrprism.layouts.markup import parse_markup
from mrprism.layouts.shapes import ellipse, polygon, rectangle
from mrprism.layouts.source import Source

_AREAS = ("box", "ellipse", "polygon", "mask")
_LINES = ("polyline", "points", "skeleton")
_HOLE = "background"


def read(source: Path, ledger: Ledger, *, images: str = "images") -> Source:
    """Read a folder of exports.

    Args:
        images: Name of the folder with the pictures.
    """
    marks = Marks(ledger, needed(source, images))
    for path in entries(source):
        if path.name.lower() == images.lower():
            continue
        if path.stem in ledger.without:
            ledger.know(path, "of a rater who was not wanted")
            ledger.skipped.add(path.stem)
            continue
        content = _content(path, ledger)
        if content is not None:
            _collect(content, path, marks)
    return marks.source(source.resolve().name, _draw)


def _content(path: Path, ledger: Ledger) -> bytes | None:
    inside = path / "annotations.xml"
    if path.is_dir() and inside.is_file():
        ledger.know(path / "images", "the pictures that came with an export")
        return ledger.take(inside).read_bytes()
    if path.is_dir() or path.suffix.lower() not in (".xml", ".zip"):
        return None
    ledger.take(path)
    if path.suffix.lower() == ".xml":
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            limit_text(path, archive.getinfo("annotations.xml").file_size)
            return archive.read("annotations.xml")
    except KeyError:
        raise InputError(
            f"'{path}' has no annotations.xml; expected an export 'CVAT for images 1.1'"
        ) from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"'{path}' is broken: {error}") from error


def _collect(content: bytes, path: Path, marks: Marks) -> None:
    root = parse_markup(content, path)
    if root.tag != "annotations":
        raise InputError(f"'{path}' begins with '{root.tag}'; expected an export 'CVAT for images 1.1'")
    if root.find("track") is not None:
        raise InputError(f"'{path}' is an export for video; expected 'CVAT for images 1.1'")
    rater = path.stem if path.is_file() else path.name
    names = [node.text or "" for node in root.findall("meta//labels/label/name")]
    names += [n.get("label", "") for image in root.iter("image") for n in image if n.tag in _AREAS]
    spelt = {
        name: marks.structure(name, str(path))
        for name in names
        if name.strip() and name.strip().lower() != _HOLE
    }
    looked_for = frozenset(spelt.values()) if root.find("meta//labels/label/name") is not None else None
    if root.find("image") is None:
        raise InputError(f"'{path}' lists no picture; {marks.nothing_of(path)}")
    for image in root.iter("image"):
        name = image.get("name")
        if not name:
            raise InputError(f"'{path}' has an image without a name")
        about = f"the image '{name}' in '{path}'"
        size = _whole(image, "height", about), _whole(image, "width", about)
        shapes = [node for node in image if node.tag in _AREAS]
        shapes.sort(key=lambda node: _whole(node, "z_order", f"a {node.tag} of {about}", "0"))
        picture = marks.picture(name, path)
        done = Pass((size, shapes, path, spelt), looked_for=looked_for)
        for node in image:
            if node.tag in _AREAS or node.tag == "tag":
                continue
            label = node.get("label", "")
            lines = node.tag in _LINES
            cuts = not lines and label.strip().lower() == _HOLE  # out of every structure
            why = "a line or points, which enclose nothing" if lines else "not a kind of mark that is read"
            what = f"a {node.tag} of '{label}'"
            marks.drop(
                done,
                what,
                why,
                [label] if label and not cuts else [],
                area=not lines,
                rater=rater,
                case=marks.case(picture),
            )
        marks.add(picture, rater, done, path)


def _draw(what: Any, canvas: Canvas) -> None:
    said, shapes, path, spelt = what
    size = canvas.size
    if said != size:
        raise InputError(f"'{path}' says {said[0]} × {said[1]} for a picture of {size[0]} × {size[1]}")
    for node in shapes:
        label = node.get("label", "")
        about = f"a {node.tag} of '{label}'"
        try:
            if not label.strip():
                raise ValueError("it has no label")
            mask = _shape(node, size)
        except ValueError as error:
            raise InputError(f"'{path}' has a {node.tag} that cannot be read: {error}") from error
        except InputError as error:
            raise InputError(f"'{path}': {error}") from error
        if label.strip().lower() == _HOLE:
            canvas.erase(mask)
        else:
            canvas.add(spelt[label], mask, "" if node.tag == "mask" else about)


def _whole(node: ElementTree.Element, key: str, about: str, default: str | None = None) -> int:
    text = node.get(key, default)
    if text is None or not re.fullmatch(r"\s*-?\d{1,9}\s*", text):
        found = f"no {key}" if text is None else f"the {key} '{text}'"
        raise InputError(f"{about} has {found}; expected a whole number")
    return int(text)


def _text(node: ElementTree.Element, key: str, default: str | None = None) -> str:
    found = node.get(key, default)
    if found is None:
        raise ValueError(f"it has no '{key}'")
    return found


def _number(node: ElementTree.Element, key: str, default: str | None = None) -> float:
    text = _text(node, key, default)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"its '{key}' is '{text}'; expected a number") from None


def _shape(node: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    if node.tag == "polygon":
        text = _text(node, "points")
        try:
            points = [[float(v) for v in pair.split(",")] for pair in text.split(";") if pair.strip()]
        except ValueError:
            raise ValueError(f"its points are '{text[:40]}'; expected x,y;x,y;...") from None
        if len(points) < 3:
            raise ValueError("fewer than three points")
        if any(len(point) != 2 for point in points):
            raise ValueError("points that are not two numbers each")
        return polygon(np.array(points).reshape(-1, 2), size)
    turned = _number(node, "rotation", "0")
    if node.tag == "ellipse":
        centre = _number(node, "cx"), _number(node, "cy")
        return ellipse(centre, (_number(node, "rx"), _number(node, "ry")), turned, size)
    if node.tag == "box":
        left, top, right, bottom = (_number(node, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        middle = (left + right) / 2, (top + bottom) / 2
        return rectangle((left, top), (right - left, bottom - top), turned, size, about=middle)
    box = [_whole(node, key, "it") for key in ("left", "top", "width", "height")]
    left_, top_, width, height = box
    if left_ < 0 or top_ < 0 or width < 1 or height < 1 or left_ + width > size[1] or top_ + height > size[0]:
        raise ValueError(f"its box of {width} × {height} at {left_}, {top_} leaves the picture")
    text = _text(node, "rle")
    try:
        runs = [int(count) for count in re.split(r"[,\s]+", text.strip())]
    except ValueError:
        raise ValueError(f"its runs are '{text[:40]}'; expected whole numbers with commas between") from None
    mask = np.zeros(size, dtype=bool)
    filled = from_runs(runs, width * height, f"a mask of '{node.get('label')}'").reshape(height, width)
    mask[top_ : top_ + height, left_ : left_ + width] = filled
    return mask
