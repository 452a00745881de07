"""Arrays that grow plane by plane in a temporary file instead of in memory.

The files lie in the folder for temporary files (the environment's TMPDIR decides), have no name there, and
are gone when the process ends, however it ends.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images.slicing import Cut


class PlaneFile:
    """Arrays of one shape and type, appended one by one and read back by position."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self._count = shape, dtype, 0
        try:
            self._file = tempfile.TemporaryFile(prefix="mrprism-")  # noqa: SIM115 (closed with this object)
        except OSError as error:
            raise InputError(f"cannot make a temporary file: {error.strerror or error}") from error
        weakref.finalize(self, self._file.close)

    def append(self, plane: np.ndarray) -> int:
        """Write one more array; its position.

        Raises:
            InputError: The disk is full.
        """
        if plane.shape != self.shape:
            raise ValueError(f"expected an array of shape {self.shape}, not {plane.shape}")
        return self.extend(plane[None])

    def extend(self, planes: np.ndarray) -> int:
        """Write several arrays, whatever axes count them; the position of the first.

        Raises:
            InputError: The disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(planes, self.dtype).data)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"cannot write temporary files to {tempfile.gettempdir()}: {error.strerror or error}; "
                "set TMPDIR to a folder with more room"
            ) from error
        first = self._count
        self._count += planes.size // max(1, math.prod(self.shape))
        return first

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.mapped()[index])

    def mapped(self) -> np.ndarray:
        """All of it (position, *shape), mapped from the file; memory is given back with the array."""
        return np.memmap(self._file, self.dtype, "r", shape=(self._count, *self.shape))


class Heap:
    """Arrays of one type and of any shape, one behind the other."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._file, self.dtype = PlaneFile((), dtype), dtype

    def append(self, array: np.ndarray) -> int:
        """Write one more array; where it begins.

        Raises:
            InputError: The disk is full.
        """
        return self._file.extend(array)

    def mapped(self, start: int, shape: tuple[int, ...]) -> np.ndarray:
        """The array that begins there, mapped from the file: only what is looked at is read."""
        whole = self._file.mapped()
        return whole[start : start + math.prod(shape)].reshape(shape)


class Spool:
    """Arrays of one shape and type: in memory while they are few, in a temporary file from then on."""

    def __init__(self, most: int) -> None:
        """
        Args:
            most: Bytes that stay in memory.
        """
        self.most = most
        self._held: list[np.ndarray] = []
        self._file: PlaneFile | None = None

    def append(self, array: np.ndarray) -> int:
        """Keep one more array; its position.

        Raises:
            InputError: The disk for temporary files is full.
        """
        if self._file is not None:
            return self._file.append(array)
        self._held.append(array)
        if len(self._held) * array.nbytes > self.most:
            self._file = PlaneFile(array.shape, array.dtype)
            for each in self._held:
                self._file.append(each)
            self._held.clear()
        return len(self) - 1

    def __len__(self) -> int:
        return len(self._held) if self._file is None else len(self._file)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._held[index] if self._file is None else self._file[index]


class Stack:
    """A map of a volume (*lead, D, H, W), kept slice by slice in a file.

    An index counts along the leading axes and gives an array; `numpy.asarray` reads all of it.
    """

    def __init__(self, first: np.ndarray, cut: Cut) -> None:
        """Begin with the first slice (*lead, row, column)."""
        self.planes, self.cut = PlaneFile(first.shape, first.dtype), cut
        self.append(first)

    def append(self, plane: np.ndarray) -> None:
        """The next slice."""
        self.planes.append(plane)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._whole().shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(self._whole()[index], order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._whole(), dtype=dtype, order="C")

    def _whole(self) -> np.ndarray:
        return self.cut.back(np.moveaxis(self.planes.mapped(), 0, -3))
