"""LIDC-IDRI as published: CT series in DICOM, and XML files with up to four reading sessions each.

`LIDC-IDRI/LIDC-IDRI-NNNN/STUDY/SERIES/*.dcm` with the XML beside the slices or anywhere else in the
folder: an XML file names its series. A case is a scan; session k becomes slot k, which is no person and
another one in the next scan. Every session of a scan looked at all of it, so what it did not mark is
empty. The sessions are the second, unblinded reads: the readers had seen each other's marks.

Drawn are nodules of 3 mm and more, which are those with ratings. A contour runs just outside the nodule:
what it encloses belongs to the mask, its own pixels do not. A contour with `inclusion` FALSE is a hole,
its line included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Bool, Int64

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.dicom import Series, dicom_files, is_slice, read_header, read_series, readable
from mrprism.datasets.open_image import series_image
from mrprism.datasets.tree import folders, matching, natural
from mrprism.layouts.fields import Ids
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.markup import read_markup
from mrprism.layouts.shapes import polygon
from mrprism.layouts.source import Source, assemble, parse_window

SLOTS = 4
WINDOW = "-1000:400"  # Hounsfield units, as lungs are looked at
_RATINGS = (
    "subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation", "spiculation",
    "texture", "malignancy",
)  # fmt: skip


def read_scans(source: Path, window: str, leave_out: str, ledger: Ledger) -> Source:
    """Read every scan of a folder that has both slices and an XML file.

    Args:
        window: "low:high" in Hounsfield units.
        leave_out: Patients not to read, with commas between.
    """
    unwanted = {name.strip() for name in leave_out.split(",") if name.strip()}
    notes = ledger.notes
    notes += ["readers are anonymous and had seen each other's marks", f"intensities: window {window}"]
    readings = _readings(source, ledger)
    every = list(_scans(source))
    scans = [scan for scan in every if scan.patient not in unwanted]
    places: Ids[Path] = Ids("series", source)
    for scan in every:
        if scan.patient in unwanted:
            ledger.know(scan.folder, "of a patient who was to be left out")
        elif scan.series in readings:
            places.add(scan.series, scan.folder)
            ledger.take_all(dicom_files(scan.folder))
        else:
            why = "slices of a series that no XML file names"
            ledger.know(scan.folder, why)
            notes.append(f"'{ledger.named(scan.folder)}' holds {why}")
    matched = [(scan, readings[scan.series]) for scan in scans if scan.series in readings]
    if not matched:
        raise InputError(f"'{source}' has no CT series with an XML file that names it")
    skipped = {scan.series for scan in every if scan.patient in unwanted}
    there = {scan.series for scan, _ in matched}
    for series, (path, _) in readings.items():
        if series in skipped:
            ledger.know(path, "of a patient who was to be left out")
        elif series not in there:
            ledger.leave(path, "its series of slices is not there")
        else:
            ledger.take(path)
    task = Task(1, ("nodule",), tuple(f"slot {i + 1}" for i in range(SLOTS)), anonymous=True)
    samples = _samples(task, matched, window, ledger)
    return Source("lidc", task, samples, ("CT",), "nifti", notes, count=len(matched))


@dataclass(frozen=True)
class _Scan:
    folder: Path
    series: str
    patient: str


def _readings(source: Path, ledger: Ledger) -> dict[str, tuple[Path, Element]]:
    """The XML files about CT scans, by the series they name."""
    found: dict[str, tuple[Path, Element]] = {}
    others = 0
    files = (path for folder in folders(source) for _, path in matching(folder, r".+\.xml"))
    for path in sorted(files, key=lambda p: natural(str(p))):
        root = read_markup(path)
        if _name(root) == "IdriReadMessage":
            others += 1
            ledger.know(path, "about an X-ray picture")
            continue
        if _name(root) != "LidcReadMessage":
            raise InputError(f"'{path}' begins with '{_name(root)}'; expected LidcReadMessage")
        series = _text(root, "SeriesInstanceUid")
        if not series:
            raise InputError(f"'{path}' names no series (SeriesInstanceUid)")
        if series in found:
            raise InputError(f"'{found[series][0]}' and '{path}' are about one series; expected one of them")
        found[series] = path, root
    if others:
        ledger.note(f"{others} XML files about X-ray pictures (IdriReadMessage) were left out")
    return found


def _scans(source: Path) -> Iterator[_Scan]:
    for folder in folders(source):
        files = dicom_files(folder)
        if not files:
            continue
        header = read_header(files[0])
        if is_slice(header, files[0]):
            with readable(files[0]):
                patient = str(header.get("PatientID") or folder.name)
                found = _Scan(folder, str(header.get("SeriesInstanceUID", "")), patient)
            yield found


def _samples(
    task: Task, matched: list[tuple[_Scan, tuple[Path, Element]]], window: str, ledger: Ledger
) -> Iterator[MultiRaterSample]:
    scans: dict[str, int] = {}
    for scan, (path, root) in matched:
        series = read_series(_slices(scan.folder))
        sessions = [node for node in root if _name(node) == "readingSession"]
        if not 1 <= len(sessions) <= SLOTS:
            raise InputError(f"'{path}' holds {len(sessions)} reading sessions; expected one to {SLOTS}")
        masks = {}
        for slot, session in zip(task.raters, sessions, strict=False):
            before = len(ledger.left)
            drawn = _session(session, series, path, slot, ledger)
            if drawn.any() or len(ledger.left) == before:  # else it is not known to be empty
                masks[slot, "nodule"] = drawn
        number = scans[scan.patient] = scans.get(scan.patient, 0) + 1
        image = series_image(series, scan.folder, parse_window(window))
        yield assemble(
            task,
            scan.patient if number == 1 else f"{scan.patient}_{number}",
            image.array,
            masks,
            group=scan.patient,
            like=image,
        )


def _slices(folder: Path) -> list[Path]:
    """The slices of a scan; of several at one place the one with the lowest number, as the readers saw it."""
    lowest: dict[tuple[float, ...], tuple[int, Path]] = {}
    for path in dicom_files(folder):
        header: Any = read_header(path)
        if is_slice(header, path):
            with readable(path):
                place = tuple(float(v) for v in header.ImagePositionPatient)
                number = int(header.get("InstanceNumber") or 0), path
            lowest[place] = min(lowest.get(place, number), number)
    return [path for _, path in lowest.values()]


def _session(
    session: Element, series: Series, path: Path, slot: str, ledger: Ledger
) -> Bool[np.ndarray, "D H W"]:
    """All nodules of one reading session."""
    drawn = np.zeros(series.array.shape, dtype=bool)
    places = {uid: index for index, uid in enumerate(series.slices)}
    for nodule in session:
        if _name(nodule) != "unblindedReadNodule":
            continue
        lines = [node for node in nodule if _name(node) == "roi"]
        if not _rated(nodule):  # under 3 mm: a point
            if any(sum(_name(node) == "edgeMap" for node in line) > 1 for line in lines):
                what = f"a nodule in '{path.name}'"
                ledger.leave(
                    what, "it has an outline but no ratings, as nodules under 3 mm", "mark", rater=slot
                )
            continue
        for index in dict.fromkeys(_place(line, places, path) for line in lines):
            here = [line for line in lines if _place(line, places, path) == index]
            drawn[index] |= _nodule(here, drawn.shape[1:], path, slot, ledger)
    return drawn


def _rated(nodule: Element) -> bool:
    """Whether a nodule has ratings, which those of 3 mm and more have."""
    ratings = [node for node in nodule if _name(node) == "characteristics"]
    given = {_name(node): (node.text or "").strip() for node in (ratings[0] if ratings else [])}
    return any(given) and all(given.get(key, "1") not in ("", "0") for key in _RATINGS)


def _place(line: Element, places: dict[str, int], path: Path) -> int:
    uid = _text(line, "imageSOP_UID")
    if uid not in places:
        raise InputError(f"'{path}' has a contour on the slice {uid}, which is not in its series")
    return places[uid]


def _nodule(
    lines: list[Element], size: tuple[int, ...], path: Path, slot: str, ledger: Ledger
) -> Bool[np.ndarray, "H W"]:
    """One nodule on one slice: what its contours enclose, without what its holes do."""
    mask, holes = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    for line in lines:
        points = _points(line, size, path)
        if len(points) == 1:
            ledger.leave(f"a contour in '{path.name}'", "it is a single point", "mark", rater=slot)
            continue
        inside = polygon(points + 0.5, (size[0], size[1]))
        edge = np.zeros(size, dtype=bool)
        edge[tuple(_between(points)[:, ::-1].T)] = True
        if _text(line, "inclusion").upper() == "FALSE":
            holes |= inside | edge
        else:
            mask |= inside & ~edge
    return mask & ~holes


def _points(line: Element, size: tuple[int, ...], path: Path) -> Int64[np.ndarray, "n 2"]:
    """Columns and rows of a contour's pixels."""
    texts = [[_text(node, "xCoord"), _text(node, "yCoord")] for node in line if _name(node) == "edgeMap"]
    odd = [text for pair in texts for text in pair if not re.fullmatch(r"-?\d{1,9}", text)]
    if odd:
        raise InputError(
            f"'{path}' has a contour that cannot be read: a point at '{odd[0]}'; expected whole numbers"
        )
    points = np.array(texts, dtype=np.int64).reshape(-1, 2)
    if not len(points) or points.min() < 0 or (points >= [size[1], size[0]]).any():
        raise InputError(f"'{path}' has a contour without points or outside its slice")
    return points


def _between(points: Int64[np.ndarray, "n 2"]) -> Int64[np.ndarray, "m 2"]:
    """The pixels whose centres lie on the closed line through these."""
    found = []
    for start, step in zip(points, np.roll(points, -1, axis=0) - points, strict=True):
        count = max(gcd(int(step[0]), int(step[1])), 1)
        found.append(start + np.arange(count)[:, None] * (step // count))
    return np.concatenate(found)


def _name(node: Element) -> str:
    return node.tag.rsplit("}", 1)[-1]


def _text(node: Element, name: str) -> str:
    """The text of the first element of this name, at any depth."""
    return next(((child.text or "").strip() for child in node.iter() if _name(child) == name), "")
