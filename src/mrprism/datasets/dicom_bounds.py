"""Packed DICOM pixels that unpack to more than their header says are refused before they are unpacked."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from mrprism.core.errors import InputError
from mrprism.images.tiff import packbits_size

_RLE = "1.2.840.10008.1.2.5"
_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG's frame headers, and JPEG-LS's
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def bound_pixels(header: Any, path: Path) -> None:
    """Look at every packed frame of a file whose pixels were read.

    Raises:
        InputError: One unpacks to another size than Rows and Columns say.
    """
    from pydicom import encaps

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or "PixelData" not in header:
        return
    rows, columns = int(header.Rows), int(header.Columns)
    frames = max(1, int(header.get("NumberOfFrames") or 1))
    for frame in encaps.generate_frames(header.PixelData, number_of_frames=frames):
        if syntax == _RLE:
            _rle(frame, rows * columns, path)
        elif (size := _size_of(frame)) is not None and size != (rows, columns):
            raise InputError(
                f"'{path}' holds a packed picture of {size[0]} × {size[1]} pixels; its header says {rows} × {columns}"
            )


def _rle(frame: bytes, pixels: int, path: Path) -> None:
    """Segments may hold one byte of each pixel, and one more to be even; a packet is two bytes or more."""
    if len(frame) < 64:
        raise InputError(f"'{path}' is cut short: a packed frame has no header")
    count, *starts = struct.unpack("<16L", frame[:64])
    if not 1 <= count <= 15:
        raise InputError(f"'{path}' is broken: a packed frame has {count} segments; expected 1 to 15")
    ends = [*starts[1:count], len(frame)]
    for start, end in zip(starts[:count], ends, strict=True):
        packed = frame[start:end]
        if len(packed) > 2 * pixels + 128 or packbits_size(packed, pixels + 1) > pixels + 1:
            raise InputError(f"'{path}' unpacks to more than its header says ({pixels} pixels a frame)")


def _size_of(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 picture; None where it does not say."""
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # JPEG 2000, with boxes around it or without
    if start >= 0 and len(frame) >= start + 24:
        width, height, left, top = struct.unpack(">4L", frame[start + 8 : start + 24])
        return height - top, width - left
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _SIZES:
            height, width = struct.unpack(">2H", frame[at + 5 : at + 9])
            return height, width
        at += (
            2
            if marker in _ALONE
            else 1
            if marker == 0xFF
            else 2 + struct.unpack(">H", frame[at + 2 : at + 4])[0]
        )
    return None
