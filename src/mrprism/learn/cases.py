"""Cases to train on: resized to one square size and kept, so that an epoch reads no file of the data set.

Images in memory; volumes as their slices, in temporary files.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.images.planes import PlaneFile
from mrprism.images.slicing import Slicing, cut_volume, slice_of
from mrprism.learn.resize import resize, resize_sample


def training_cases(source: Source, names: Sequence[str], size: int, slicing: Slicing | None) -> Cases:
    """Cases at training size: images in memory, or the slices of volumes in a temporary file."""
    return Cases(source, names, size) if slicing is None else SliceCases(source, names, size, slicing)


@runtime_checkable
class Source(Protocol):
    """Anything that gives a sample by its name, such as a data set."""

    def __getitem__(self, key: str, /) -> MultiRaterSample: ...


@dataclass(frozen=True)
class _Packed:
    """A resized sample in little memory: 16-bit image, one bit a mask pixel."""

    image: np.ndarray
    masks: np.ndarray
    reference: np.ndarray | None
    bare: MultiRaterSample  # all the rest


class Cases(Sequence[MultiRaterSample]):
    """Cases resized to one square size and kept in memory, so that an epoch reads no file.

    Images are held as 16-bit floats (error below 0.0003) and masks as bits: a 256×256 case with seven
    raters and two structures takes 0.5 MB.
    """

    def __init__(self, source: Source, names: Sequence[str], size: int) -> None:
        """Read `names` from `source`, several at a time."""
        self.size = size
        self.names = tuple(names)
        self._packed: list[Any]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            self._packed = list(pool.map(lambda name: _pack(resize_sample(source[name], size)), self.names))

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, key: int) -> MultiRaterSample: ...
    @overload
    def __getitem__(self, key: slice) -> list[MultiRaterSample]: ...
    def __getitem__(self, key: int | slice) -> MultiRaterSample | list[MultiRaterSample]:
        if isinstance(key, slice):
            return [self._unpack(packed) for packed in self._packed[key]]
        return self._unpack(self._packed[key])

    def first(self, count: int) -> Cases:
        """The first ones."""
        few = copy.copy(self)
        few.names, few._packed = self.names[:count], self._packed[:count]
        return few

    def lacking(self, need: Literal["reference", "diagnosis"]) -> list[str]:
        """The names of those that have no reference, or no diagnosis."""
        if need == "reference":
            return [packed.bare.name for packed in self._packed if packed.reference is None]
        return [packed.bare.name for packed in self._packed if packed.bare.diagnosis is None]

    def fingerprint(self) -> str:
        """SHA-256 over names, pixels, masks and references: changes when the data do."""
        digest = hashlib.sha256()
        for packed in self._packed:
            digest.update(repr((packed.bare.name, packed.image.shape, packed.masks.shape)).encode())
            for array in (packed.image, packed.masks, packed.bare.rated, packed.reference):
                digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _unpack(self, packed: _Packed) -> MultiRaterSample:
        return replace(
            packed.bare,
            image=packed.image.astype(np.float32),
            masks=unpack_bits(packed.masks, self.size),
            reference=None if packed.reference is None else unpack_bits(packed.reference, self.size),
        )


@dataclass(frozen=True)
class _Slice:
    """Where a slice's parts stand in the files."""

    images: tuple[int, ...]  # it and its neighbours
    masks: int
    reference: int | None
    bare: MultiRaterSample  # all the rest


class SliceCases(Cases):
    """Every slice of some volumes, each a case, resized to one square size.

    One volume is in memory at a time, and only while it is read: compressed files can only be read from
    front to back, and intensities are scaled by the range of the whole volume. Slices are then kept in
    temporary files as `Cases` keeps images in memory; a slice that is also a neighbour is kept once.
    A volume that no rater was asked about is left out; a slice on which the raters saw nothing is not,
    unless the slicing says so.
    """

    def __init__(self, source: Source, names: Sequence[str], size: int, slicing: Slicing) -> None:
        """Read the volumes `names` from `source`, one after the other.

        Raises:
            InputError: A case is no volume, or no slice is left.
        """
        self.size, self.slicing = size, slicing
        self._digest = hashlib.sha256(repr(slicing).encode())
        self._packed: list[_Slice] = []
        self._files: dict[str, PlaneFile] = {}
        for name in names:
            self._read(source[name])
        if names and not self._packed:
            why = "nobody drew anything on" if slicing.drawn_only else "no rater was asked about"
            raise InputError(f"no slice is left to use: {why} {', '.join(names[:3])}")
        self.names = tuple(packed.bare.name for packed in self._packed)

    def fingerprint(self) -> str:
        """SHA-256 over names, pixels, masks and references: changes when the data do."""
        return self._digest.hexdigest()

    def _read(self, sample: MultiRaterSample) -> None:
        if not sample.rated.any():
            return
        volume = cut_volume(sample, self.slicing.cut(sample))
        depth = volume.space[0]
        kept = np.ones(depth, bool)
        if self.slicing.drawn_only:
            kept &= volume.masks.any(axis=(0, 1, 3, 4))
        images: dict[int, int] = {}
        for index in np.flatnonzero(kept).tolist():
            near = self.slicing.near(index, depth)
            for at in near:
                if at not in images:
                    images[at] = self._append("image", _resized_image(volume, at, self.size))
            one = resize_sample(slice_of(volume, index), self.size)
            masks = self._append("masks", pack_bits(one.masks))
            reference = None
            if one.reference is not None:
                reference = self._append("reference", pack_bits(one.reference))
            self._digest.update(repr((one.name, one.rated.tolist())).encode())
            self._packed.append(_Slice(tuple(images[at] for at in near), masks, reference, bare(one)))

    def _append(self, kind: str, array: np.ndarray) -> int:
        self._digest.update(kind.encode() + np.ascontiguousarray(array).data)
        if kind not in self._files:
            self._files[kind] = PlaneFile(array.shape, array.dtype)
        return self._files[kind].append(array)

    def _unpack(self, packed: _Slice) -> MultiRaterSample:  # type: ignore[override]
        def bits(kind: str, at: int) -> np.ndarray:
            return unpack_bits(self._files[kind][at], self.size)

        images = [self._files["image"][at] for at in packed.images]
        return replace(
            packed.bare,
            image=np.concatenate(images).astype(np.float32),
            masks=bits("masks", packed.masks),
            reference=None if packed.reference is None else bits("reference", packed.reference),
        )


def bare(sample: MultiRaterSample) -> MultiRaterSample:
    """What a sample says besides its pixels."""
    no_image, no_masks = np.zeros((0, 0, 0), np.float32), np.zeros((*sample.rated.shape, 0, 0), bool)
    return replace(sample, image=no_image, masks=no_masks, reference=None, readings=())


def pack_bits(masks: np.ndarray) -> np.ndarray:
    """Eight pixels of a row to a byte."""
    return np.packbits(masks, axis=-1)


def unpack_bits(packed: np.ndarray, width: int) -> np.ndarray:
    """Rows of `width` pixels, as they were packed."""
    return np.unpackbits(packed, axis=-1, count=width).view(bool)


def _pack(sample: MultiRaterSample) -> _Packed:
    reference = None if sample.reference is None else pack_bits(sample.reference)
    return _Packed(sample.picture.astype(np.float16), pack_bits(sample.masks), reference, bare(sample))


def _resized_image(volume: MultiRaterSample, index: int, size: int) -> np.ndarray:
    image = torch.from_numpy(np.ascontiguousarray(volume.picture[:, index]))
    return resize(image, size, size).clamp(0, 1).numpy().astype(np.float16)
