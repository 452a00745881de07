"""RIGA: optic disc and cup on 750 fundus photographs, outlined by six ophthalmologists.

Three forms are told apart by what is there:
- the package that came with MRNet: `DiscRegion/` with `Glaucoma_multirater_*.csv`, seven rows an
  image (a final label, then raters 1 to 6); masks 0, one middle grey (rim), 255 (cup);
- RIGA+: `*_train.csv`, `*_test.csv` and the raters' masks as NAME-1 to NAME-6; 0 cup, 128 rim, 255 outside;
- the original: `imageNprime` and, for each rater, a copy with two outlines drawn on it.

Outlines of the original are found by difference to the untouched photograph and filled; pixels of a
line belong to the side they are nearer to. What does not give two closed nested lines is missing, and
the notes say so.

Source: Almazroa et al., SPIE Medical Imaging 2018, doi:10.1117/12.2293584.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import folders, matching, subfolder
from mrprism.images import read_image, read_labels
from mrprism.layouts.fields import Ids
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, assemble, fitting, present
from mrprism.layouts.table import inside, read_table

RATERS = tuple(f"rater {k}" for k in range(1, 7))
_CAMERAS = ("BinRushed", "MESSIDOR", "Magrabia")
_JPEG_NOISE = 20  # grey levels out of 255


def read(source: Path, ledger: Ledger) -> Source:
    """Read any of the three forms."""
    discs = source if source.name == "DiscRegion" else subfolder(source, "DiscRegion")
    if discs is not None and matching(discs, r"Glaucoma_multirater_.+\.csv"):
        ledger.note("the reference is the final label of the package, a fusion of the raters")
        cases = list(_disc_region(discs, ledger))
        return _source("riga-disc-region", cases, _grey_samples, ledger)
    if matching(source, r".+_(?:train|test)\.csv"):
        return _source("riga-plus", list(_plus(source, ledger)), _inverted_samples, ledger)
    cases = list(_original(source, ledger))
    if not cases:
        raise InputError(
            f"'{source}' has neither DiscRegion, nor RIGA+ tables, nor photographs 'image1prime'"
        )
    return _source("riga", cases, _outlined_samples, ledger)


@dataclass(frozen=True)
class _Case:
    name: str
    image: Path
    masks: dict[str, Path]  # by rater
    final: Path | None = None
    split: str | None = None
    diagnosis: int | None = None


_Read = Callable[[Task, list[_Case], Ledger], Iterator[MultiRaterSample]]


def _source(name: str, cases: list[_Case], read_: _Read, ledger: Ledger) -> Source:
    raters = present(RATERS, {rater for case in cases for rater in case.masks}, ledger)
    for case in cases:
        ledger.take_all([case.image, *case.masks.values(), *([case.final] if case.final else [])])
    task = Task(3, ("disc", "cup"), raters)
    return Source(name, task, read_(task, cases, ledger), count=len(cases))


# --- the MRNet package --------------------------------------------------------------------------


def _disc_region(root: Path, ledger: Ledger) -> Iterator[_Case]:
    for match, table in matching(root, r"Glaucoma_multirater_(.+)\.csv"):
        ledger.take(table)
        rows = read_table(table, "imgName", "maskName", "label", "rater", encodings=("gbk", "utf-8"))
        if len(rows) % 7:
            raise InputError(f"table '{table}' has {len(rows)} rows; expected seven for each image")
        seen: Ids[int] = Ids("image", table)
        for first in range(0, len(rows), 7):
            group = rows[first : first + 7]
            images = {row["imgName"] for row in group}
            if len(images) != 1 or [row["rater"].split(".")[0] for row in group] != list("0123456"):
                raise InputError(
                    f"rows {first + 2} to {first + 8} of '{table}' name {len(images)} images and the raters "
                    f"{', '.join(row['rater'] for row in group)}; expected one image and raters 0 to 6"
                )
            if group[0]["imgName"] in seen:
                raise InputError(
                    f"table '{table}' names the image '{group[0]['imgName']}' in rows {seen[group[0]['imgName']]} and "
                    f"{first + 2}; expected it once"
                )
            seen.add(group[0]["imgName"], first + 2)
            yield _disc_case(root, table, match[1], group[0])


def _disc_case(root: Path, table: Path, camera: str, row: dict[str, str]) -> _Case:
    path = inside(root, row["imgName"], table)
    final = inside(root, row["maskName"], table)
    masks: dict[str, Path] = {}
    for k, rater in enumerate(RATERS, 1):
        drawn = inside(root, row["maskName"].replace("FinalLabel", f"Rater{k}"), table)
        if drawn == final:
            raise InputError(f"table '{table}' names the mask '{row['maskName']}'; expected FinalLabel in it")
        if drawn.is_file():
            masks[rater] = drawn
    label = row["label"].split(".")[0]
    return _Case(
        f"{camera}/{path.relative_to(root).with_suffix('').as_posix()}",
        path,
        masks,
        final,
        split="test" if camera.lower() == "magrabia" else "train",
        diagnosis=int(label) if label in ("0", "1") else None,
    )


def _grey_samples(task: Task, cases: list[_Case], ledger: Ledger) -> Iterator[MultiRaterSample]:
    for case in cases:
        image = read_image(case.image).array
        assert case.final is not None
        reference = _grey(case.final, image, case.image)
        masks = {
            (rater, structure): mask
            for rater, drawn in case.masks.items()
            for structure, mask in _grey(drawn, image, case.image).items()
        }
        yield assemble(task, case.name, image, masks, reference, split=case.split, diagnosis=case.diagnosis)


def _grey(path: Path, image: np.ndarray, image_path: Path) -> dict[str, np.ndarray]:
    values = fitting(read_labels(path).array, path, image, image_path)
    middle = np.setdiff1d(values, [0, 255])
    if len(middle) > 1:
        raise InputError(
            f"mask '{path}' has the grey values {', '.join(map(str, middle[:5]))} besides 0 and 255; "
            "expected one between them"
        )
    return {"disc": values > 0, "cup": values == 255}


# --- RIGA+ --------------------------------------------------------------------------------------


def _plus(root: Path, ledger: Ledger) -> Iterator[_Case]:
    seen: dict[Path, Path] = {}
    for match, table in matching(root, r"(.+)_(train|test)\.csv"):
        ledger.take(table)
        for row in read_table(table, "image", "mask"):
            path, whole = inside(root, row["image"], table), inside(root, row["mask"], table)
            if path in seen:
                if seen[path] != whole:
                    raise InputError(
                        f"'{row['image']}' stands in '{table}' with the mask '{whole}' and elsewhere with "
                        f"'{seen[path]}'; expected one of them"
                    )
                ledger.note(f"'{row['image']}' is in several tables and was taken once")
                continue
            seen[path] = whole
            drawn = {
                rater: whole.with_name(f"{whole.stem}-{k}{whole.suffix}") for k, rater in enumerate(RATERS, 1)
            }
            masks = {rater: file for rater, file in drawn.items() if file.is_file()}
            ledger.know(whole, "a mask of no rater's name")
            name = path.relative_to(root).with_suffix("").as_posix()
            yield _Case(name, path, masks, split=match[2].lower())


def _inverted_samples(task: Task, cases: list[_Case], ledger: Ledger) -> Iterator[MultiRaterSample]:
    for case in cases:
        image = read_image(case.image).array
        masks: dict[tuple[str, str], np.ndarray] = {}
        for rater, drawn in case.masks.items():
            values = fitting(read_labels(drawn).array, drawn, image, case.image)
            wrong = np.setdiff1d(values, [0, 128, 255])
            if len(wrong):
                raise InputError(f"mask '{drawn}' holds the grey value {wrong[0]}; expected 0, 128, 255")
            masks[rater, "disc"], masks[rater, "cup"] = values < 255, values == 0
        yield assemble(task, case.name, image, masks, split=case.split)


# --- the original -------------------------------------------------------------------------------


def _original(root: Path, ledger: Ledger) -> Iterator[_Case]:
    """Every folder with photographs, and the copies of each that raters drew on."""
    for folder in sorted(folders(root)):
        if folder.name == "BinRushed1":
            ledger.know(folder, "superseded by BinRushed1-Corrected")
            continue
        found: dict[str, dict[str, Path]] = {}
        for match, path in matching(folder, r"image(\d+)(prime|-[1-6])\.(?:jpe?g|tiff?)"):
            files, what = found.setdefault(match[1], {}), match[2].lower().lstrip("-")
            if what in files:
                raise InputError(
                    f"'{files[what]}' and '{path.name}' are one photograph by their names; expected one of them"
                )
            files[what] = path
        for number, files in found.items():
            prime = files.pop("prime", None)
            masks = {f"rater {k}": path for k, path in files.items()}
            if prime is None:
                for rater, path in masks.items():
                    ledger.leave(path, "there is no prime photograph to compare it with", rater=rater)
                continue
            yield _Case(f"{folder.name}/image{number}", prime, masks)


def _outlined_samples(task: Task, cases: list[_Case], ledger: Ledger) -> Iterator[MultiRaterSample]:
    from mrprism.layouts.outlines import outlined  # needs SciPy, which is slow to import

    for case in cases:
        image = read_image(case.image).array
        masks: dict[tuple[str, str], np.ndarray] = {}
        for rater, file in case.masks.items():
            drawn = read_image(file)
            fitting(drawn.array[0], file, image, case.image)
            lossy = drawn.format == "jpeg" or case.image.suffix.lower().startswith(".j")
            outlines = outlined(image, drawn.array, _JPEG_NOISE / 255 if lossy else 0.0)
            if isinstance(outlines, str):
                ledger.leave(file, f"counts as missing: {outlines}", "mark", rater=rater, case=case.name)
                continue
            masks[rater, "disc"], masks[rater, "cup"] = outlines
        yield assemble(task, case.name, image, masks)
