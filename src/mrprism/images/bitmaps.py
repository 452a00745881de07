"""PNG, JPEG, TIFF and a few relatives."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.content import Raw
from mrprism.images.limits import limit_growth, limit_pixels

_pillow_limit = threading.Lock()


def read_pillow(path: Path, kind: str, mask: bool) -> Raw:
    """Decode what Pillow knows; of a mask, a palette of colours gives its indices."""
    import PIL.Image

    with _unlimited_pillow():
        image: Any = PIL.Image.open(path)
    with image:
        limit_pixels(path, image.size)
        limit_growth(path, image.size)
        if getattr(image, "n_frames", 1) > 1:
            raise InputError(f"'{path}' holds {image.n_frames} frames; expected one image")
        image.load()
        if image.mode == "P":
            if mask and not _grey_palette(image):
                pixels = np.asarray(image)
                return Raw(pixels, None, False, None, None, kind, path, True)
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "F") and not image.mode.startswith(
            "I;16"
        ):
            image = image.convert("RGB")
        pixels = np.asarray(image)
        alpha = image.mode in ("LA", "RGBA")
    if pixels.dtype == np.int32 and kind == "png":
        pixels = pixels.astype(np.uint16)  # older Pillow opens 16 bit PNG as 32 bit
    by_type = pixels.dtype in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.bool_))
    return Raw(pixels, 2 if pixels.ndim == 3 else None, alpha, None, None, kind, path, by_type)


@contextmanager
def _unlimited_pillow() -> Iterator[None]:
    """Our own limit stands in for Pillow's, which is global and warns instead of refusing."""
    import PIL.Image

    with _pillow_limit:
        before = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def _grey_palette(image: Any) -> bool:
    colours = np.array(image.convert("RGB").getcolors(256), dtype=object)
    return all(r == g == b for _, (r, g, b) in colours)


def read_tiff(path: Path) -> Raw:
    """Decode the first series of a file."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said once, by us
    with tifffile.TiffFile(path) as file:
        seen: set[int] = set()
        for page in file.pages:  # tifffile would follow a circle for ever
            if page.offset in seen:
                raise InputError(f"'{path}' is broken: its pages lead in a circle")
            seen.add(page.offset)
        if not file.series:
            raise InputError(f"'{path}' is broken: it holds no image")
        series = file.series[0]
        limit_pixels(path, series.shape)
        limit_growth(path, series.shape)
        held = path.stat().st_size
        for page in series.pages:
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if ends and max(ends) > held:
                raise InputError(
                    f"'{path}' is cut short: its header asks for {max(ends)} bytes, the file has {held}"
                )
        axes: str = series.axes
        page = series.pages[0]
        alpha = page.samplesperpixel in (2, 4) and "S" in axes
        try:
            pixels = series.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return read_pillow(path, "tiff", mask=False)
        if page.photometric == 0:  # white is zero
            pixels = ~pixels if pixels.dtype == np.bool_ else np.iinfo(pixels.dtype).max - pixels
    keep = [i for i, a in enumerate(axes) if pixels.shape[i] != 1 or a in "YX"]
    axes = "".join(axes[i] for i in keep)
    pixels = pixels.reshape([pixels.shape[i] for i in keep])
    channel = next((i for i, a in enumerate(axes) if a in "SC"), None)
    if pixels.ndim - (channel is not None) not in (2, 3):
        raise InputError(f"'{path}' has axes {axes}; expected an image or a volume, with channels or without")
    by_type = pixels.dtype in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.bool_))
    return Raw(pixels, channel, alpha, None, None, "tiff", path, by_type)


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
