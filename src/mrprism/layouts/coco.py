"""COCO: one JSON file for each rater, beside a folder `images`; or one file with a rater in each annotation.

Polygons of one annotation are united; run lengths go down the columns. A category a rater did not
mark on a picture of their file is empty, a picture that is not in their file is missing.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.datasets.tree import matching, needed
from mrprism.layouts.marks import Marks, from_runs, read_json
from mrprism.layouts.shapes import polygon
from mrprism.layouts.source import Source


def read(source: Path, *, images: str = "images", rater: str = "") -> Source:
    """Read a folder.

    Args:
        images: Name of the folder with the pictures.
        rater: Key of an annotation, or of its "attributes", that names the rater; without it every
            JSON file is one rater's.
    """
    files = [path for _, path in matching(source, r".+\.json")]
    if not files:
        raise InputError(f"folder '{source}' has no JSON file")
    marks = Marks()
    for file in files:
        _collect(file, rater, marks)
    return marks.source(source.resolve().name, needed(source, images), _draw)


def _collect(file: Path, key: str, marks: Marks) -> None:
    document = read_json(file)
    try:
        pictures = {image["id"]: image for image in document["images"]}
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        found: defaultdict[tuple[Any, str], list[tuple[str, Any, str]]] = defaultdict(list)
        for annotation in document.get("annotations", []):
            who = _rater(annotation, key, file) if key else file.stem
            label = f"annotation {annotation.get('id')} in '{file}'"
            structure = names[annotation["category_id"]]
            found[annotation["image_id"], who].append((structure, annotation["segmentation"], label))
        for structure in names.values():
            if structure not in marks.structures:
                marks.structures.append(structure)
        if not key:
            for picture in pictures:
                found.setdefault((picture, file.stem), [])
        for (picture, who), shapes in found.items():
            size = int(pictures[picture]["height"]), int(pictures[picture]["width"])
            marks.add(str(pictures[picture]["file_name"]), who, (size, shapes), file)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"'{file}' is not a COCO file: {type(error).__name__} {error}") from error


def _rater(annotation: dict[str, Any], key: str, file: Path) -> str:
    who = annotation.get(key, (annotation.get("attributes") or {}).get(key))
    if who in (None, ""):
        raise InputError(f"annotation {annotation.get('id')} in '{file}' has no '{key}'")
    return str(who)


def _draw(what: Any, size: tuple[int, int]) -> dict[str, np.ndarray]:
    said, shapes = what
    if said != tuple(size):
        raise InputError(f"a COCO file says {said[0]} × {said[1]} for a picture of {size[0]} × {size[1]}")
    masks: dict[str, np.ndarray] = {}
    for structure, segmentation, label in shapes:
        drawn = masks.setdefault(structure, np.zeros(size, dtype=bool))
        try:
            drawn |= _segmentation(segmentation, size, label)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            kind = "a polygon" if isinstance(segmentation, list) else "runs"
            raise InputError(f"{label} has {kind} that cannot be read: {error}") from error
        except InputError as error:
            raise InputError(str(error) if label in str(error) else f"{label}: {error}") from error
    return masks


def _segmentation(segmentation: Any, size: tuple[int, int], label: str) -> np.ndarray:
    if isinstance(segmentation, list):
        mask = np.zeros(size, dtype=bool)
        for numbers in segmentation:
            if not isinstance(numbers, list) or len(numbers) < 6 or len(numbers) % 2:
                raise InputError(f"{label} has a polygon that is not three or more pairs of numbers")
            mask |= polygon(np.array(numbers, dtype=float).reshape(-1, 2), size)
        return mask
    if not isinstance(segmentation, dict) or list(segmentation.get("size", [])) != list(size):
        raise InputError(f"{label} has runs that are not for a picture of {size[0]} × {size[1]}")
    counts = segmentation["counts"]
    runs = unpack(counts) if isinstance(counts, str) else [int(count) for count in counts]
    return from_runs(runs, size[0] * size[1], label).reshape(size, order="F")


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
