"""Cases as a plan wants them: brought to its spacing, normalised, and drawn from patch by patch.

One case is in memory at a time, and only while it is read. At the planned spacing it lies in temporary files, 2 bytes a
voxel and channel and one bit a mask, and only the patches that are drawn are read again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from jaxtyping import Bool, Float

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.core.seeds import generator_of
from mrprism.images.planes import Heap
from mrprism.learn.cases import Cases, Kept, Source, bare, pack_bits
from mrprism.learn.known_cases import image_mark
from mrprism.learn.plan import Plan
from mrprism.learn.resize import resize_volume, resize_volume_mask
from mrprism.learn.survey import DARK, evenly, union_and_shared

MOST_VOXELS = 1 << 31  # of a case at the planned spacing
PLACES = 500  # of a structure, and of where raters disagree on it, that are kept of a case
Space = tuple[int, int, int]


@dataclass(frozen=True)
class _Unit(Kept):
    """A volume, an image as a volume of one slice, or a slice of a volume, at the planned spacing."""

    channels: int
    space: Space
    # (n, 3) voxels that somebody marked, and that not all who rated marked, of each structure of which there are any
    drawn: tuple[np.ndarray, ...]
    disputed: tuple[np.ndarray, ...]


class PlannedCases(Cases):
    """Cases at the planned spacing; each item is a patch of one.

    There are `plan.patches_per_case` items of each case, and where the plan has two dimensions of each slice of a
    volume. An item by its number is always the same patch, as is wanted to choose an epoch by; `drawn` gives that of
    an epoch.
    """

    def __init__(self, source: Source, names: Sequence[str], plan: Plan) -> None:
        """Read `names` from `source`, one after the other.

        Raises:
            InputError: A case does not fit the plan.
        """
        self.plan, self.marks, self.patch = plan, {}, patch_of(plan)
        self._digest = hashlib.sha256(plan.model_dump_json().encode())
        self._images, self._bits = Heap(np.dtype(np.float16)), Heap(np.dtype(np.uint8))
        self.units: list[_Unit] = []
        for name in names:
            self._read(source[name])
        if names and not self.units:
            raise InputError(f"no case is left to use: no rater was asked about {', '.join(names[:3])}")
        self.names = tuple(unit.bare.name for unit in self.units)
        self._kept = [*self.units] * plan.patches_per_case

    def _read(self, sample: MultiRaterSample) -> None:
        self.marks[sample.name] = image_mark(sample.picture)
        if not sample.rated.any():
            return
        space = planned_space(self.plan, sample)
        image = planned_image(self.plan, sample, space)
        masks = planned_masks(sample.masks, 2, space)
        reference = None if sample.reference is None else planned_masks(sample.reference, 1, space)
        about = replace(bare(sample), spacing_mm=None)
        if self.plan.dims == 3 or len(sample.space) == 2:
            self._add(about, image, masks, reference)
            return
        for at in range(space[0]):  # slices are cases by themselves
            one = slice(at, at + 1)
            named = replace(about, name=f"{sample.name}, slice {at}")
            near = None if reference is None else reference[:, one]
            self._add(named, image[:, one], masks[:, :, one], near)

    def _add(
        self, about: MultiRaterSample, image: np.ndarray, masks: np.ndarray, reference: np.ndarray | None
    ) -> None:
        half, bits = image.astype(np.float16), pack_bits(masks)
        space = (masks.shape[2], masks.shape[3], masks.shape[4])
        self._digest.update(repr((about.name, half.shape, about.rated.tolist())).encode())
        arrays = [half, bits] if reference is None else [half, bits, pack_bits(reference)]
        for array in arrays:
            self._digest.update(np.ascontiguousarray(array).data)
        first, rest = self._images.append(half), [self._bits.append(array) for array in arrays[1:]]
        places = [
            _places([masks[r, c] for r in np.flatnonzero(about.rated[:, c])]) for c in range(masks.shape[1])
        ]
        unit = _Unit(
            images=(first,),
            masks=rest[0],
            reference=rest[1] if len(rest) > 1 else None,
            bare=about,
            channels=len(half),
            space=space,
            drawn=tuple(drawn for drawn, _ in places if drawn is not None),
            disputed=tuple(disputed for _, disputed in places if disputed is not None),
        )
        self.units.append(unit)

    @overload
    def __getitem__(self, key: int) -> MultiRaterSample: ...
    @overload
    def __getitem__(self, key: slice) -> list[MultiRaterSample]: ...
    def __getitem__(self, key: int | slice) -> MultiRaterSample | list[MultiRaterSample]:
        if isinstance(key, slice):
            return [self.drawn(index, 0, 0) for index in range(*key.indices(len(self)))]
        return self.drawn(range(len(self))[key], 0, 0)

    def drawn(self, index: int, seed: int, epoch: int) -> MultiRaterSample:
        """The patch that an item is in an epoch: a function of its arguments and nothing else."""
        unit = self.units[self.place(index)]
        return self._cut(unit, _start(unit, self.plan, self.patch, generator_of(seed, "patch", epoch, index)))

    def place(self, index: int) -> int:
        """Which case an item is of."""
        return index % len(self.units)

    def whole(self, unit: int) -> tuple[MultiRaterSample, np.ndarray, np.ndarray]:
        """A case's facts, its image (channel, D, H, W), mapped from the file, and its masks (R, C, D, H, W)."""
        of = self.units[unit]
        box = tuple(slice(0, n) for n in of.space)
        return of.bare, self._image(of), self._masks(of.masks, of.bare.rated.shape, of, box)

    def _image(self, unit: _Unit) -> np.ndarray:
        return self._images.mapped(unit.images[0], (unit.channels, *unit.space))

    def _masks(
        self, place: int, lead: tuple[int, ...], unit: _Unit, box: tuple[slice, ...]
    ) -> Bool[np.ndarray, "... d h w"]:
        """A part of some masks; eight voxels of a row are one byte."""
        depth, height, width = unit.space
        bits = self._bits.mapped(place, (*lead, depth, height, -(-width // 8)))
        across = box[2]
        first = across.start // 8
        part = bits[..., box[0], box[1], first : -(-across.stop // 8)]
        spread = np.unpackbits(part, axis=-1, count=across.stop - 8 * first)
        return spread[..., across.start - 8 * first :].view(bool)

    def _cut(self, unit: _Unit, start: Sequence[int]) -> MultiRaterSample:
        box, around = [], []
        for s, p, n in zip(start, self.patch, unit.space, strict=True):
            box.append(slice(max(0, s), min(n, s + p)))
            around.append((max(0, -s), max(0, s + p - n)))
        raters, structures = unit.bare.rated.shape
        inside = (box[0], box[1], box[2])

        def padded(array: np.ndarray) -> np.ndarray:
            whole = np.pad(array, [(0, 0)] * (array.ndim - 3) + around)
            return whole[..., 0, :, :] if self.plan.dims == 2 else whole

        image = self._image(unit)[:, box[0], box[1], box[2]].astype(np.float32)
        reference = None
        if unit.reference is not None:
            reference = padded(self._masks(unit.reference, (structures,), unit, inside))
        masks = padded(self._masks(unit.masks, (raters, structures), unit, inside))
        return replace(unit.bare, image=padded(image), masks=masks, reference=reference)


def patch_of(plan: Plan) -> Space:
    """The patch as a volume; of two dimensions it has one slice."""
    return _deep(plan.patch)


def planned_space(plan: Plan, sample: MultiRaterSample) -> Space:
    """How many voxels a case has at the planned spacing; of two dimensions slices stay as many as they are.

    Raises:
        InputError: The plan is for volumes and this is an image, it has no millimetres, or would become too large.
    """
    if plan.dims == 3 and len(sample.space) != 3:
        raise InputError(
            f"case '{sample.name}' is an image and the plan is for volumes; expected a plan with dims = 2"
        )
    factors = np.ones(len(sample.space))
    if plan.spacing_mm is not None:
        if sample.spacing_mm is None:
            raise InputError(
                f"case '{sample.name}' does not say how large its pixels are, and the plan brings cases to "
                "spacing_mm; expected millimetres, or a plan with long_side, or with neither"
            )
        factors[-plan.dims :] = np.asarray(sample.spacing_mm[-plan.dims :]) / np.asarray(plan.spacing_mm)
    elif plan.long_side is not None:
        factors[-plan.dims :] = plan.long_side / max(sample.space[-plan.dims :])
    space = [max(1, round(n * float(f))) for n, f in zip(sample.space, factors, strict=True)]
    if math.prod(space) > MOST_VOXELS:
        raise InputError(
            f"case '{sample.name}' would have {' × '.join(map(str, space))} pixels as the plan wants it; expected "
            f"{MOST_VOXELS} at most: make spacing_mm larger, or long_side smaller"
        )
    return _deep(space)


def planned_image(plan: Plan, sample: MultiRaterSample, space: Space) -> Float[np.ndarray, "channel D H W"]:
    """A case's image at a size, its intensities normalised.

    Raises:
        InputError: The plan normalises other channels than these.
    """
    image = sample.picture
    if plan.channels and len(plan.channels) != len(image):
        raise InputError(
            f"case '{sample.name}' has {len(image)} channels, the plan normalises {len(plan.channels)}; expected one "
            "[[channels]] for each"
        )
    planned = np.empty((len(image), *space), np.float32)
    for number, channel in enumerate(image):
        deep = torch.from_numpy(np.ascontiguousarray(channel.reshape(1, *_deep(channel.shape))))
        planned[number] = resize_volume(deep, space)[0].clamp(0, 1).numpy()
        if plan.normalise == "foreground":
            of = plan.channels[number]
            np.clip(planned[number], of.low, of.high, out=planned[number])
            planned[number] -= np.float32(of.mean)
            planned[number] /= np.float32(of.deviation)
        elif plan.normalise == "case":
            mean, deviation = _moments(planned[number])
            planned[number] -= np.float32(mean)
            planned[number] /= np.float32(deviation)
    return planned


def _moments(channel: Float[np.ndarray, "D H W"]) -> tuple[float, float]:
    """Mean and standard deviation; without what is at the lowest value, where that is much: it lies outside the body."""
    lowest = channel <= channel.min()
    inside = channel[~lowest] if DARK < lowest.mean() < 1 else channel
    return float(inside.mean(dtype=np.float64)), max(float(inside.std(dtype=np.float64)), 1e-3)


def planned_masks(
    masks: Bool[np.ndarray, "*lead_and_space"], lead: int, space: Space
) -> Bool[np.ndarray, "*lead D H W"]:
    """Masks with `lead` axes before their space at a size, one after the other: as numbers they would fill the memory."""
    flat = masks.reshape(-1, *_deep(masks.shape[lead:]))
    planned = np.empty((len(flat), *space), bool)
    for number, mask in enumerate(flat):
        planned[number] = resize_volume_mask(torch.from_numpy(np.ascontiguousarray(mask)), space).numpy()
    return planned.reshape(*masks.shape[:lead], *space)


def _deep(space: Sequence[int]) -> Space:
    """An image is a volume of one slice."""
    depth, height, width = space if len(space) == 3 else (1, *space)
    return depth, height, width


def _places(masks: Sequence[Bool[np.ndarray, "D H W"]]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Some of the voxels that somebody marked, and of those that not all marked; None: there are none."""
    if not masks:
        return None, None
    union, shared = union_and_shared(masks)
    disputed = union & ~shared
    return _evenly(union), _evenly(disputed)


def _evenly(marked: Bool[np.ndarray, "D H W"]) -> np.ndarray | None:
    found = np.flatnonzero(marked)
    if not len(found):
        return None
    some = found[evenly(len(found), PLACES)]
    return np.stack(np.unravel_index(some, marked.shape), axis=1).astype(np.int32)


def _start(unit: _Unit, plan: Plan, patch: Space, draw: np.random.Generator) -> list[int]:
    """Where a patch begins; below 0 where the case is smaller than the patch, and then it lies in its middle.

    A place that somebody marked, or that is disputed, lies in the middle half of the patch.
    """
    chance = draw.random()
    among = unit.disputed if chance < plan.disputed else unit.drawn
    centre: Sequence[int] | None = None
    if chance < plan.disputed + plan.drawn and among:  # each structure as often as the others
        places = among[draw.integers(len(among))]
        centre = places[draw.integers(len(places))].tolist()
    start = []
    for axis, (n, p) in enumerate(zip(unit.space, patch, strict=True)):
        if n <= p:
            start.append(-((p - n) // 2))
        elif centre is None:
            start.append(int(draw.integers(0, n - p + 1)))
        else:
            away = int(draw.integers(-(p // 4), p // 4 + 1))
            start.append(min(max(centre[axis] - p // 2 + away, 0), n - p))
    return start
