"""Whether a run has seen an image: as a case it learned from, was chosen on, or was tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from mrprism.core.types import Image
from mrprism.datasets import Dataset
from mrprism.datasets.split import SPLITS
from mrprism.learn.settings import RunConfig

LETTERS = 16  # of a mark, 64 bits: that two of 10,000 images share one by chance is a matter of 1 in 10^11


def image_mark(image: Image) -> str:
    """A short hash of an image's shape and intensities (to 1/65535), whatever file they came from."""
    digest = hashlib.sha256(repr(image.shape).encode())
    for channel in image:
        for part in channel if channel.ndim == 3 else (channel,):  # a volume slice by slice, to spare memory
            digest.update(np.rint(np.clip(part, 0, 1) * 65535).astype("<u2").tobytes())
    return digest.hexdigest()[:LETTERS]


def marks_of(dataset: Dataset, names: Iterable[str]) -> dict[str, str]:
    """The mark of each case's image; no mask is read."""

    def marked() -> Iterator[tuple[str, str]]:
        for name in names:
            image = dataset.image(name)
            if image is not None:
                yield name, image_mark(image)

    return dict(marked())


def split_of(config: RunConfig, name: str | None = None, image: Image | None = None) -> str | None:
    """Which split of a run a case belongs to: "train", "val" or "test"; None: the run does not know it.

    The image decides where the run kept marks of its images (from 0.2 on), for cases of two data sets often
    bear one name. A known image under another name is found as well.

    Args:
        name: Of the case; for a file its name without the ending.
        image: With intensities in [0, 1], scaled as the run was trained; None: not at hand.
    """
    sides = {case: part for part in SPLITS for case in getattr(config, part)}
    if image is not None and config.images:
        of_image = {mark: case for case, mark in config.images.items()}
        case = of_image.get(image_mark(image))
        return None if case is None else sides.get(case)
    return None if name is None else sides.get(name)
