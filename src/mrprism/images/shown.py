"""What a viewer shows is what is decoded: the one rule for images, masks and `predict`.

It holds for PNG, JPEG, TIFF, WebP, BMP, GIF and PPM alike, whatever the compression:

- **Orientation** (EXIF, and TIFF's own tag): pixels are turned upright, as every viewer does. A mask drawn on
  the untouched pixels of a turned photograph has another size, and is refused.
- **Transparency** lies on black: what cannot be seen is 0. In a mask of one colour, or of one grey on a
  transparent ground, the shape is the mask, whichever colour it has. Premultiplied colours are taken as they
  stand, others are multiplied. What is transparent everywhere is refused where the colours below differ.
- **Palettes** are applied. In a mask, a palette of greys is applied too; a palette of colours gives its indices, as
  label maps of other tools mean them. Where another index than 0 is black while index 0 has a colour, nobody
  can tell which is the ground: of two indices the black one is, with more the mask is refused.
- **White is zero** (TIFF) is turned round, so that white is the largest value.
- **CMYK** and YCbCr become red, green and blue. Colour profiles (ICC) are ignored: numbers are taken as they stand.
- **Few bits**: samples of 1, 2, 4 or 12 bits are divided by their own largest value in images and kept in masks.
  PNG and packed TIFF with 16 bits in each of several channels are rounded to 8 in images and refused as masks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from mrprism.core.errors import InputError

_BLACK = 0


def upright(
    pixels: Shaped[np.ndarray, "channel *space"], orientation: int
) -> Shaped[np.ndarray, "channel *turned"]:
    """Pixels turned as their file's orientation (1 to 8, as in EXIF and TIFF) says; 1 changes nothing."""
    if orientation in (5, 6, 7, 8):  # rows and columns change places
        pixels = np.swapaxes(pixels, -1, -2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[..., ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[..., ::-1, :]
    return pixels


def turned(orientation: int) -> tuple[str, ...]:
    """What is to be said of a file whose pixels were turned."""
    return (f"it is turned, as its orientation {orientation} says",) if orientation in range(2, 9) else ()


ON_BLACK = "its transparent pixels are taken as black"


def on_black(
    colours: Shaped[np.ndarray, "channel *space"],
    alpha: Shaped[np.ndarray, "*space"],
    top: float,
    *,
    multiplied: bool,
) -> Shaped[np.ndarray, "channel *space"]:
    """An image with its transparency laid on black; its type stays."""
    if multiplied or (alpha == top).all():
        return colours
    seen = colours * (alpha.astype(np.float64) / top)
    return seen.astype(colours.dtype) if colours.dtype.kind == "f" else np.rint(seen).astype(colours.dtype)


def drawn(
    colours: Shaped[np.ndarray, "channel *space"],
    alpha: Shaped[np.ndarray, "*space"],
    top: float,
    path: Path,
    *,
    multiplied: bool,
) -> Shaped[np.ndarray, "seen *space"]:
    """A mask with transparency: its values where they can be seen, or its shape if it has one colour.

    Raises:
        InputError: It is transparent everywhere, and something is drawn below.
    """
    if (alpha == top).all():
        return colours
    seen = alpha > 0
    if not seen.any():
        if any(channel.min() != channel.max() for channel in colours):
            raise InputError(
                f"mask '{path}' is transparent everywhere, though its colours differ; expected marks that can be seen"
            )
        return np.zeros_like(colours[:1])
    soft = bool(((alpha > 0) & (alpha < top)).any())
    shown = [channel[seen] for channel in colours]
    if all((values == values[0]).all() for values in shown) and not seen.all():
        grey = shown[0][0]
        if soft or grey == _BLACK or any(values[0] != grey for values in shown):
            return alpha[None]
        return colours[:1] * seen
    if soft:
        return on_black(colours, alpha, top, multiplied=multiplied)
    return colours * seen


def palette_labels(
    indices: Integer[np.ndarray, "*space"],
    palette: Shaped[np.ndarray, "n 3"],
    alpha: Shaped[np.ndarray, "*space"] | None,
    path: Path,
) -> Shaped[np.ndarray, "1 *space"]:
    """What a mask with a palette means: greys as they are shown, else the indices.

    Args:
        palette: Red, green and blue of each index, 8 bit.
        alpha: 0 to 255; None: nothing is transparent.

    Raises:
        InputError: Which index is the ground cannot be told.
    """
    used = np.unique(indices if alpha is None else indices[alpha > 0])
    colours = palette[used]
    clear = alpha is not None and bool((alpha < 255).any())
    if (colours == colours[:, :1]).all():  # greys
        greys = palette[:, 0][indices][None]
        return drawn(greys, alpha, 255.0, path, multiplied=False) if clear and alpha is not None else greys
    if clear and alpha is not None:
        seen = alpha > 0
        if len(used) == 1:
            return np.asarray(seen * np.uint8(255))[None]
        if 0 in used and colours[0].any():
            raise InputError(
                f"mask '{path}' draws with the index 0 of its palette on a transparent background; expected 0 to be the background"
            )
        return np.asarray(indices * seen)[None]
    black = [int(index) for index in used if not palette[index].any()]
    if black and 0 not in used:
        return np.where(np.isin(indices, black), 0, indices).astype(indices.dtype)[None]
    if black and 0 not in black:
        if len(used) == 2:
            return np.asarray(indices == 0, np.uint8)[None]
        raise InputError(
            f"mask '{path}' has a palette in which index 0 is coloured and index {black[0]} black, so its background is not known; "
            "expected 0 to be the background"
        )
    return indices[None]
