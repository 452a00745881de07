"""What the page shows of a slice, as PNG: the image through a window, and maps of numbers laid over it."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image

from mrprism.images import Window

CLEAR = 0.004  # of a share or probability: below, the image shows through untouched


def image_png(values: np.ndarray, window: Window) -> bytes:
    """(1 or 3, H, W) values; the window's first becomes black and its second white."""
    low, high = window
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    pixels = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return _png(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))


def mask_png(mask: np.ndarray) -> bytes:
    """(H, W) bool; white inside."""
    return _png(np.where(mask, 255, 0).astype(np.uint8))


def heat_png(
    values: np.ndarray,
    colours: str,
    low: float = 0.0,
    high: float = 1.0,
    opacity: tuple[float, float] = (0.5, 0.85),
) -> bytes:
    """(H, W) values between ``low`` and ``high`` in one of matplotlib's colour maps; clear where they are 0.

    Args:
        opacity: At the low end and at the high one.
    """
    scaled = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    pixels = _table(colours)[(scaled * 255 + 0.5).astype(np.uint8)]
    pixels[..., 3] = 255 * np.interp(scaled, [0, 1], opacity)
    pixels[values < CLEAR] = 0
    return _png(pixels)


@cache
def _table(colours: str) -> np.ndarray:
    from matplotlib import colormaps

    return np.asarray(colormaps[colours](np.arange(256), bytes=True))


def _png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG", compress_level=1)
    return content.getvalue()
