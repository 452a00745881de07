"""Cases to train on: resized to one square size and kept, so that an epoch reads no file of the data set.

Images in memory, and in temporary files where they are many; volumes as their slices, in temporary files.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol, overload, runtime_checkable

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.images.planes import PlaneFile, Spool
from mrprism.images.slicing import Slicing, slices_of
from mrprism.learn.known_cases import image_mark
from mrprism.learn.resize import resize_image, resize_sample

MEMORY = 256 << 20  # bytes of images, and as many of masks, that stay in memory


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
    mark: str  # of its image at full size


@dataclass(frozen=True)
class Kept:
    """Where a sample's parts stand."""

    images: tuple[int, ...]  # of a slice: it and its neighbours
    masks: int
    reference: int | None
    bare: MultiRaterSample  # all the rest


class Cases(Sequence[MultiRaterSample]):
    """Cases resized to one square size and kept, so that an epoch reads no file of the data set.

    Images are held as 16-bit floats (error below 0.0003) and masks as bits: a 256×256 case with seven
    raters and two structures takes 0.5 MB. What is more than `MEMORY` lies in temporary files.
    """

    def __init__(self, source: Source, names: Sequence[str], size: int) -> None:
        """Read `names` from `source`, several at a time."""
        self.size = size
        self.names = tuple(names)
        self.marks: dict[str, str] = {}  # case: `image_mark`
        self._digest = hashlib.sha256()
        self._spools: dict[str, Spool | PlaneFile] = {}
        self._kept: list[Kept] = []
        for packed in _ahead(lambda name: _pack(source[name], size), self.names):
            self._keep(packed)

    def _keep(self, packed: _Packed) -> None:
        self._digest.update(repr((packed.bare.name, packed.image.shape, packed.masks.shape)).encode())
        for array in (packed.image, packed.masks, packed.bare.rated, packed.reference):
            self._digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        places = [
            None if array is None else self._spools.setdefault(kind, Spool(MEMORY)).append(array)
            for kind, array in (
                ("image", packed.image),
                ("masks", packed.masks),
                ("reference", packed.reference),
            )
        ]
        image, masks, reference = places
        assert image is not None
        assert masks is not None
        self._kept.append(Kept((image,), masks, reference, packed.bare))
        self.marks[packed.bare.name] = packed.mark

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, key: int) -> MultiRaterSample: ...
    @overload
    def __getitem__(self, key: slice) -> list[MultiRaterSample]: ...
    def __getitem__(self, key: int | slice) -> MultiRaterSample | list[MultiRaterSample]:
        if isinstance(key, slice):
            return [self._unpack(kept) for kept in self._kept[key]]
        return self._unpack(self._kept[key])

    def drawn(self, index: int, seed: int, epoch: int) -> MultiRaterSample:
        """What an item is in an epoch: here always the same."""
        return self[index]

    def place(self, index: int) -> int:
        """Which case an item is of."""
        return index

    def first(self, count: int) -> Cases:
        """The first ones."""
        few = copy.copy(self)
        few.names, few._kept = self.names[:count], self._kept[:count]
        return few

    def every_slice(self) -> Cases:
        """These cases as a network meets them when it predicts; of volumes also the slices that training leaves out."""
        return self

    def lacking(self, need: Literal["reference", "diagnosis"]) -> list[str]:
        """The names of those that have no reference, or no diagnosis."""
        if need == "reference":
            return [kept.bare.name for kept in self._kept if kept.reference is None]
        return [kept.bare.name for kept in self._kept if kept.bare.diagnosis is None]

    def fingerprint(self) -> str:
        """SHA-256 over names, pixels, masks and references: changes when the data do."""
        return self._digest.hexdigest()

    def _unpack(self, kept: Kept) -> MultiRaterSample:
        def bits(kind: str, at: int) -> np.ndarray:
            return unpack_bits(self._spools[kind][at], self.size)

        images = [self._spools["image"][at] for at in kept.images]
        return replace(
            kept.bare,
            image=np.concatenate(images).astype(np.float32),
            masks=bits("masks", kept.masks),
            reference=None if kept.reference is None else bits("reference", kept.reference),
        )


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
        self._volumes = source, tuple(names)
        self.marks = {}
        self._digest = hashlib.sha256(repr(slicing).encode())
        self._kept, self._spools = [], {}
        for name in names:
            self._read(source[name])
        if names and not self._kept:
            why = "nobody drew anything on" if slicing.drawn_only else "no rater was asked about"
            raise InputError(f"no slice is left to use: {why} {', '.join(names[:3])}")
        self.names = tuple(kept.bare.name for kept in self._kept)

    def every_slice(self) -> Cases:
        if not self.slicing.drawn_only:
            return self
        return SliceCases(*self._volumes, self.size, replace(self.slicing, drawn_only=False))

    def _read(self, sample: MultiRaterSample) -> None:
        self.marks[sample.name] = image_mark(sample.picture)
        if not sample.rated.any():
            return
        images: dict[int, int] = {}
        for cut in slices_of(sample, self.slicing):
            for at, plane in cut.planes.items():
                if at not in images:
                    images[at] = self._append("image", resize_image(plane, self.size).astype(np.float16))
            one = resize_sample(cut.sample, self.size)
            masks = self._append("masks", pack_bits(one.masks))
            reference = None
            if one.reference is not None:
                reference = self._append("reference", pack_bits(one.reference))
            self._digest.update(repr((one.name, one.rated.tolist())).encode())
            self._kept.append(Kept(tuple(images[at] for at in cut.near), masks, reference, bare(one)))

    def _append(self, kind: str, array: np.ndarray) -> int:
        self._digest.update(kind.encode() + np.ascontiguousarray(array).data)
        if kind not in self._spools:
            self._spools[kind] = PlaneFile(array.shape, array.dtype)
        return self._spools[kind].append(array)


def _ahead(pack: Callable[[str], _Packed], names: Sequence[str]) -> Iterator[_Packed]:
    """What is read of each case, in order, a few cases ahead and never more: the rest waits on the disk."""
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[_Packed]] = deque()
        for name in names:
            under_way.append(pool.submit(pack, name))
            if len(under_way) > 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


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


def _pack(full: MultiRaterSample, size: int) -> _Packed:
    sample = resize_sample(full, size)
    reference = None if sample.reference is None else pack_bits(sample.reference)
    image = sample.picture.astype(np.float16)
    return _Packed(image, pack_bits(sample.masks), reference, bare(sample), image_mark(full.picture))
