"""A data set in memory, kept on disk for processes that need to read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.dataset import Dataset, open_dataset
from mrprism.datasets.write import write_dataset


def keep_dataset(dataset: Dataset, folder: Path) -> Dataset:
    """Write a data set with every value of its images, or open the one that was kept before.

    Raises:
        InputError: The folder keeps other cases.
    """
    if folder.is_dir():
        kept = open_dataset(folder)
        if kept.task != dataset.task or kept.names != dataset.names or not _equal(dataset, kept):
            raise InputError(
                f"'{folder}' keeps other cases than those of '{dataset.name}'; expected a new folder"
            )
        return kept
    manifest = dataset.manifest
    channels = None if manifest is None else tuple(manifest.channels)
    write_dataset(
        (dataset[n] for n in range(len(dataset))),
        folder,
        name=dataset.name,
        task=dataset.task,
        channels=channels,
        image_format="tiff",  # holds every value, as PNG does not
    )
    return open_dataset(folder)


def _equal(one: Dataset, other: Dataset) -> bool:
    return all(_same(one[n], other[n]) for n in range(len(one)))


def _same(one: MultiRaterSample, other: MultiRaterSample) -> bool:
    arrays = ("image", "masks", "rated", "reference")
    facts = ("name", "group", "split", "diagnosis")
    return all(getattr(one, fact) == getattr(other, fact) for fact in facts) and all(
        np.array_equal(getattr(one, array), getattr(other, array)) for array in arrays
    )
