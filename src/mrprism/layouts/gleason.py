"""Gleason 2019: prostate tissue cores graded by three to six pathologists.

`Train Imgs/NAME.jpg`, `MapsK_T/NAME_classimg_nonconvex.png` for pathologist K. Values: 0 not
labelled, 1 and 6 benign, 3, 4, 5 Gleason grades. A map that is all 0 labels nothing and counts as
missing.

Source: Nir et al., Medical Image Analysis 50, 2018, doi:10.1016/j.media.2018.09.005.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import matching, needed, subfolder
from mrprism.images import read_image, read_labels
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, assemble, fitting, split_labels

LABELS = {"benign": (1, 6), "grade 3": (3,), "grade 4": (4,), "grade 5": (5,)}


def read(source: Path, ledger: Ledger) -> Source:
    """Read the folder that holds `Train Imgs` and `Maps1_T`, `Maps2_T`, ..."""
    images = needed(source, "Train Imgs", "Train_imgs", "Train_Imgs")
    maps: dict[str, dict[str, Path]] = {}
    for match, folder in matching(source, r"Maps(\d+)(?:_T)?"):
        inner = [path for _, path in matching(folder, rf"Maps{match[1]}(?:_T)?") if path.is_dir()]
        files = matching(inner[0] if inner else folder, r"(.+?)_classimg_nonconvex\.png")
        maps[f"pathologist {int(match[1])}"] = {found[1].lower(): ledger.take(path) for found, path in files}
    if not maps:
        raise InputError(f"folder '{source}' has no 'Maps1_T'; expected the layout of Gleason 2019")
    task = Task(3, tuple(LABELS), tuple(maps))
    pictures = {m[1]: ledger.take(path) for m, path in matching(images, r"(.+)\.jpe?g")}
    known = {name.lower() for name in pictures}
    for rater, files_ in maps.items():
        for name in [name for name in files_ if name not in known]:
            ledger.leave(files_.pop(name), "a map without an image", rater=rater)
    if (test := subfolder(source, "Test", "Test_imgs", "Test Imgs")) is not None:
        ledger.know(test, "images for testing, which have no maps")
    return Source("gleason-2019", task, _samples(task, pictures, maps, ledger), count=len(pictures))


def _samples(
    task: Task, pictures: dict[str, Path], maps: dict[str, dict[str, Path]], ledger: Ledger
) -> Iterator[MultiRaterSample]:
    for name, path in pictures.items():
        drawn = {rater: files[name.lower()] for rater, files in maps.items() if name.lower() in files}
        if not drawn:
            ledger.note(f"'{name}' has no map and was left out")
            continue
        image = read_image(path).array
        masks = {}
        for rater, file in drawn.items():
            grades = fitting(read_labels(file).array, file, image, path)
            if not grades.any():
                ledger.note(f"the map of '{name}' by {rater} labels nothing and counts as missing")
                continue
            for structure, mask in split_labels(grades, LABELS, file).items():
                masks[rater, structure] = mask
        yield assemble(task, name, image, masks, group=name.split("_core")[0])
