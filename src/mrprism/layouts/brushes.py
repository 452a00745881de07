"""Label Studio's brush marks: run lengths packed bit by bit, and bitmasks that are a PNG in an address."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.layouts.fields import entry, shown


def run_lengths(value: dict[str, Any], where: str) -> bytes:
    """The packed bytes of a brush mark."""
    listed = entry(value, "rle", list, where)
    try:
        return bytes(listed)
    except (TypeError, ValueError):
        raise InputError(f"'rle' of {where} holds something else than whole numbers from 0 to 255") from None


def unpack_bitmask(url: str, size: tuple[int, int], where: str) -> np.ndarray:
    """A PNG in a `data:` address, marked where it is not transparent."""
    import PIL.Image

    head, _, content = url.partition(",")
    if not head.startswith("data:image/png") or not head.endswith("base64"):
        raise InputError(f"{where} holds '{shown(head)}'; expected a PNG as data:image/png;base64")
    try:
        with PIL.Image.open(io.BytesIO(base64.b64decode(content, validate=True)), formats=("PNG",)) as image:
            if image.size != (size[1], size[0]):
                found = f"{image.size[1]} × {image.size[0]}"
                raise InputError(f"{where} is {found} for a picture of {size[0]} × {size[1]}")
            if image.mode not in ("RGBA", "LA") and "transparency" not in image.info:
                raise InputError(f"{where} has no transparent pixels, so marked pixels cannot be found")
            return np.asarray(image.convert("RGBA"))[..., 3] > 0
    except (binascii.Error, OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{where} holds a broken PNG: {error}") from error


def unpack_brush(packed: bytes | list[int], size: tuple[int, int]) -> np.ndarray:
    """Label Studio's run lengths: red, green, blue and alpha of every pixel; alpha above 0 is marked."""
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    if count != size[0] * size[1] * 4:
        raise InputError(f"a brush mark holds {count} values; expected {size[0]} × {size[1]} × 4")
    sizes = [bits.take(4) + 1 for _ in range(4)]
    values = np.empty(count, dtype=np.uint32)
    written = 0
    while written < count:
        repeated = bits.take(1)
        run = bits.take(sizes[bits.take(2)]) + 1
        if written + run > count:
            raise InputError(f"a brush mark runs past its {count} values")
        values[written : written + run] = (
            bits.take(word) if repeated else [bits.take(word) for _ in range(run)]
        )
        written += run
    return np.asarray(values.reshape(*size, 4)[..., 3] > 0)


class _Bits:
    """Numbers of any width out of bytes, highest bit first."""

    def __init__(self, packed: bytes | list[int]) -> None:
        self.text = "".join(f"{byte:08b}" for byte in bytes(packed))
        self.place = 0

    def take(self, count: int) -> int:
        piece = self.text[self.place : self.place + count]
        if len(piece) < count:
            raise InputError("a brush mark is cut short")
        self.place += count
        return int(piece, 2)
