"""DICOM SEG: image series and segmentations in one folder, at any depth; a file for each rater and case.

What belongs together is found in the files, not in their names: a segmentation names the series it was
drawn on, its frames say where they lie, and its content creator is the rater (without one, the
description of its series, which is noted). A segment that is listed but has no frame is empty; a
structure that a rater's files do not list was not done.

A case is called after the folder of its series, with the patient in front where that is not enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.dicom import (
    Series,
    dicom_files,
    is_segmentation,
    is_slice,
    quiet,
    read_header,
    read_series,
    readable,
)
from mrprism.datasets.dicom_bounds import bound_pixels
from mrprism.datasets.open_image import series_image
from mrprism.datasets.tree import folders, natural
from mrprism.images import Geometry, limit_pixels
from mrprism.images.resample import resample_labels
from mrprism.layouts.frames import Area, Frame, macro, on_series, own_grid, read_frames
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Spelling
from mrprism.layouts.source import Source, assemble, parse_window


def read(
    source: Path, ledger: Ledger, *, threshold: str = "", window: str = "", resample: str = "no"
) -> Source:
    """Read a folder.

    Args:
        threshold: For fractional segmentations: what lies above it, of 1, belongs to the segment.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    limit = _threshold(threshold)
    series: dict[str, list[Path]] = {}
    patients: dict[str, str] = {}
    drawings = []
    for path in (path for folder in folders(source) for path in dicom_files(folder)):
        header = read_header(path)
        if is_segmentation(header, path):
            drawings.append((ledger.take(path), header))
        elif is_slice(header, path):
            with readable(path):
                uid = str(header.get("SeriesInstanceUID", ""))
                patients[uid] = str(header.get("PatientID") or "")
            series.setdefault(uid, []).append(ledger.take(path))
        else:
            with readable(path):
                kind = str(header.get("Modality") or "") or "no stated kind"
            ledger.leave(path, f"a DICOM file of {kind}, neither a slice nor a segmentation")
    if not drawings:
        others = f"; what there is: {', '.join(sorted({i.why for i in ledger.left}))}" if ledger.left else ""
        raise InputError(f"'{source}' holds no DICOM SEG file{others}")
    notes = ledger.notes
    spelling = Spelling(ledger)
    cases: dict[str, list[_Drawing]] = {uid: [] for uid in series}
    for path, header in drawings:
        with readable(path):
            cases[_series(header, path, series)].append(_drawing(header, path, limit, notes, spelling))
    idle = [uid for uid, found in cases.items() if not found]
    if idle:
        some = ledger.named(series[idle[0]][0].parent)
        notes.append(f"{len(idle)} series have no segmentation and were left out, such as '{some}'")
    cases = {uid: found for uid, found in cases.items() if found}
    for found in cases.values():
        _once(found)
    raters = sorted({drawing.rater for found in cases.values() for drawing in found}, key=natural)
    structures = dict.fromkeys(s for found in cases.values() for d in found for s in d.segments.values())
    task = Task(1, tuple(structures), tuple(raters))
    names = _names({uid: series[uid][0].parent for uid in cases}, patients)
    samples = _samples(task, cases, series, names, limit, window, resample == "yes")
    return Source(source.resolve().name, task, samples, image_format="nifti", notes=notes, count=len(cases))


@dataclass(frozen=True)
class _Drawing:
    """One file of a rater."""

    path: Path
    rater: str
    segments: dict[int, str]  # number: structure


def _threshold(text: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = -1.0
    if value is not None and not 0 <= value < 1:
        raise InputError(f"threshold '{text}' is not understood; expected a number from 0 to below 1")
    return value


def _series(header: Any, path: Path, series: dict[str, list[Path]]) -> str:
    """The UID of the series a segmentation was drawn on."""
    named = [str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence", [])]
    for uid in named:
        if uid in series:
            return uid
    raise InputError(
        f"'{path}' was drawn on the series {', '.join(named) or '(not named)'}, which is not there"
    )


def _drawing(header: Any, path: Path, limit: float | None, notes: list[str], spelling: Spelling) -> _Drawing:
    if header.get("SegmentationType") == "FRACTIONAL" and limit is None:
        raise InputError(f"'{path}' is fractional; expected -o threshold= to say what belongs to a segment")
    rater = str(header.get("ContentCreatorName") or "").strip()
    if not rater:
        rater = str(header.get("SeriesDescription") or "").strip()
        notes.append(f"'{path.name}' names no content creator; its series is described as '{rater}'")
    if not rater:
        raise InputError(f"'{path}' has neither a content creator nor a series description; who drew it?")
    segments: dict[int, str] = {}
    for item in header.get("SegmentSequence", []):
        number, label = int(item.get("SegmentNumber", 0)), str(item.get("SegmentLabel") or "").strip()
        if number == 0:  # the background of a label map
            continue
        if number in segments:
            raise InputError(f"'{path}' has two segments with the number {number}; expected each number once")
        if not label or label in segments.values():
            raise InputError(f"'{path}' has segments without a label or with the same, '{label}'")
        segments[number] = spelling.of(label, path)
        if item.get("SegmentAlgorithmType") == "AUTOMATIC":
            notes.append(f"'{label}' in '{path.name}' by '{rater}' was made by an algorithm")
    if not segments:
        raise InputError(f"'{path}' lists no segments")
    return _Drawing(path, rater, segments)


def _once(found: list[_Drawing]) -> None:
    """No rater did a structure twice."""
    seen: dict[tuple[str, str], Path] = {}
    for drawing in found:
        for structure in drawing.segments.values():
            first = seen.setdefault((drawing.rater, structure), drawing.path)
            if first != drawing.path:
                raise InputError(
                    f"'{first}' and '{drawing.path}' both hold '{structure}' by '{drawing.rater}' on one series; "
                    "expected one of them"
                )


def _names(folders: dict[str, Path], patients: dict[str, str]) -> dict[str, str]:
    """A name for each series: its folder, the patient in front or a number behind where that is shared."""
    names: dict[str, str] = {}
    plain = [folder.name for folder in folders.values()]
    for uid, folder in folders.items():
        name = folder.name if plain.count(folder.name) == 1 else f"{patients[uid]}_{folder.name}".strip("_")
        again = sum(other == name or other.startswith(f"{name}_") for other in names.values())
        names[uid] = f"{name}_{again + 1}" if again else name
    return names


def _samples(
    task: Task,
    cases: dict[str, list[_Drawing]],
    series: dict[str, list[Path]],
    names: dict[str, str],
    limit: float | None,
    window: str,
    resample: bool,
) -> Iterator[MultiRaterSample]:
    for uid, drawings in cases.items():
        volume = read_series(series[uid])
        masks = {
            (drawing.rater, structure): mask
            for drawing in drawings
            for structure, mask in _drawn(drawing, volume, limit, resample).items()
        }
        image = series_image(volume, volume.files[0].parent, parse_window(window))
        yield assemble(
            task,
            names[uid],
            image.array,
            masks,
            group=volume.patient or None,
            like=image,
        )


def _drawn(drawing: _Drawing, volume: Series, limit: float | None, resample: bool) -> dict[str, np.ndarray]:
    header = read_header(drawing.path, pixels=True)
    with readable(drawing.path):
        return _masks(header, drawing, volume, limit, resample)


def _masks(
    header: Any, drawing: _Drawing, volume: Series, limit: float | None, resample: bool
) -> dict[str, np.ndarray]:
    frame = str(header.get("FrameOfReferenceUID", ""))
    if frame and volume.frame_of_reference and frame != volume.frame_of_reference:
        raise InputError(
            f"'{drawing.path}' lies in the frame of reference {frame}, its series in {volume.frame_of_reference}"
        )
    kind = header.get("SegmentationType", "BINARY")
    largest = float(header.get("MaximumFractionalValue") or 255)
    frames = _frames(header, drawing.path)
    listed = list(header.get("PerFrameFunctionalGroupsSequence", []))
    if len(frames) != len(listed):
        raise InputError(f"'{drawing.path}' describes {len(listed)} frames but holds {len(frames)}")
    places = read_frames(header, drawing.path) if listed else []
    grid, areas = _grid(places, volume, drawing.path, resample)
    masks = {name: np.zeros(grid.shape[::-1], dtype=bool) for name in drawing.segments.values()}
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    for pixels, group, area in zip(frames, listed, areas, strict=True):
        if kind == "LABELMAP":
            for number, name in drawing.segments.items():
                masks[name][area] |= pixels == number
            _known(pixels, drawing)
            continue
        number = int(
            macro(group, shared, "SegmentIdentificationSequence", drawing.path).ReferencedSegmentNumber
        )
        if number not in drawing.segments:
            raise InputError(f"'{drawing.path}' has a frame of segment {number}, which it does not list")
        marked = pixels / largest > limit if kind == "FRACTIONAL" else pixels != 0
        masks[drawing.segments[number]][area] |= marked
    if grid is volume.geometry:
        return masks
    return {
        name: _resampled(mask, grid, volume, f"'{name}' in '{drawing.path}'") for name, mask in masks.items()
    }


def _grid(places: list[Frame], volume: Series, path: Path, resample: bool) -> tuple[Geometry, list[Area]]:
    """The grid of the series where the frames lie on it, else, if they may be resampled, their own."""
    try:
        return volume.geometry, list(on_series(places, volume, path))
    except InputError:
        if not resample:
            raise
    return own_grid(places, path)


def _resampled(mask: np.ndarray, lies: Geometry, volume: Series, what: str) -> np.ndarray:
    found = resample_labels(mask, lies, volume.geometry)
    if mask.any() and not found.any():
        where = volume.files[0].parent
        raise InputError(f"nothing of {what} lies inside its series '{where}'; expected some of it")
    return found


def _known(pixels: np.ndarray, drawing: _Drawing) -> None:
    strange = sorted({int(v) for v in np.unique(pixels)} - {0, *drawing.segments})
    if strange:
        raise InputError(f"'{drawing.path}' has pixels of segment {strange[0]}, which it does not list")


def _frames(header: Any, path: Path) -> np.ndarray:
    if "PixelData" not in header and int(header.get("NumberOfFrames") or 0) == 0:
        return np.zeros((0, 1, 1), dtype=np.uint8)
    limit_pixels(path, (int(header.NumberOfFrames), int(header.Rows), int(header.Columns)))
    try:
        with quiet():
            bound_pixels(header, path)
            pixels = np.asarray(header.pixel_array)
    except InputError:
        raise
    except Exception as error:  # pydicom and its decoders raise what they like
        raise InputError(f"the pixels of '{path}' cannot be read: {error}") from error
    return pixels if pixels.ndim == 3 else pixels[None]
