"""What is read from a file, and how its values become intensities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from mrprism.core.errors import InputError
from mrprism.core.types import Image
from mrprism.images.geometry import Geometry

Window = tuple[float, float]


@dataclass(frozen=True)
class Raw:
    """A file as it was decoded."""

    pixels: np.ndarray
    channel_axis: int | None
    alpha: bool
    spacing_mm: tuple[float, ...] | None
    geometry: Geometry | None
    format: str
    path: Path
    by_type: bool  # scale by the largest value of the type


@dataclass(frozen=True)
class FromFile:
    """Values with what their file knows about them."""

    array: np.ndarray
    spacing_mm: tuple[float, ...] | None  # one per axis of `space`; None where the format has none
    geometry: Geometry | None  # NIfTI, NRRD and DICOM
    format: str
    path: Path


@dataclass(frozen=True)
class ImageFile(FromFile):
    """An image, its intensities in [0, 1]."""

    array: Image


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


def scale(
    pixels: Shaped[np.ndarray, "channel *space"], path: Path, window: Window | None, by_type: bool = False
) -> Image:
    """Intensities to [0, 1] by the package's rule.

    Args:
        path: Where they come from, for the error.
        by_type: Divide by the largest value of the type.

    Raises:
        InputError: There are NaN or infinite values.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        wrong = int((~np.isfinite(pixels)).sum())
        raise InputError(f"image '{path}' has {wrong} NaN or infinite pixels; expected finite values")
    if window is not None:
        low, high = window
        values = (pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return np.ascontiguousarray(np.clip(values, 0, 1, out=values))
    if pixels.dtype == np.bool_:
        return np.ascontiguousarray(pixels, dtype=np.float32)
    if by_type:
        return np.ascontiguousarray(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))
    axes = tuple(range(1, pixels.ndim))
    least = pixels.min(axis=axes, keepdims=True).astype(np.float64)
    extent = pixels.max(axis=axes, keepdims=True).astype(np.float64) - least
    extent[extent == 0] = 1
    # single precision is exact enough, and half the memory
    small = pixels.dtype.itemsize <= 2 or (pixels.dtype == np.float32 and extent.max() < 1e30)
    values = np.subtract(pixels, least, dtype=np.float32 if small else np.float64, casting="unsafe")
    values /= extent.astype(values.dtype)
    return np.ascontiguousarray(values, dtype=np.float32)
