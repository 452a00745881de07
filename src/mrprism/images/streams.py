"""NIfTI volumes read front to back and never held."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.images.grids import reordering
from mrprism.images.limits import exhaust
from mrprism.images.nifti import place
from mrprism.images.reading import WHOLE


class NiftiStream:
    """A NIfTI file of one volume that is read front to back, a block at a time.

    It stands for an array (x, y, z): it has a shape and is sliced, each slice further on in the file than
    the last one, or from the start again.
    """

    order = "F"

    def __init__(self, path: Path) -> None:
        import nibabel

        if not plain_file(path).is_file():
            raise InputError(f"file '{path}' does not exist")
        try:
            image: Any = nibabel.load(path)
            self.stored = np.dtype(image.header.get_data_dtype())
            shape = tuple(int(n) for n in image.shape)
            offset = int(image.dataobj.offset)
            slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
            self.geometry, self.spacing_mm, _ = place(path, image.header)
        except InputError:
            raise
        except Exception as error:  # decoders raise what they like on broken files
            raise InputError(f"'{path}' is broken or not a NIfTI file: {error}") from error
        if self.stored.names is not None:
            raise InputError(
                f"mask '{path}' holds red, green and blue in one value; expected one number a voxel, such as one of the three"
            )
        if self.stored.kind not in "iuf":
            raise InputError(f"mask '{path}' holds {self.stored} values; expected whole numbers")
        if any(n != 1 for n in shape[3:]):
            raise InputError(f"mask '{path}' has the shape {shape}; expected a volume of one structure")
        self.path, self.shape, self.offset = path, shape[:3], offset
        self.slope, self.intercept = slope, intercept
        with path.open("rb") as file:
            self.packed = file.read(2) == b"\x1f\x8b"
        self.file: Any = None
        self.position = 0

    def __getitem__(self, where: tuple[slice, ...]) -> NDArray[Any]:
        start = math.prod(self.shape)
        strides = [math.prod(self.shape[:axis]) for axis in range(len(self.shape))]
        start = sum(s.start * stride for s, stride in zip(where, strides, strict=True))
        shape = tuple(s.stop - s.start for s in where)
        values = np.frombuffer(self._bytes(start, math.prod(shape)), self.stored)
        return self._meaning(values).reshape(shape, order="F")

    def _meaning(self, values: NDArray[Any]) -> NDArray[Any]:
        """What stored values stand for."""
        if (self.slope, self.intercept) != (1.0, 0.0):
            return np.asarray(values * self.slope + self.intercept)
        return values

    def _bytes(self, start: int, count: int) -> bytes:
        size = self.stored.itemsize
        try:
            if self.file is None or start < self.position:
                self.close()
                self.file = gzip.GzipFile(self.path) if self.packed else self.path.open("rb")
            self.file.seek(self.offset + start * size)
            content: bytes = self.file.read(count * size)
            self.position = start + count
            if len(content) == count * size and self.position == math.prod(self.shape):
                exhaust(self.file, self.path)  # only at the end gzip compares its checksum
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"'{self.path}' is broken or cut short: {error}") from error
        if len(content) < count * size:
            raise InputError(f"'{self.path}' is cut short: it ends before its {self.shape} voxels do")
        return content

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class NiftiMask(NiftiStream):
    """A mask, read as true and false; the one value besides 0 may be any."""

    dtype = np.dtype(bool)
    value: float | None = None  # the one besides 0, once seen

    def _meaning(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        values = super()._meaning(values)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"mask '{self.path}' has NaN or infinite voxels; expected whole numbers")
        marked = np.abs(values) > WHOLE if values.dtype.kind == "f" else values != 0
        if marked.any():
            if self.value is None:
                self.value = float(values[marked.argmax()])
                if not abs(self.value - round(self.value)) <= WHOLE:
                    raise InputError(f"mask '{self.path}' holds {self.value:g}, which is not a whole number")
            same = (
                values == self.value if values.dtype.kind != "f" else np.abs(values - self.value) <= 2 * WHOLE
            )
            odd = marked & ~same
            if odd.any():
                raise InputError(
                    f"mask '{self.path}' holds the values {self.value:g} and {float(values[odd.argmax()]):g} "
                    "besides 0; expected one value for the structure"
                )
        return np.asarray(marked)


def same_order(streams: Sequence[NiftiStream]) -> bool:
    """Whether all keep the same voxels in the same order; False: the same in another order.

    Raises:
        InputError: They do not have the same voxels.
    """
    first, ordered = streams[0], True
    for other in streams[1:]:
        difference = first.geometry.differs(other.geometry)
        if (other.shape != first.shape or difference) and reordering(other.geometry, first.geometry):
            ordered = False
            continue
        if other.shape != first.shape:
            raise InputError(
                f"masks differ in shape: '{first.path}' has {first.shape}, '{other.path}' has {other.shape}"
            )
        if difference is not None:
            raise InputError(f"masks '{first.path}' and '{other.path}' lie on different grids: {difference}")
    return ordered
