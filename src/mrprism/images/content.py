"""What is read from a file, and how its values become intensities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from mrprism.core.errors import InputError
from mrprism.core.types import Image
from mrprism.images.geometry import Geometry

Window = tuple[float, float]


@dataclass(frozen=True)
class Raw:
    """A file as it was decoded, upright and without transparency (see `images/shown.py`)."""

    pixels: np.ndarray  # (channel, *space)
    spacing_mm: tuple[float, ...] | None
    geometry: Geometry | None
    format: str
    path: Path
    top: (
        float | None
    )  # the largest value its samples can have, which becomes 1; None: intensities are stretched
    notes: tuple[str, ...] = ()  # what was done that is not plain to see


@dataclass(frozen=True)
class FromFile:
    """Values with what their file knows about them."""

    array: np.ndarray
    spacing_mm: tuple[float, ...] | None  # one per axis of `space`; None where the format has none
    geometry: Geometry | None  # NIfTI, NRRD and DICOM
    format: str
    path: Path
    notes: tuple[str, ...] = field(default=(), kw_only=True)  # what was done that is not plain to see


@dataclass(frozen=True)
class ImageFile(FromFile):
    """An image, its intensities in [0, 1]."""

    array: Image
    # what the file holds, where intensities are not its own values divided by the largest
    values: Shaped[np.ndarray, "channel *space"] | None = field(default=None, kw_only=True)
    window: Window | None = field(default=None, kw_only=True)
    top: float | None = field(
        default=None, kw_only=True
    )  # the largest value its samples can have, where that is 1


@dataclass(frozen=True)
class LabelFile(FromFile):
    """A mask or label map, its values as they stand in the file."""

    array: Integer[np.ndarray, "*space"]


@dataclass(frozen=True)
class ValueFile(FromFile):
    """A map of one value per pixel, unscaled."""

    array: Shaped[np.ndarray, "*space"]


@dataclass(frozen=True)
class MaskFile(FromFile):
    """A mask of one structure."""

    array: Bool[np.ndarray, "*space"]


def check_window(window: Window, of: str = "window") -> Window:
    """The window, if it is one.

    Raises:
        InputError: It is not finite, does not rise, or its numbers are too large or too close for 32 bits.
    """
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{of} {low:g} to {high:g} is not finite; expected two numbers, the smaller first")
    if not low < high:
        raise InputError(
            f"{of} {low:g} to {high:g} is in the wrong order; expected two numbers, the smaller first"
        )
    least, most = 1e-30, 1e30
    if max(abs(low), abs(high)) > most or high - low < max(least, 1e-6 * max(abs(low), abs(high))):
        raise InputError(
            f"{of} {low:g} to {high:g} cannot be used; expected numbers below {most:g} that lie apart by "
            "a millionth of the larger at least"
        )
    return low, high


def scale(
    pixels: Shaped[np.ndarray, "channel *space"], path: Path, window: Window | None, top: float | None = None
) -> Image:
    """Intensities to [0, 1] by the package's rule.

    Args:
        path: Where they come from, for the error.
        top: Divide by this number; without it (and a window) they are stretched.

    Raises:
        InputError: There are NaN or infinite values, or the window is none.
    """
    return scaling(pixels, path, window, top)(pixels)


def scaling(
    pixels: Shaped[np.ndarray, "channel *space"], path: Path, window: Window | None, top: float | None = None
) -> Callable[[np.ndarray], Image]:
    """`scale` as a function of any part of these pixels, all channels and whole axes but the first of space.

    Raises:
        InputError: As `scale`.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        wrong = int((~np.isfinite(pixels)).sum())
        raise InputError(f"image '{path}' has {wrong} NaN or infinite pixels; expected finite values")
    if window is not None:
        low, high = check_window(window)
        return lambda part: _windowed(part, low, high)
    if pixels.dtype == np.bool_:
        return lambda part: np.ascontiguousarray(part, dtype=np.float32)
    if top is not None:
        most = np.float32(top)
        return lambda part: np.ascontiguousarray(part.astype(np.float32) / most)
    axes = tuple(range(1, pixels.ndim))
    least = pixels.min(axis=axes, keepdims=True).astype(np.float64)
    with np.errstate(over="ignore"):
        extent = pixels.max(axis=axes, keepdims=True).astype(np.float64) - least
    if not np.isfinite(extent).all():
        raise InputError(f"image '{path}' has values that are too far apart; expected a window")
    extent[extent == 0] = 1
    # single precision is exact enough, and half the memory
    small = pixels.dtype.itemsize <= 2 or (pixels.dtype == np.float32 and extent.max() < 1e30)
    kind = np.float32 if small else np.float64

    def stretched(part: np.ndarray) -> Image:
        values = np.subtract(part, least, dtype=kind, casting="unsafe")
        values /= extent.astype(kind)
        return np.ascontiguousarray(values, dtype=np.float32)

    return stretched


def _windowed(pixels: np.ndarray, low: float, high: float) -> Image:
    # values beyond single precision lie outside any window
    wide = pixels.dtype.kind == "f" and pixels.dtype.itemsize > 4
    single = np.clip(pixels, -1e38, 1e38).astype(np.float32) if wide else pixels.astype(np.float32)
    single -= np.float32(low)
    single /= np.float32(high - low)
    return np.ascontiguousarray(np.clip(single, 0, 1, out=single))
