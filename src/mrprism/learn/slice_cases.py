"""Volumes as training cases: their slices, resized, kept in a temporary file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.images.planes import PlaneFile
from mrprism.images.slicing import Slicing, cut_volume, slice_of
from mrprism.learn.loading import Cases, Source, bare, pack_bits, resize, resize_sample, unpack_bits


def training_cases(source: Source, names: Sequence[str], size: int, slicing: Slicing | None) -> Cases:
    """Cases at training size: images in memory, or the slices of volumes in a temporary file."""
    return Cases(source, names, size) if slicing is None else SliceCases(source, names, size, slicing)


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


def _resized_image(volume: MultiRaterSample, index: int, size: int) -> np.ndarray:
    image = torch.from_numpy(np.ascontiguousarray(volume.picture[:, index]))
    return resize(image, size, size).clamp(0, 1).numpy().astype(np.float16)
