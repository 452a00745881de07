"""DRIVE: retinal vessels, outlined twice on the 20 test images and once on the 20 for training.

`{training,test}/{images,1st_manual,2nd_manual}`; the folder `mask` is the field of view and nobody's
drawing. Masks are black and white after their palette, not always 0 and 255.

Source: Staal et al., IEEE TMI 23(4), 2004, doi:10.1109/TMI.2004.825627.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import matching, needed, subfolder
from mrprism.images import read_image
from mrprism.layouts.source import Source

TASK = Task(3, ("vessels",), ("1st manual", "2nd manual"))


def read(source: Path) -> Source:
    """Read the folder that holds `training` and `test` (one of them is enough)."""
    parts = [(split, subfolder(source, name)) for split, name in (("train", "training"), ("test", "test"))]
    if all(folder is None for _, folder in parts):
        raise InputError(f"folder '{source}' has neither 'training' nor 'test'; expected DRIVE's layout")
    return Source("drive", TASK, _samples([(s, f) for s, f in parts if f]))


def _samples(parts: list[tuple[str, Path]]) -> Iterator[MultiRaterSample]:
    for split, folder in parts:
        drawn: dict[tuple[str, int], Path] = {}
        for rater, name in enumerate(("1st_manual", "2nd_manual")):
            where = subfolder(folder, name)
            for match, path in matching(where, rf"(\d+)_manual{rater + 1}\..+") if where else []:
                drawn[match[1], rater] = path
        for match, path in matching(needed(folder, "images"), r"(\d+)_(?:training|test)\..+"):
            image = read_image(path).array
            masks = np.zeros((2, 1, *image.shape[1:]), dtype=bool)
            rated = np.zeros((2, 1), dtype=bool)
            for rater in range(2):
                if (match[1], rater) in drawn:
                    masks[rater, 0] = _black_and_white(drawn[match[1], rater], image.shape[1:])
                    rated[rater] = True
            yield MultiRaterSample(match[0].rsplit(".", 1)[0], image, masks, rated, split=split)


def _black_and_white(path: Path, size: tuple[int, ...]) -> np.ndarray:
    grey = read_image(path).array.mean(axis=0)
    values = np.unique(grey)
    if len(values) > 2 or ((values > 0.1) & (values < 0.9)).any():
        raise InputError(f"mask '{path}' has {len(values)} grey values; expected black and white")
    if grey.shape != size:
        raise InputError(f"mask '{path}' has the size {grey.shape}, its image {size}; expected the same")
    return np.asarray(grey > 0.5)
