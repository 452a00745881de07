"""TIFF files.

tifffile reads the structure, and the pixels that are stored plain or deflated; Pillow (libtiff) those packed
otherwise, whatever else is installed. Either gives raw samples; what they mean is settled here, so that one picture
reads the same with every compression.
"""

from __future__ import annotations

import logging
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.bitmaps import unlimited_pillow
from mrprism.images.content import Raw
from mrprism.images.limits import limit_growth, limit_pixels
from mrprism.images.shown import drawn, on_black, palette_labels, turned, upright

_PLAIN, _DEFLATE, _PACKBITS = (1,), (8, 32946), (32773,)  # compressions
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5  # photometric interpretations
_READ = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK)
_MULTIPLIED, _ALPHA, _UNSAID = 1, 2, 0  # extra samples
_FILE_NAME = re.compile(r"""FileName\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_PIECE = 1 << 20


def read_tiff(path: Path, mask: bool = False) -> Raw:
    """Decode a file of one image or one volume.

    Raises:
        InputError: It is broken, names other files, holds images of several sizes, or unpacks to more than its
            header says.
    """
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is said once, by us
    # no file beside this one is opened, whatever its texts say
    with tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as file:
        seen: set[int] = set()
        for page in file.pages:  # tifffile would follow a circle for ever
            if page.offset in seen:
                raise InputError(f"'{path}' is broken: its pages lead in a circle")
            seen.add(page.offset)
        _alone(path, file)
        series = _one_series(path, file)
        limit_pixels(path, series.shape)
        limit_growth(path, series.shape)
        pages = list(series.pages)
        if any(page is None for page in pages):
            raise InputError(f"'{path}' lacks planes that its header names; expected all of them")
        held = path.stat().st_size
        for page in pages:
            ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if ends and max(ends) > held:
                raise InputError(
                    f"'{path}' is cut short: its header asks for {max(ends)} bytes, the file has {held}"
                )
        key = pages[0].keyframe
        photometric, compression = int(key.photometric), int(key.compression)
        axes: str = series.axes
        plain = compression in (*_PLAIN, *_DEFLATE, *_PACKBITS)
        if plain and photometric in _READ:
            _bound(path, file, pages)
            try:
                pixels = np.asarray(series.asarray())
                inverted, straight = photometric == _WHITE_IS_ZERO, False
            except (ValueError, NotImplementedError) as error:
                if "imagecodecs" not in str(
                    error
                ):  # that unpacks what tifffile itself cannot, such as 12 bits
                    raise
                plain = False
        if not plain or photometric not in _READ:
            pixels, axes, inverted, straight = _with_pillow(path, key, pages, series, mask)
        keep = [i for i, a in enumerate(axes) if pixels.shape[i] != 1 or a in "YX"]
        axes = "".join(axes[i] for i in keep)
        pixels = pixels.reshape([pixels.shape[i] for i in keep])
        listed = [i for i, a in enumerate(axes) if a in "SC"]
        if pixels.ndim - bool(listed) not in (2, 3):
            raise InputError(
                f"'{path}' has axes {axes}; expected an image or a volume, with channels or without"
            )
        pixels = np.moveaxis(pixels, listed[0], 0) if listed else pixels[None]
        sampled = bool(listed) and axes[listed[0]] == "S"
        pixels, top = _meaning(path, pixels, key, mask, sampled=sampled, inverted=inverted, straight=straight)
        turn = _orientation(key)
        return Raw(upright(pixels, turn), None, None, "tiff", path, top, turned(turn))


def _alone(path: Path, file: Any) -> None:
    """Refuse a file whose OME-XML says that its planes lie in others."""
    text = file.ome_metadata if file.is_ome else None
    names = {first or second for first, second in _FILE_NAME.findall(text or "")}
    if len(names) > 1 or any("/" in name or "\\" in name for name in names):
        some = ", ".join(f"'{name}'" for name in sorted(names)[:3])
        raise InputError(
            f"'{path}' keeps its planes in several files or elsewhere ({some}); expected one file that holds all of them"
        )


def _one_series(path: Path, file: Any) -> Any:
    """The one image of a file; smaller versions of it (thumbnails, pyramids) do not count."""
    if not file.series:
        raise InputError(f"'{path}' is broken: it holds no image")
    first, *others = file.series
    others += first.levels[1:]  # tifffile takes any page of half the size for a smaller version
    for other in others:
        small = other.keyframe
        if not (small.is_reduced or small.is_subifd):
            one, two = (" × ".join(map(str, part.shape)) for part in (first, other))
            raise InputError(
                f"'{path}' holds {1 + len(others)} images, of {one} and {two} pixels; expected one"
            )
    return first


def _bound(path: Path, file: Any, pages: list[Any]) -> None:
    """Refuse strips and tiles that unpack to more than the header says, before any is unpacked whole."""
    handle = file.filehandle
    for page in pages:
        key = page.keyframe
        kind = int(key.compression)
        if kind in _PLAIN:
            continue
        most = math.prod(key.chunks) * max(1, -(-int(key.bitspersample) // 8)) + 64
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            handle.seek(start)
            size = (_inflated if kind in _DEFLATE else _unpacked)(handle, count, most)
            if size > most:
                raise InputError(f"'{path}' unpacks to more than its header says ({most} bytes a strip)")


def _inflated(handle: Any, count: int, most: int) -> int:
    """How many bytes a deflated strip gives, counted up to ``most`` and never kept."""
    unpack, size = zlib.decompressobj(), 0
    while count > 0 and size <= most and not unpack.eof:
        piece = handle.read(min(count, _PIECE))
        if not piece:
            break
        count -= len(piece)
        while piece and size <= most:
            size += len(unpack.decompress(piece, _PIECE))
            piece = unpack.unconsumed_tail
    return size


def _unpacked(handle: Any, count: int, most: int) -> int:
    """How many bytes a strip in PackBits gives, counted up to ``most``."""
    return packbits_size(handle.read(count), most)


def packbits_size(packed: bytes, most: int) -> int:
    """How many bytes PackBits data give, counted until they are more than ``most``."""
    at, size = 0, 0
    while at < len(packed) and size <= most:
        code = packed[at]
        if code < 128:
            size += code + 1
            at += code + 2
        else:
            size += 257 - code if code > 128 else 0
            at += 2 if code > 128 else 1
    return size


def _with_pillow(
    path: Path, key: Any, pages: list[Any], series: Any, mask: bool
) -> tuple[np.ndarray, str, bool, bool]:
    """Pixels in the order of the file's pages, their axes, whether white is still zero, and colours not multiplied."""
    import PIL.Image

    several = int(key.samplesperpixel) > 1
    if several and int(key.bitspersample) > 8 and mask:
        raise InputError(
            f"mask '{path}' has packed channels of {key.bitspersample} bits, which are not read exactly; "
            "expected deflate or no compression, or one channel"
        )
    planes, straight = [], False
    try:
        with unlimited_pillow():
            image: Any = PIL.Image.open(path)
        with image:
            for page in pages:
                image.seek(int(page.index if not isinstance(page.index, tuple) else page.index[0]))
                if image.mode in ("YCbCr", "LAB", "HSV"):
                    image = image.convert("RGB")
                straight = image.mode == "RGBA"
                planes.append(_untouched(image, key))
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        packed = getattr(key.compression, "name", key.compression)
        raise InputError(
            f"'{path}' is broken, or packed ({packed}) in a way that is not read for its kind of pixels: {error}; "
            "expected no compression, or deflate"
        ) from error
    axes = series.axes.replace("S", "") + ("S" if planes[0].ndim == 3 else "")
    outer = [n for n, a in zip(series.shape, series.axes, strict=True) if a not in "YXS"]
    pixels = np.stack(planes)
    if math.prod(outer) != len(planes):
        raise InputError(f"'{path}' has {len(planes)} planes; expected {math.prod(outer)}")
    inverted = (
        pixels.dtype == np.uint16 and int(key.photometric) == _WHITE_IS_ZERO
    )  # Pillow turns the smaller ones
    return pixels.reshape(*outer, *planes[0].shape), axes, inverted, straight


def _untouched(image: Any, key: Any) -> np.ndarray:
    """A page as an array in the file's own orientation: Pillow turns TIFF by itself."""
    image.load()
    array = np.asarray(image)
    if image.mode.startswith("I;16"):
        array = array.astype(np.uint16)
    bits = int(key.bitspersample)
    if bits in (2, 4) and image.mode == "L":
        array = array // np.uint8(255 // (2**bits - 1))
    turn = _orientation(key)
    if image.getexif().get(274, 1) == turn:
        return array
    back = {6: 8, 8: 6}.get(turn, turn)
    lead = np.moveaxis(array, 2, 0) if array.ndim == 3 else array[None]
    lead = upright(lead, back)
    return np.moveaxis(lead, 0, 2) if array.ndim == 3 else lead[0]


def _meaning(
    path: Path, pixels: np.ndarray, key: Any, mask: bool, *, sampled: bool, inverted: bool, straight: bool
) -> tuple[np.ndarray, float | None]:
    """Samples (channel, *space) to what they show, and the largest value they can have."""
    photometric, bits = int(key.photometric), min(int(key.bitspersample), 8 * pixels.dtype.itemsize)
    top = float(2**bits - 1) if pixels.dtype.kind in "ub" and bits <= 16 else None
    if inverted:
        if pixels.dtype.kind not in "ub":
            raise InputError(
                f"'{path}' says that white is zero in {pixels.dtype} values; expected whole numbers"
            )
        pixels = (
            ~pixels
            if pixels.dtype == np.bool_
            else (2**bits - 1 - pixels.astype(np.uint64)).astype(pixels.dtype)
        )
    if photometric == _PALETTE and key.colormap is not None:
        palette = np.zeros((2**bits, 3), np.uint8)
        known = np.moveaxis(np.asarray(key.colormap), 0, 1)[: 2**bits]
        palette[: len(known)] = known >> 8 if int(known.max(initial=0)) > 255 else known
        if len(pixels) != 1:
            raise InputError(f"'{path}' has a palette and {len(pixels)} channels; expected one")
        if mask:
            return palette_labels(pixels[0], palette, None, path), 255.0
        return np.moveaxis(palette[pixels[0]], -1, 0), 255.0
    if not sampled:
        return pixels, top
    colours = {_RGB: 3, _CMYK: 4}.get(photometric, 1)
    if key.samplesperpixel != len(pixels):  # Pillow has made colours of it
        colours = min(len(pixels), 3)
    extra = [int(e) for e in key.extrasamples or ()]
    kind = extra[0] if len(pixels) == colours + 1 and extra else None
    if photometric == _RGB and kind == _UNSAID:
        kind = _MULTIPLIED  # as libtiff takes it, and with it most viewers
    alpha = None
    if kind in (_ALPHA, _MULTIPLIED):
        pixels, alpha = pixels[:-1], pixels[-1]
    if photometric == _CMYK and len(pixels) == 4:
        full = pixels.dtype.type(top or 1)
        light = (full - pixels[:3].astype(np.float64)) * (full - pixels[3].astype(np.float64)) / float(full)
        pixels = np.rint(light).astype(pixels.dtype)
    if alpha is not None:
        full = top or 1.0
        lay = {"multiplied": kind == _MULTIPLIED and not straight}
        pixels = drawn(pixels, alpha, full, path, **lay) if mask else on_black(pixels, alpha, full, **lay)
    return pixels, top


def _orientation(key: Any) -> int:
    tag = key.tags.get(274)
    value = tag.value if tag is not None else 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1
