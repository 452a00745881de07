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

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import folders, matching, subfolder
from mrprism.images import read_image, read_labels
from mrprism.layouts.source import Source, assemble, fitting
from mrprism.layouts.table import inside, read_table

RATERS = tuple(f"rater {k}" for k in range(1, 7))
TASK = Task(3, ("disc", "cup"), RATERS)
_CAMERAS = ("BinRushed", "MESSIDOR", "Magrabia")
_JPEG_NOISE = 20  # grey levels out of 255


def read(source: Path) -> Source:
    """Read any of the three forms."""
    notes: list[str] = []
    discs = source if source.name == "DiscRegion" else subfolder(source, "DiscRegion")
    if discs is not None and matching(discs, r"Glaucoma_multirater_.+\.csv"):
        notes.append("the reference is the final label of the package, a fusion of the raters")
        return Source("riga-disc-region", TASK, _disc_region(discs), notes=notes)
    if matching(source, r".+_(?:train|test)\.csv"):
        return Source("riga-plus", TASK, _plus(source, notes), notes=notes)
    if not list(_photographs(source)):
        raise InputError(
            f"'{source}' has neither DiscRegion, nor RIGA+ tables, nor photographs 'image1prime'"
        )
    return Source("riga", TASK, _original(source, notes), notes=notes)


# --- the MRNet package --------------------------------------------------------------------------


def _disc_region(root: Path) -> Iterator[MultiRaterSample]:
    for match, table in matching(root, r"Glaucoma_multirater_(.+)\.csv"):
        rows = read_table(table, "imgName", "maskName", "label", "rater", encodings=("gbk", "utf-8"))
        if len(rows) % 7:
            raise InputError(f"table '{table}' has {len(rows)} rows; expected seven for each image")
        for first in range(0, len(rows), 7):
            group = rows[first : first + 7]
            images = {row["imgName"] for row in group}
            if len(images) != 1 or [row["rater"].split(".")[0] for row in group] != list("0123456"):
                raise InputError(
                    f"rows {first + 2} to {first + 8} of '{table}' name {len(images)} images and the raters "
                    f"{', '.join(row['rater'] for row in group)}; expected one image and raters 0 to 6"
                )
            yield _disc_case(root, table, match[1], group[0])


def _disc_case(root: Path, table: Path, camera: str, row: dict[str, str]) -> MultiRaterSample:
    path = inside(root, row["imgName"], table)
    image = read_image(path).array
    final = inside(root, row["maskName"], table)
    reference = _grey(final, image, path)
    masks: dict[tuple[str, str], np.ndarray] = {}
    for k, rater in enumerate(RATERS, 1):
        drawn = inside(root, row["maskName"].replace("FinalLabel", f"Rater{k}"), table)
        if drawn == final:
            raise InputError(f"table '{table}' names the mask '{row['maskName']}'; expected FinalLabel in it")
        if drawn.is_file():
            masks.update({(rater, s): mask for s, mask in _grey(drawn, image, path).items()})
    label = row["label"].split(".")[0]
    return assemble(
        TASK,
        f"{camera}/{path.relative_to(root).with_suffix('').as_posix()}",
        image,
        masks,
        reference,
        split="test" if camera.lower() == "magrabia" else "train",
        diagnosis=int(label) if label in ("0", "1") else None,
    )


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


def _plus(root: Path, notes: list[str]) -> Iterator[MultiRaterSample]:
    seen: set[Path] = set()
    for match, table in matching(root, r"(.+)_(train|test)\.csv"):
        for row in read_table(table, "image", "mask"):
            path = inside(root, row["image"], table)
            if path in seen:
                notes.append(f"'{row['image']}' stands in several tables and was taken once")
                continue
            seen.add(path)
            image = read_image(path).array
            masks: dict[tuple[str, str], np.ndarray] = {}
            whole = inside(root, row["mask"], table)
            for k, rater in enumerate(RATERS, 1):
                drawn = whole.with_name(f"{whole.stem}-{k}{whole.suffix}")
                if drawn.is_file():
                    values = fitting(read_labels(drawn).array, drawn, image, path)
                    wrong = np.setdiff1d(values, [0, 128, 255])
                    if len(wrong):
                        raise InputError(
                            f"mask '{drawn}' holds the grey value {wrong[0]}; expected 0, 128, 255"
                        )
                    masks[rater, "disc"], masks[rater, "cup"] = values < 255, values == 0
            name = path.relative_to(root).with_suffix("").as_posix()
            yield assemble(TASK, name, image, masks, split=match[2].lower())


# --- the original -------------------------------------------------------------------------------


def _photographs(root: Path) -> Iterator[tuple[Path, dict[str, dict[str, Path]]]]:
    """Every folder with photographs: {number: {"prime" or rater: file}}."""
    for folder in sorted(folders(root)):
        if folder.name == "BinRushed1":  # superseded by BinRushed1-Corrected
            continue
        found: dict[str, dict[str, Path]] = {}
        for match, path in matching(folder, r"image(\d+)(prime|-[1-6])\.(?:jpe?g|tiff?)"):
            found.setdefault(match[1], {})[match[2].lower().lstrip("-")] = path
        if found:
            yield folder, found


def _original(root: Path, notes: list[str]) -> Iterator[MultiRaterSample]:
    from mrprism.layouts.outlines import outlined  # needs SciPy, which is slow to import

    for folder, found in _photographs(root):
        for number, files in found.items():
            if "prime" not in files:
                notes.append(f"image {number} of '{folder}' has no prime photograph and was left out")
                continue
            path = files["prime"]
            image = read_image(path).array
            masks: dict[tuple[str, str], np.ndarray] = {}
            for k, rater in enumerate(RATERS, 1):
                if str(k) not in files:
                    continue
                drawn = read_image(files[str(k)])
                fitting(drawn.array[0], files[str(k)], image, path)
                lossy = drawn.format == "jpeg" or path.suffix.lower().startswith(".j")
                outlines = outlined(image, drawn.array, _JPEG_NOISE / 255 if lossy else 0.0)
                if isinstance(outlines, str):
                    notes.append(f"'{files[str(k)]}' counts as missing: {outlines}")
                    continue
                masks[rater, "disc"], masks[rater, "cup"] = outlines
            yield assemble(TASK, f"{folder.name}/image{number}", image, masks)
