"""The pixel axes of tensors, ``*space``: rows and columns of an image; slices, rows and columns of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def axes(maps: Tensor, lead: int) -> tuple[int, ...]:
    """The pixel axes of maps that have `lead` other axes in front."""
    return tuple(range(lead, maps.ndim))


def aside(values: Tensor, maps: Tensor) -> Tensor:
    """Numbers that hold for all pixels, with as many axes as `maps` has, to be broadcast beside them."""
    return values[(..., *(None,) * (maps.ndim - values.ndim))]


def cropped(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` pixels along the last axes."""
    kept: list[Any] = [slice(n) for n in size]
    return maps[(..., *kept)]


def picked(maps: Tensor, lead: int, index: Sequence[Any]) -> Tensor:
    """What stands at `index` of the axes behind the first `lead`."""
    at: list[Any] = [slice(None)] * lead
    return maps[(*at, *index)]
