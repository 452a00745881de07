"""Label Studio: a JSON export beside a folder `images`; one annotation is one rater's pass.

The rater is `completed_by`. Cancelled passes, predictions and drafts are nobody's; a pass that was
submitted without a mark is empty. Of several passes by one rater over a picture the newest counts.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from mrprism.core.errors import InputError
from mrprism.datasets.tree import matching, needed
from mrprism.images import format_of
from mrprism.layouts.marks import Marks, find_picture, read_json
from mrprism.layouts.shapes import ellipse, polygon, rectangle
from mrprism.layouts.source import Source

_KINDS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")


def read(source: Path, *, images: str = "images", key: str = "") -> Source:
    """Read every JSON export in a folder.

    Args:
        images: Name of the folder with the pictures.
        key: Which entry of a task's `data` is the picture; found by its ending unless told.
    """
    files = [path for _, path in matching(source, r".+\.json")]
    if not files:
        raise InputError(f"folder '{source}' has no JSON file")
    folder = needed(source, images)
    marks = Marks()
    for file in files:
        document = read_json(file)
        if not isinstance(document, list):
            raise InputError(f"'{file}' is not a Label Studio export: expected a list of tasks")
        for task in document:
            try:
                _collect(task, key, file, folder, marks)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise InputError(
                    f"'{file}' is not a Label Studio export: {type(error).__name__} {error}"
                ) from error
    return marks.source(source.resolve().name, folder, _draw)


def _collect(task: dict[str, Any], key: str, file: Path, folder: Path, marks: Marks) -> None:
    picture = _picture(task["data"], key, file, folder)
    passes: dict[str, dict[str, Any]] = {}
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        rater = _rater(annotation["completed_by"])
        if rater in passes:
            marks.notes.append(f"rater {rater} went over '{picture}' more than once; the newest pass counts")
        if rater not in passes or _when(annotation) >= _when(passes[rater]):
            passes[rater] = annotation
    for rater, annotation in passes.items():
        shapes = []
        for item in annotation["result"]:
            if item.get("type") not in _KINDS:
                continue
            if item.get("image_rotation"):
                raise InputError(f"'{file}': a mark on the turned picture '{picture}' cannot be placed")
            for label in item["value"][item["type"]]:
                shapes.append((label, item))
                if label not in marks.structures:
                    marks.structures.append(label)
        marks.add(picture, rater, (shapes, file), file)


def _rater(who: Any) -> str:
    if isinstance(who, dict):
        return str(who.get("email") or who["id"])
    return f"user {who}"


def _when(annotation: dict[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _picture(data: dict[str, Any], key: str, file: Path, folder: Path) -> str:
    values = [data[key]] if key else [v for v in data.values() if isinstance(v, str) and format_of(_name(v))]
    if not values:
        raise InputError(f"'{file}' has a task without a picture; expected -o key= to say where it stands")
    name = _name(values[0])
    plain = re.sub(r"^[0-9a-f]{8}-", "", name)  # what an upload puts before the name
    try:
        find_picture(folder, name)
    except InputError:
        return plain
    return name


def _name(url: str) -> str:
    parts = urlsplit(url)
    local = re.search(r"(?:^|&)d=([^&]+)", parts.query)  # local files: ?d=folder/name.png
    return PurePosixPath(unquote(local[1] if local else parts.path).replace("\\", "/")).name


def _draw(what: Any, size: tuple[int, int]) -> dict[str, np.ndarray]:
    shapes, file = what
    masks: dict[str, np.ndarray] = {}
    for label, item in shapes:
        said = item.get("original_height"), item.get("original_width")
        if said != tuple(size):
            raise InputError(f"'{file}' says {said[0]} × {said[1]} for a picture of {size[0]} × {size[1]}")
        try:
            mask = _shape(item, size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"'{file}' has {item['type']} that cannot be read: {error}") from error
        except InputError as error:
            raise InputError(f"'{file}': {error}") from error
        masks[label] = masks.get(label, np.zeros(size, dtype=bool)) | mask
    return masks


def _shape(item: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    value = item["value"]
    if item["type"] == "brushlabels":
        return unpack_brush(value["rle"], size)
    height, width = size
    if item["type"] == "polygonlabels":
        points = np.array(value["points"], dtype=float).reshape(-1, 2)
        return polygon(points * (width / 100, height / 100), size)
    x, y = value["x"] * width / 100, value["y"] * height / 100
    turned = float(value.get("rotation") or 0)
    if item["type"] == "ellipselabels":
        radii = value["radiusX"] * width / 100, value["radiusY"] * height / 100
        return ellipse((x, y), radii, turned, size)
    return rectangle((x, y), (value["width"] * width / 100, value["height"] * height / 100), turned, size)


def unpack_brush(packed: list[int], size: tuple[int, int]) -> np.ndarray:
    """Label Studio's run lengths: red, green, blue and alpha of every pixel; alpha above 0 is marked."""
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    if count != size[0] * size[1] * 4:
        raise InputError(f"a brush mark holds {count} values; expected {size[0]} × {size[1]} × 4")
    sizes = [bits.take(4) + 1 for _ in range(4)]
    values = np.empty(count, dtype=np.uint32)
    written = 0
    while written < count:
        repeated = bits.take(1)
        run = bits.take(sizes[bits.take(2)]) + 1
        if written + run > count:
            raise InputError(f"a brush mark runs past its {count} values")
        values[written : written + run] = (
            bits.take(word) if repeated else [bits.take(word) for _ in range(run)]
        )
        written += run
    return np.asarray(values.reshape(*size, 4)[..., 3] > 0)


class _Bits:
    """Numbers of any width out of bytes, highest bit first."""

    def __init__(self, packed: list[int]) -> None:
        self.text = "".join(f"{byte:08b}" for byte in bytes(packed))
        self.place = 0

    def take(self, count: int) -> int:
        piece = self.text[self.place : self.place + count]
        if len(piece) < count:
            raise InputError("a brush mark is cut short")
        self.place += count
        return int(piece, 2)
