"""PNG, JPEG, WebP and a few relatives, read by Pillow; and what is written as PNG and TIFF."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.content import Raw
from mrprism.images.limits import limit_growth, limit_pixels
from mrprism.images.shown import ON_BLACK, drawn, on_black, palette_labels, turned, upright

_ORIENTATION = 274  # the tag, in EXIF as in TIFF
_SMALL = 1e8  # pixels

_pillow_limit = threading.Lock()


def read_pillow(path: Path, kind: str, mask: bool) -> Raw:
    """Decode what Pillow knows: PNG, JPEG, WebP, BMP, GIF and PPM."""
    import PIL.Image

    with unlimited_pillow():
        image: Any = PIL.Image.open(path)
    with image:
        bands = len(image.getbands())
        limit_pixels(path, (*image.size, bands) if bands > 1 else image.size)
        if kind != "webp" or math.prod(image.size) > _SMALL:  # WebP packs one colour into nothing
            limit_growth(path, image.size)
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"'{path}' holds {image.n_frames} frames; expected one image")
        bits = _png_bits(path) if kind == "png" else 8
        if kind == "bmp" and image.mode == "1":
            return _two_colours(path, image)
        image.load()
        if bits == 16 and image.mode in ("LA", "RGB", "RGBA") and mask:
            raise InputError(
                f"mask '{path}' has channels of 16 bits, which are not read exactly; expected 8 bits, or one channel"
            )
        raw = _of_pillow(image, path, kind, mask, bits)
        return replace(
            raw, pixels=upright(raw.pixels, turn := _orientation(image)), notes=raw.notes + turned(turn)
        )


def _of_pillow(image: Any, path: Path, kind: str, mask: bool, bits: int) -> Raw:
    """The pixels of a decoded picture by our rule, not yet turned."""
    clear = image.info.get("transparency")
    if image.mode == "P":
        colours = np.asarray(image.convert("RGBA" if clear is not None else "RGB"))
        alpha = colours[..., 3] if colours.shape[2] == 4 else None
        if mask:
            palette = np.zeros((256, 3), np.uint8)
            known = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette[: len(known)] = known
            return Raw(palette_labels(np.asarray(image), palette, alpha, path), None, None, kind, path, 255.0)
        pixels, multiplied = np.moveaxis(colours[..., :3], 2, 0), False
    else:
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
            image = image.convert("RGBA" if image.mode in ("PA", "La", "RGBa") else "RGB")
        array = np.asarray(image)
        if array.dtype == np.int32 and kind in ("png", "ppm"):
            array = array.astype(np.uint16)  # older Pillow opens 16 bits as 32
        if image.mode.startswith("I;16"):
            array = array.astype(np.uint16)
        pixels = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
        alpha, multiplied = None, False
        if image.mode in ("LA", "RGBA"):
            pixels, alpha = pixels[:-1], pixels[-1]
        elif clear is not None and not isinstance(
            clear, bytes
        ):  # one value or colour of a PNG is transparent
            what = np.reshape(np.asarray(clear), (-1, 1, 1))
            alpha = np.where((pixels == what).all(axis=0), np.uint8(0), np.uint8(255))
        if bits in (2, 4) and mask and pixels.dtype == np.uint8:
            pixels = pixels // np.uint8(255 // (2**bits - 1))  # Pillow spreads them over 0 to 255
    if alpha is not None:
        if mask:
            pixels = drawn(pixels, alpha, 255.0, path, multiplied=multiplied)
        else:
            pixels = on_black(pixels, alpha, 255.0, multiplied=multiplied)
    notes = (ON_BLACK,) if alpha is not None and (alpha < 255).any() else ()
    return Raw(pixels, None, None, kind, path, _top(pixels.dtype), notes)


def _two_colours(path: Path, image: Any) -> Raw:
    """A BMP of black and white, whose indices Pillow takes for single bits, however many bits they have."""
    with path.open("rb") as file:
        head = file.read(54)
        start, bits, packing = (
            int.from_bytes(head[i : i + n], "little") for i, n in ((10, 4), (28, 2), (30, 4))
        )
        if bits == 1:
            image.load()
            return Raw(np.asarray(image)[None], None, None, "bmp", path, 1.0)
        if bits != 8 or packing != 0 or len(head) < 54:
            raise InputError(
                f"'{path}' is a BMP of two colours in {bits} bits, which is not read; expected PNG"
            )
        width, height = image.size
        file.seek(start)
        rows = np.frombuffer(file.read(height * (width + -width % 4)), np.uint8)
    if len(rows) < height * (width + -width % 4):
        raise InputError(f"'{path}' is cut short: it ends before its {height} rows do")
    pixels = rows.reshape(height, -1)[:, :width] != 0
    upside_down = int.from_bytes(head[22:26], "little", signed=True) > 0
    return Raw((pixels[::-1] if upside_down else pixels)[None], None, None, "bmp", path, 1.0)


def _top(dtype: np.dtype[Any]) -> float | None:
    """The largest value of the types whose images are divided by it."""
    return {"uint8": 255.0, "uint16": 65535.0, "bool": 1.0}.get(dtype.name)


def _png_bits(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] if len(head) == 26 else 8


def _orientation(image: Any) -> int:
    """1 to 8, as the file says; 1 where it says nothing or what cannot be understood, as in viewers."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damage in what a camera wrote beside the pixels is no damage to them
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


@contextmanager
def unlimited_pillow() -> Iterator[None]:
    """Our own limit stands in for Pillow's, which is global and warns instead of refusing."""
    import PIL.Image

    with _pillow_limit:
        before = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def png(path: Path, pixels: np.ndarray) -> bytes:
    """The content of a file of one or three channels (channel, H, W)."""
    import PIL.Image

    if pixels.ndim != 3 or len(pixels) not in (1, 3):
        raise InputError(
            f"cannot write '{path}': PNG holds one or three channels of a plane, "
            f"not shape {pixels.shape}; use .nii.gz or .tif"
        )
    if pixels.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise InputError(f"cannot write '{path}': PNG holds values of 0 to 65535, not {pixels.dtype}")
    plane = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "PNG")
    return buffer.getvalue()


def tiff(pixels: np.ndarray) -> bytes:
    """The content of a file (channel, *space)."""
    import tifffile

    axes = {3: "CYX", 4: "CZYX"}[pixels.ndim]
    data = pixels
    if len(pixels) == 1:
        data, axes = pixels[0], axes[1:]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(data),
        photometric="minisblack",
        compression="zlib",
        metadata={"axes": axes},
    )
    return buffer.getvalue()
