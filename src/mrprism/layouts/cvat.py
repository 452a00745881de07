"""CVAT for images 1.1: one export for each rater, beside a folder `images`.

CVAT keeps no name at a shape, so a rater is a file: `RATER.xml`, `RATER.zip`, or
`RATER/annotations.xml`. Shapes are drawn in the order of `z_order`; those of one label are united, and
one labelled "background" cuts out of all that lies below. Lines, points and tags are left out.
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
from mrprism.layouts.marks import Marks, from_runs
from mrprism.layouts.markup import parse_markup
from mrprism.layouts.shapes import ellipse, polygon, rectangle
from mrprism.layouts.source import Source

_AREAS = ("box", "ellipse", "polygon", "mask")
_HOLE = "background"


def read(source: Path, *, images: str = "images") -> Source:
    """Read a folder of exports.

    Args:
        images: Name of the folder with the pictures.
    """
    marks = Marks()
    for path in entries(source):
        if path.name.lower() == images.lower():
            continue
        content = _content(path)
        if content is not None:
            _collect(content, path, marks)
    return marks.source(source.resolve().name, needed(source, images), _draw)


def _content(path: Path) -> bytes | None:
    if path.is_dir() and (path / "annotations.xml").is_file():
        return (path / "annotations.xml").read_bytes()
    if path.suffix.lower() == ".xml":
        return path.read_bytes()
    if path.suffix.lower() != ".zip":
        return None
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
    names = [node.text or "" for node in root.findall("meta//labels/label/name")]
    names += [n.get("label", "") for image in root.iter("image") for n in image if n.tag in _AREAS]
    for name in names:
        if name and name.lower() != _HOLE and name not in marks.structures:
            marks.structures.append(name)
    left_out = sum(n.tag not in _AREAS and n.tag != "tag" for image in root.iter("image") for n in image)
    if left_out:
        marks.notes.append(
            f"{left_out} lines, points or skeletons in '{path}' enclose nothing and were left out"
        )
    for image in root.iter("image"):
        shapes = [node for node in image if node.tag in _AREAS]
        try:
            shapes.sort(key=lambda node: int(node.get("z_order", "0")))
            size = int(image.get("height", "0")), int(image.get("width", "0"))
        except ValueError as error:
            raise InputError(f"'{path}' has an image that cannot be read: {error}") from error
        marks.add(image.get("name", ""), path.stem, (size, shapes, path), path)


def _draw(what: Any, size: tuple[int, int]) -> dict[str, np.ndarray]:
    said, shapes, path = what
    if said != tuple(size):
        raise InputError(f"'{path}' says {said[0]} × {said[1]} for a picture of {size[0]} × {size[1]}")
    masks: dict[str, np.ndarray] = {}
    for node in shapes:
        try:
            label, mask = node.attrib["label"], _shape(node, size)
        except (KeyError, ValueError) as error:
            raise InputError(f"'{path}' has a {node.tag} that cannot be read: {error}") from error
        except InputError as error:
            raise InputError(f"'{path}': {error}") from error
        if label.lower() == _HOLE:
            for below in masks.values():
                below &= ~mask
        else:
            masks[label] = masks.get(label, np.zeros(size, dtype=bool)) | mask
    return masks


def _shape(node: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    def number(key: str, default: str | None = None) -> float:
        return float(node.attrib[key] if default is None else node.get(key, default))

    if node.tag == "polygon":
        points = [[float(v) for v in pair.split(",")] for pair in node.attrib["points"].split(";")]
        if len(points) < 3:
            raise ValueError("fewer than three points")
        return polygon(np.array(points).reshape(-1, 2), size)
    turned = number("rotation", "0")
    if node.tag == "ellipse":
        return ellipse((number("cx"), number("cy")), (number("rx"), number("ry")), turned, size)
    if node.tag == "box":
        left, top, right, bottom = (number(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        middle = (left + right) / 2, (top + bottom) / 2
        return rectangle((left, top), (right - left, bottom - top), turned, size, about=middle)
    left, top, width, height = (int(node.attrib[key]) for key in ("left", "top", "width", "height"))
    if left < 0 or top < 0 or width < 1 or height < 1 or left + width > size[1] or top + height > size[0]:
        raise ValueError(f"its box of {width} × {height} at {left}, {top} leaves the picture")
    runs = [int(count) for count in re.split(r"[,\s]+", node.attrib["rle"].strip())]
    mask = np.zeros(size, dtype=bool)
    box = from_runs(runs, width * height, f"a mask of '{node.get('label')}'").reshape(height, width)
    mask[top : top + height, left : left + width] = box
    return mask
