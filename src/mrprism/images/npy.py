"""NumPy files (.npy): one array, never an object.

Axes are (H, W) or (D, H, W), and (H, W, 3) or (H, W, 4) of 8 bits for colours, the fourth of them transparency.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.content import Raw
from mrprism.images.limits import limit_pixels
from mrprism.images.shown import drawn, on_black

_LONGEST = 10_000  # bytes of a header


def read_npy(path: Path, mask: bool = False) -> Raw:
    """Decode a file.

    Raises:
        InputError: It is broken, cut short, too large, or holds anything but numbers.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran, dtype = read(file, max_header_size=_LONGEST)
        except Exception as error:  # NumPy parses a header as Python text
            raise InputError(f"'{path}' is broken or not a NumPy file: no header that can be read") from error
        if dtype.kind not in "biuf":
            raise InputError(f"'{path}' holds {dtype} values; expected whole numbers or floats")
        if not 2 <= len(shape) <= 4 or min(shape) < 1:
            raise InputError(f"'{path}' has the shape {shape}; expected an image or a volume")
        limit_pixels(path, shape)
        needed, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if needed != held:
            what = "is cut short" if held < needed else "is broken"
            raise InputError(f"'{path}' {what}: its header asks for {needed} bytes, the file has {held}")
        array = np.frombuffer(file.read(needed), dtype).reshape(shape, order="F" if fortran else "C")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    top = {"uint8": 255.0, "bool": 1.0}.get(array.dtype.name)
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        colours, alpha = np.moveaxis(array[..., :3], 2, 0), array[..., 3] if array.shape[2] == 4 else None
        if alpha is not None:
            lay = drawn if mask else None
            colours = (
                lay(colours, alpha, 255.0, path, multiplied=False)
                if lay
                else on_black(colours, alpha, 255.0, multiplied=False)
            )
        return Raw(colours, None, None, "npy", path, top)
    kept = [n for axis, n in enumerate(array.shape) if n != 1 or axis >= array.ndim - 2]
    if array.shape[-1] == 1 and len(kept) > 2:  # one channel, last
        kept = kept[:-1]
    if len(kept) > 3:
        raise InputError(f"'{path}' has the shape {shape}; expected (H, W), (D, H, W) or (H, W, 3)")
    return Raw(array.reshape(kept)[None], None, None, "npy", path, top)
