"""DIARETDB1 v2.1: lesions of diabetic retinopathy, marked by four experts with circles, ellipses and polygons.

`ddb1_v02_01/images/diaretdb1_imageNNN.png` and `groundtruth/diaretdb1_imageNNN_0R_plain.xml`, R the
expert. The files without `_plain` fetch a document type from the network and are passed over. Marks are
coarse regions around lesions, no outlines: overlap means something, distances between borders do not.

Every expert looked for the four lesions, so a lesion without a mark is empty. Of anything else, such as
the disc, only what was marked is known. A radius is a semi-axis and an angle turns counterclockwise as
seen: only so do the representative points that come with the marks lie inside them.

Source: Kauppi et al., BMVC 2007; restricted academic licence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Bool

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import matching, needed, subfolder
from mrprism.images import read_image
from mrprism.layouts.fields import Ids
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.markup import read_markup
from mrprism.layouts.shapes import ellipse, polygon
from mrprism.layouts.source import Source, assemble

LESIONS = ("Hard_exudates", "Soft_exudates", "Haemorrhages", "Red_small_dots")
OTHERS = ("Disc", "IRMA", "Neovascularisation", "Fundus_area")
_LEVELS = ("Low", "Medium", "High")


def read(
    source: Path, ledger: Ledger, *, structures: str = ",".join(LESIONS), confidence: str = "Low"
) -> Source:
    """Read the folder.

    Args:
        structures: Which kinds of marks, with commas between.
        confidence: The least confidence of the marks that are drawn: Low, Medium or High.
    """
    wanted = tuple(name.strip() for name in structures.split(","))
    unknown = [name for name in wanted if name not in LESIONS + OTHERS]
    if unknown:
        raise InputError(f"unknown structure '{unknown[0]}'; known: {', '.join(LESIONS + OTHERS)}")
    if confidence not in _LEVELS:
        raise InputError(f"unknown confidence '{confidence}'; known: {', '.join(_LEVELS)}")
    root = subfolder(source, "ddb1_v02_01") or source
    images = {m[1]: path for m, path in matching(needed(root, "images"), r"(diaretdb1_image\d+)\.png")}
    drawn: dict[str, dict[int, Path]] = {name: {} for name in images}
    truth = needed(root, "groundtruth")
    for match, path in matching(truth, r"(diaretdb1_image\d+)_(\d+)_plain\.xml"):
        if match[1] not in images:
            raise InputError(f"'{path}' has no image '{match[1]}.png'")
        drawn[match[1]][int(match[2])] = ledger.take(path)
    for match, path in matching(truth, r"(diaretdb1_image\d+)_(\d+)\.xml"):
        if int(match[2]) in drawn.get(match[1], {}):
            ledger.know(path, "the same marks with a document type that would be fetched")
        else:
            ledger.leave(path, "its marks are read from the file that ends in _plain.xml, which is not there")
    experts = sorted({number for files in drawn.values() for number in files})
    if not experts:
        raise InputError(f"'{truth}' has no files like diaretdb1_image001_01_plain.xml")
    task = Task(3, wanted, tuple(f"expert {number}" for number in experts))
    notes = [
        "marks are regions around lesions, not their outlines: read no distances between borders",
        f"drawn are marks of at least {confidence.lower()} confidence",
    ]
    ledger.take_all(images.values())
    samples = _samples(task, images, drawn, _splits(root, ledger), _LEVELS[_LEVELS.index(confidence) :])
    return Source("diaretdb1", task, samples, ("red", "green", "blue"), notes=notes, count=len(images))


def _splits(root: Path, ledger: Ledger) -> dict[str, str]:
    """Which images are for training and which for testing, as the lists that come with them say."""
    found: Ids[str] = Ids("split of the image", root)
    for match, path in matching(root, r"d?db1_v02_01_(train|test)(?:_plain)?\.txt"):
        text = ledger.take(path).read_text(encoding="utf-8", errors="replace")
        for name in re.findall(r"images/(diaretdb1_image\d+)", text):
            found.add(name, match[1].lower())
    return found


def _samples(
    task: Task,
    images: dict[str, Path],
    drawn: dict[str, dict[int, Path]],
    splits: dict[str, str],
    levels: tuple[str, ...],
) -> Iterator[MultiRaterSample]:
    for name, path in images.items():
        image = read_image(path).array
        masks = {
            (f"expert {number}", structure): mask
            for number, file in drawn[name].items()
            for structure, mask in _marks(file, image.shape[1:], task.structures, levels).items()
        }
        yield assemble(task, name, image, masks, split=splits.get(name))


def _marks(
    file: Path, size: tuple[int, ...], structures: tuple[str, ...], levels: tuple[str, ...]
) -> dict[str, Bool[np.ndarray, "H W"]]:
    root = read_markup(file)
    if root.tag != "imgannotooldata":
        raise InputError(f"'{file}' begins with '{root.tag}'; expected imgannotooldata")
    masks = {name: np.zeros(size, dtype=bool) for name in structures if name in LESIONS}
    for marking in root.iter("marking"):
        kind, level = marking.findtext("markingtype", ""), marking.findtext("confidencelevel", "")
        if kind not in LESIONS + OTHERS or level not in _LEVELS:
            raise InputError(f"'{file}' has a mark of the type '{kind}' with the confidence '{level}'")
        if kind in structures:
            mask = masks.setdefault(kind, np.zeros(size, dtype=bool))
            if level in levels:
                mask |= _region(marking, (size[0], size[1]), file)
    return masks


def _region(marking: Element, size: tuple[int, int], file: Path) -> Bool[np.ndarray, "H W"]:
    region = next((node for node in marking if node.tag.endswith("region")), None)
    try:
        if region is None:
            raise ValueError("no region")
        if region.tag == "polygonregion":
            points = np.array([_point(node) for node in region.findall("coords2d")])
            if len(points) < 3:
                raise ValueError("a polygon of fewer than three points")
            return polygon(points, size)
        centre = _point(region.find("centroid/coords2d"))
        radii = {node.get("direction"): _number(node.text, "radius") for node in region.findall("radius")}
        if "x" not in radii:
            raise ValueError("it has no radius along x")
        if region.tag not in ("circleregion", "ellipseregion"):
            raise ValueError(f"a {region.tag}")
        angle = _number(region.findtext("angle") or "0", "angle")
        return ellipse(centre, (radii["x"], radii.get("y", radii["x"])), -angle, size)
    except ValueError as error:
        raise InputError(f"'{file}' has a mark that cannot be read: {error}") from error


def _point(node: Element | None) -> tuple[float, float]:
    """The centre of a pixel, x and y from the upper left corner."""
    text = (node.text if node is not None else None) or ""
    parts = text.split(",")
    if len(parts) != 2:
        raise ValueError(f"a point '{text}'; expected x,y")
    return _number(parts[0], "x") + 0.5, _number(parts[1], "y") + 0.5


def _number(text: str | None, what: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"its {what} is '{text or ''}'; expected a number") from None
