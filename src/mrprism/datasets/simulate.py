"""Data sets outlined by simulated raters: phantoms, or any images that have a reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.dataset import Dataset, FileSample, open_dataset
from mrprism.datasets.manifest import files
from mrprism.datasets.overlay import lay_raters
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.datasets.write import write_dataset

# Of every ten cases in turn; four cases have all three, and a longer data set begins with a shorter one.
SPLITS = ("train", "test", "train", "val", "train", "test", "train", "train", "test", "train")


def phantom_dataset(
    scenario: str = "crowd",
    *,
    size: int = 128,
    cases: int = 300,
    seed: int = 0,
    dims: int = 2,
    over: Dataset | str | Path | None = None,
    out: str | Path | None = None,
) -> Dataset:
    """Draw fundus-like images with a disc and a cup, or volumes with an organ and a lesion, outlined by simulated raters.

    The truth is known, and the reference. Six cases in ten are for training, one for
    validation, three for testing.

    Args:
        scenario: The group of raters: a key of `mrprism.datasets.raters.SCENARIOS`, such as "crowd" or "sparse-40-3".
        size: Height and width in pixels.
        seed: The same seed draws the same data set.
        dims: 2, or 3 for volumes: a third as many slices, each three times as thick as a pixel is wide.
        over: Draw no images: lay the raters over the references of this data set, which keeps its
            names, patients and split.
        out: Folder to make. None: the data set stays in memory.

    Raises:
        InputError: No such scenario, a case of `over` without a reference, `dims` with `over`, or `out` exists.
    """
    size, cases = given.whole(size, "size", -(10**9)), given.whole(cases, "cases", -(10**9))
    seed = given.whole(seed, "seed", -(10**9))
    if over is None:
        task = phantom_task(scenario, dims)
        name = f"{scenario} phantom" if dims == 2 else f"{scenario} phantom of volumes"
        drawn = phantom(scenario, size=size, cases=cases, seed=seed, dims=dims)
        samples: Iterable[MultiRaterSample] = _split(drawn)
        channels = None
        image_format: Literal["png", "tiff"] = "png"
    elif dims != 2:
        raise InputError(
            "raters laid over a data set draw in the dimensions its images have: leave --dims out"
        )
    else:
        source = over if isinstance(over, Dataset) else open_dataset(over)
        task, samples = lay_raters(_without_votes(source), source.task, scenario, seed=seed)
        name = f"{source.name} under {scenario} raters"
        channels = None if source.manifest is None else tuple(source.manifest.channels)
        image_format = _format(source)
    if out is None:
        return Dataset.from_samples(name, task, samples)
    folder = write_dataset(
        samples,
        out,
        name=name,
        task=task,
        channels=channels,
        image_format=image_format,
        description=f"Outlined by simulated raters: scenario {scenario}, seed {seed}.",
    )
    return open_dataset(folder)


def _split(samples: Iterable[MultiRaterSample]) -> Iterator[MultiRaterSample]:
    for number, sample in enumerate(samples):
        yield replace(sample, split=SPLITS[number % len(SPLITS)])


def _without_votes(source: Dataset) -> Iterator[MultiRaterSample]:
    """The cases without the votes of the real raters, who are replaced."""
    for sample in source:
        yield replace(sample, votes=None, voters=None) if isinstance(sample, FileSample) else sample


def _format(source: Dataset) -> Literal["png", "tiff"]:
    """PNG, unless images were TIFF, whose finer grey values PNG would round."""
    manifest = source.manifest
    first = "" if manifest is None else next(files(manifest.cases[0])).path
    return "tiff" if first.lower().endswith((".tif", ".tiff")) else "png"
