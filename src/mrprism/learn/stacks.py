"""What is said of a volume, put together slice by slice in temporary files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from mrprism.core.prediction import Prediction
from mrprism.images.planes import Stack
from mrprism.images.slicing import Cut

MAPS = (
    "probability",
    "raters",
    "confidence",
    "draws",
    "steps",
    "at_least",
    "calibrated",
    "inner",
    "outer",
)  # fields of a Prediction with pixel axes


def stack_planes(planes: Iterable[Prediction], cut: Cut) -> Prediction:
    """One prediction of all slices; what is said of each slice as a whole becomes their mean."""
    maps: dict[str, Stack] = {}
    weights, chances = [], []
    for plane in planes:
        for name, array in _named_maps(plane):
            if name in maps:
                maps[name].append(array)
            else:
                maps[name] = Stack(array, cut)
        if plane.weights is not None:
            weights.append(plane.weights)
        if plane.draw_weights is not None:
            chances.append(plane.draw_weights)
    steps = tuple(stack for name, stack in maps.items() if name.startswith("steps"))
    return Prediction(
        **{name: maps.get(name) for name in MAPS if name != "steps"},
        steps=steps,
        weights=np.mean(weights, axis=0) if weights else None,
        draw_weights=np.mean(chances, axis=0) if chances else None,
    )


def joined(planes: Iterator[Prediction], dims: int) -> Prediction:
    """The one slice of an image; of a volume all its slices, from front to back."""
    return next(planes) if dims == 2 else stack_planes(planes, Cut((0, 1, 2), (1, 1, 1)))


def _named_maps(prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
    """The maps there are, by name; recurrences are steps0, steps1, ..."""
    for name in MAPS:
        value = getattr(prediction, name)
        if isinstance(value, tuple):
            yield from ((f"{name}{number}", step) for number, step in enumerate(value))
        elif value is not None:
            yield name, value
