"""What a plan is made from: sizes, spacings, intensities, structures, and where raters disagree.

One case is in memory at a time, and only cases that are learned from are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset
from mrprism.datasets.split import split_dataset

MOST = 200  # cases that are measured, evenly over those there are
VALUES = 10_000  # intensities of a channel that are kept of a case
DARK = 0.25  # share of pixels at the lowest value from which on they are taken for what lies outside the body


@dataclass(frozen=True)
class Drawn:
    """One structure of one case."""

    raters: int  # who did it
    pixels: float  # a rater's mean
    extent: tuple[int, ...]  # of all masks together: pixels along each axis
    disputed: float  # of what anybody marked: the share that not all who rated marked
    apart: float  # pixels between the outermost and the innermost outline, on average, within a plane


@dataclass(frozen=True)
class Case:
    """One case."""

    space: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    foreground: Float[np.ndarray, "channel n"]  # some intensities of what anybody marked
    dark: float  # share of pixels that have the lowest intensity of all channels
    drawn: tuple[Drawn | None, ...]  # by structure; None: nobody marked anything


@dataclass(frozen=True)
class Survey:
    """A data set's training cases, measured."""

    name: str
    dims: tuple[int, ...]  # of each case
    channels: tuple[str, ...]  # their names; empty: not known
    window: tuple[float, float] | None  # file values that became 0 and 1
    structures: tuple[str, ...]
    raters: int
    there: int  # training cases there are
    cases: tuple[Case, ...]


def survey(
    dataset: Dataset, split_seed: int = 0, *, each: Callable[[int, int], None] | None = None
) -> Survey:
    """Measure the cases that a training with this `split_seed` learns from.

    Args:
        each: Called after each case with how many are done, of how many.

    Raises:
        InputError: A case cannot be read, or there are none to learn from.
    """
    names = split_dataset(dataset, split_seed).train
    picked = [names[i] for i in evenly(len(names), MOST)]
    cases = []
    for done, name in enumerate(picked, 1):
        cases.append(measure(dataset[name]))
        if each:
            each(done, len(picked))
    manifest = dataset.manifest
    windows = {case.window or manifest.window for case in manifest.cases} if manifest else {None}
    return Survey(
        name=dataset.name,
        dims=tuple(len(case.space) for case in cases),
        channels=tuple(manifest.channels) if manifest else (),
        window=windows.pop() if len(windows) == 1 else None,
        structures=dataset.task.structures,
        raters=len(dataset.task.raters),
        there=len(names),
        cases=tuple(cases),
    )


def measure(sample: MultiRaterSample) -> Case:
    """What one case shows."""
    image, masks, rated = sample.picture, sample.masks, sample.rated
    anything = np.zeros(sample.space, bool)
    drawn = []
    for c in range(masks.shape[1]):
        found = _drawn([masks[r, c] for r in np.flatnonzero(rated[:, c])], anything)
        drawn.append(found)
    marked = np.flatnonzero(anything)
    some = evenly(len(marked) or anything.size, VALUES)
    if len(marked):
        some = marked[some]
    values = np.stack([channel.reshape(-1)[some] for channel in image]).astype(np.float32)
    lowest = np.ones(sample.space, bool)
    for channel in image:
        lowest &= channel <= channel.min()
    return Case(sample.space, sample.spacing_mm, values, float(lowest.mean()), tuple(drawn))


def evenly(count: int, most: int) -> np.ndarray:
    """Places of `most` of so many things, evenly spread, or of all."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


def union_and_shared(
    masks: Sequence[Bool[np.ndarray, "*space"]],
) -> tuple[Bool[np.ndarray, "*space"], Bool[np.ndarray, "*space"]]:
    """What anybody marked, and what all did; masks are taken one after the other, to spare memory."""
    union, shared = masks[0].copy(), masks[0].copy()
    for mask in masks[1:]:
        union |= mask
        shared &= mask
    return union, shared


def _drawn(masks: Sequence[Bool[np.ndarray, "*space"]], anything: Bool[np.ndarray, "*space"]) -> Drawn | None:
    """Measure one structure, and mark what is marked in `anything` as well."""
    if not masks:
        return None
    union, shared = union_and_shared(masks)
    anything |= union
    size = int(union.sum())
    if not size:
        return None
    extent = []
    for axis in range(union.ndim):
        along = np.flatnonzero(union.any(axis=tuple(a for a in range(union.ndim) if a != axis)))
        extent.append(int(along[-1] - along[0] + 1))
    disputed = size - int(shared.sum())
    planes = union[None] if union.ndim == 2 else union
    edge = sum(_edge(plane) for plane in planes if plane.any())
    pixels = float(np.mean([int(mask.sum()) for mask in masks]))
    return Drawn(len(masks), pixels, tuple(extent), disputed / size, disputed / max(1, edge))


def _edge(plane: Bool[np.ndarray, "H W"]) -> int:
    """How many marked pixels have a neighbour above, below, left or right that is not marked."""
    padded = np.pad(plane, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return int((plane & ~inner).sum())
