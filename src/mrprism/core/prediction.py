"""What every fusion and every method returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mrprism.core.brief import brief
from mrprism.core.notebook import maps_html


@dataclass(frozen=True)
class Prediction:
    """One case as NumPy arrays, or a batch of cases as tensors with B in front.

    Results have names, and what a method does not give is None.
    """

    probability: Any  # (C, *space) the consensus, in [0, 1]
    raters: Any | None = None  # (R, C, *space) chance that the rater marks the pixel
    confidence: Any | None = None  # (R, C, *space) chance that the rater agrees with the consensus
    confusion: Any | None = None  # (R, C, 2, 2) P(drawn | true), indices [true, drawn]
    draws: Any | None = None  # (S, C, *space) sampled segmentations
    steps: tuple[Any, ...] = ()  # the probability of each recurrence, Rec0 first
    ties: Any | None = None  # (C, *space) bool: pixels where the vote was even (fusions only)
    # the outline model's: how far outside the others' outline each rater drew and the standard deviation of the
    # rest, in pixels or mm, (R, C, 2), NaN where unknown; and expected pieces [there, marked], (R, C, 2, 2)
    displaced: Any | None = None
    pieces: Any | None = None
    # (R, C) the chance of agreeing that each rater's mask of the image has when masks are fused: the weight that
    # acts, one number where `confidence` is a map; of a volume the mean over its slices
    weights: Any | None = None
    # (S, C) the chance of each draw, where they are not alike: sums to 1, or is 0 for what cannot be drawn
    draw_weights: Any | None = None
    # (K, C, *space) of level k the chance that more than (k - 1/2) / K of the raters mark the pixel: with K = R at
    # least k of them
    at_least: Any | None = None
    # (C, *space) the probability read as a share of votes, by what validation cases taught; and bool: outlines that
    # lie within, and hold, all raters' masks with a stated probability over patients
    calibrated: Any | None = None
    inner: Any | None = None
    outer: Any | None = None
    # (M, 2, C, *space) the main ways in which draws vary: the outline two deviations to either side; for pictures only
    modes: Any | None = None

    __repr__ = brief

    def _repr_html_(self) -> str:
        return maps_html(repr(self), self.probability)

    def cases(self) -> Iterator[Prediction]:
        """The cases of a batched prediction, one by one, as NumPy arrays."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for index in range(len(self.probability)):
            yield Prediction(**{name: _case(value, index) for name, value in values.items()})


def _case(value: Any, index: int) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_case(item, index) for item in value)
    item = value[index]
    return item if isinstance(item, np.ndarray) else item.detach().cpu().numpy()
