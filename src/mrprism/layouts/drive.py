"""DRIVE: retinal vessels, outlined twice on the 20 test images and once on the 20 for training.

`{training,test}/{images,1st_manual,2nd_manual}`; the folder `mask` is the field of view and nobody's
drawing. Masks are black and white after their palette, not always 0 and 255.

Source: Staal et al., IEEE TMI 23(4), 2004, doi:10.1109/TMI.2004.825627.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import matching, needed, subfolder
from mrprism.images import read_image
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, assemble, present

RATERS = ("1st manual", "2nd manual")


def read(source: Path, ledger: Ledger) -> Source:
    """Read the folder that holds `training` and `test` (one of them is enough)."""
    parts = [(split, subfolder(source, name)) for split, name in (("train", "training"), ("test", "test"))]
    if all(folder is None for _, folder in parts):
        raise InputError(f"folder '{source}' has neither 'training' nor 'test'; expected DRIVE's layout")
    cases: list[_Case] = []
    for split, folder in parts:
        if folder is not None:
            cases += _cases(split, folder, ledger)
    raters = present(RATERS, {rater for case in cases for rater in case.masks}, ledger)
    task = Task(3, ("vessels",), raters)
    return Source("drive", task, _samples(task, cases), count=len(cases))


@dataclass(frozen=True)
class _Case:
    name: str
    image: Path
    split: str
    masks: dict[str, Path]  # by rater


def _cases(split: str, folder: Path, ledger: Ledger) -> list[_Case]:
    drawn: dict[str, dict[str, Path]] = {}
    for number, rater in enumerate(RATERS, start=1):
        where = subfolder(folder, rater.replace(" ", "_"))
        for match, path in matching(where, rf"(\d+)_manual{number}\..+") if where else []:
            drawn.setdefault(match[1], {})[rater] = path
    if (field := subfolder(folder, "mask")) is not None:
        ledger.know(field, "the field of view, nobody's drawing")
    cases = []
    for match, path in matching(needed(folder, "images"), r"(\d+)_(?:training|test)\..+"):
        masks = drawn.pop(match[1], {})
        ledger.take_all([path, *masks.values()])
        cases.append(_Case(match[0].rsplit(".", 1)[0], path, split, masks))
    for path in (path for masks in drawn.values() for path in masks.values()):
        ledger.leave(path, "a mask without an image")
    return cases


def _samples(task: Task, cases: list[_Case]) -> Iterator[MultiRaterSample]:
    for case in cases:
        image = read_image(case.image).array
        masks = {(r, "vessels"): _black_and_white(path, image.shape[1:]) for r, path in case.masks.items()}
        yield assemble(task, case.name, image, masks, split=case.split)


def _black_and_white(path: Path, size: tuple[int, ...]) -> np.ndarray:
    grey = read_image(path).array.mean(axis=0)
    values = np.unique(grey)
    if len(values) > 2 or ((values > 0.1) & (values < 0.9)).any():
        raise InputError(f"mask '{path}' has {len(values)} grey values; expected black and white")
    if grey.shape != size:
        raise InputError(f"mask '{path}' has the size {grey.shape}, its image {size}; expected the same")
    return np.asarray(grey > 0.5)
