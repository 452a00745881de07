"""From samples to batches: split by patient, resize, keep in memory, augment, collate.

Everything random here is a function of a seed, the epoch and the case's position, never of what was
drawn before, so a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.learn.batch import Batch

Augment = Literal["full", "light", "none"]
SPLITS = ("train", "val", "test")


@runtime_checkable
class Source(Protocol):
    """Anything that gives a sample by its name, such as a data set."""

    def __getitem__(self, key: str, /) -> MultiRaterSample: ...


@dataclass(frozen=True)
class Split:
    """Which cases are learned from, chosen on, and tested on, by name."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __getitem__(self, part: str) -> tuple[str, ...]:
        if part not in SPLITS:
            raise InputError(f"there is no split '{part}'; known: {', '.join(SPLITS)}")
        names: tuple[str, ...] = getattr(self, part)
        return names


def split_cases(
    names: Sequence[str],
    groups: Sequence[str | None],
    splits: Sequence[str | None],
    *,
    seed: int = 0,
    val: float = 0.15,
    test: float = 0.2,
) -> Split:
    """Divide cases so that no patient stands on two sides.

    What the data set fixes is kept. A part it does not fix, validation or test, is drawn from what
    would otherwise be trained on, patient by patient, until it holds its share of those cases.

    Args:
        names, groups, splits: One entry a case; a group of None is a patient of its own.
        seed: Decides the draw, together with the groups' names and not their order.
        val, test: Shares of the training cases, where they have to be drawn.

    Raises:
        InputError: A patient is fixed on two sides, or there are too few patients to divide.
    """
    patient = {name: name if group is None else group for name, group in zip(names, groups, strict=True)}
    side: dict[str, str] = {}
    for name, fixed in zip(names, splits, strict=True):
        if fixed is not None and side.setdefault(patient[name], fixed) != fixed:
            raise InputError(
                f"group '{patient[name]}' has cases in '{side[patient[name]]}' and in '{fixed}' "
                f"(case '{name}'): a patient must stay on one side of the split"
            )
    cases = {person: [n for n in names if patient[n] == person] for person in sorted(set(patient.values()))}
    parts: dict[str, set[str]] = {part: {p for p in cases if side.get(p, "train") == part} for part in SPLITS}
    share = {"test": test, "val": val}
    missing = [part for part in share if not parts[part]]
    if len(parts["train"]) <= len(missing):
        raise InputError(
            f"{len(parts['train'])} patients cannot be divided into {' and '.join(['train', *missing])}: "
            f"at least {len(missing) + 1} are needed (a case without group is a patient of its own)"
        )
    total = sum(len(cases[p]) for p in parts["train"])
    for part in missing:
        order = _generator(seed, f"split {part}").permutation(np.array(sorted(parts["train"]), dtype=object))
        wanted, taken = share[part] * total, 0
        spare = len(parts["train"]) - (2 if part == "test" and "val" in missing else 1)
        for person in order[:spare]:
            if taken and taken + len(cases[person]) / 2 > wanted:
                break
            parts["train"].remove(person)
            parts[part].add(person)
            taken += len(cases[person])
    return Split(*(tuple(n for n in names if patient[n] in parts[part]) for part in SPLITS))


def resize(maps: Float[Tensor, "N H W"], height: int, width: int) -> Float[Tensor, "N height width"]:
    """Bilinear, antialiased when shrinking, pixel centres kept; unchanged when the size is right."""
    if maps.shape[-2:] == (height, width):
        return maps
    return functional.interpolate(
        maps[None], (height, width), mode="bilinear", align_corners=False, antialias=True
    )[0]


def resize_masks(masks: Bool[Tensor, "N H W"], height: int, width: int) -> Bool[Tensor, "N height width"]:
    """A new pixel is marked where more than half of what it stands for was marked.

    The footprint is that of `resize`, so masks stay on their image, and nested structures stay nested.
    """
    if masks.shape[-2:] == (height, width):
        return masks
    # one at a time: raters times structures of a large image as floats would fill the memory
    rows = [resize(mask[None].float(), height, width) > 0.5 + 1e-5 for mask in masks]
    return torch.cat(rows) if rows else masks.new_zeros((0, height, width))


def resize_sample(sample: MultiRaterSample, size: int) -> MultiRaterSample:
    """The sample stretched to `size` × `size` pixels; spacing is forgotten."""
    if len(sample.space) != 2:
        raise InputError(
            f"case '{sample.name}' is a volume of shape {sample.space}, and networks here take "
            "images: train on its slices by --slices axial, coronal or sagittal (or z, y, x)"
        )
    raters, structures, *space = sample.masks.shape
    image = resize(torch.from_numpy(np.ascontiguousarray(sample.picture)), size, size).clamp(0, 1)
    flat = torch.from_numpy(np.ascontiguousarray(sample.masks)).reshape(raters * structures, *space)
    masks = resize_masks(flat, size, size).reshape(raters, structures, size, size)
    reference = None
    if sample.reference is not None:
        reference = resize_masks(torch.from_numpy(np.ascontiguousarray(sample.reference)), size, size).numpy()
    return replace(
        sample, image=image.numpy(), masks=masks.numpy(), reference=reference, spacing_mm=None, readings=()
    )


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


def collate(
    samples: Sequence[MultiRaterSample],
    *,
    index: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Stack samples of one size; masks travel to the device as bits of one byte and become floats there."""
    some_reference = any(sample.reference is not None for sample in samples)
    reference = None
    if some_reference:
        empty = np.zeros(samples[0].masks.shape[1:], bool)
        drawn = _stack([empty if s.reference is None else s.reference for s in samples], device).float()
        absent = torch.tensor([s.reference is None for s in samples], device=drawn.device)
        reference = drawn.masked_fill(absent[:, None, None, None], math.nan)
    rated = _stack([s.rated for s in samples], device)
    masks = _stack([s.masks for s in samples], device).float() * rated[..., None, None]
    diagnosis = [-1 if s.diagnosis is None else s.diagnosis for s in samples]
    return Batch(
        names=tuple(s.name for s in samples),
        image=_stack([s.picture for s in samples], device).float(),
        masks=masks,
        rated=rated,
        reference=reference,
        diagnosis=torch.tensor(diagnosis, dtype=torch.int64, device=device),
        index=None if index is None else torch.tensor(list(index), dtype=torch.int64, device=device),
    )


@dataclass(frozen=True)
class Change:
    """One random change of a case: where each new pixel looks, and how brightness moves."""

    look: tuple[tuple[float, float, float], tuple[float, float, float]]  # new to old, x and y in [-1, 1]
    contrast: float
    brightness: float


def draw_change(augment: Augment, seed: int, epoch: int, index: int) -> Change:
    """What happens to case `index` in `epoch`: a function of its arguments and nothing else.

    "light" turns by up to 15°, scales by up to 10 %, shifts by up to 3 % of the size, and changes
    contrast by up to 20 % and brightness by up to 0.1; "full" also flips left-right and up-down.
    """
    draw = _generator(seed, "augment", epoch, index)
    turn, scale = math.radians(draw.uniform(-15, 15)), 1 / draw.uniform(0.9, 1.1)
    shift_x, shift_y = draw.uniform(-0.06, 0.06, size=2)
    contrast, brightness = draw.uniform(0.8, 1.2), draw.uniform(-0.1, 0.1)
    flip_x, flip_y = draw.choice([-1.0, 1.0], size=2) if augment == "full" else (1.0, 1.0)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    look = ((flip_x * cos, -sin * flip_x, float(shift_x)), (flip_y * sin, cos * flip_y, float(shift_y)))
    return Change(look, contrast, brightness)


def apply_changes(batch: Batch, changes: Sequence[Change]) -> Batch:
    """The batch with case b changed by ``changes[b]``: image, masks and reference alike.

    What comes into view from outside is the mirror image. Masks follow the rule of `resize_masks`.
    """
    assert batch.image is not None
    assert batch.masks is not None
    device = batch.image.device
    look = torch.tensor([change.look for change in changes], dtype=torch.float32, device=device)
    grid = functional.affine_grid(look, list(batch.image.shape), align_corners=False)
    contrast = torch.tensor([c.contrast for c in changes], device=device)[:, None, None, None]
    brightness = torch.tensor([c.brightness for c in changes], device=device)[:, None, None, None]
    image = _look(batch.image, grid)
    mean = image.mean((1, 2, 3), keepdim=True)
    image = ((image - mean) * contrast + mean + brightness).clamp(0, 1)
    masks = (_look(batch.masks.flatten(1, 2), grid) > 0.5).float().reshape(batch.masks.shape)
    reference = batch.reference
    if reference is not None:
        absent = reference.isnan()
        reference = (_look(reference.nan_to_num(0.0), grid) > 0.5).float().masked_fill(absent, math.nan)
    return replace(batch, image=image, masks=masks, reference=reference)


def steps_per_epoch(cases: int, batch_size: int, processes: int = 1) -> int:
    """Whole batches in one epoch; fewer cases than one batch make one smaller step."""
    return max(1, cases // (batch_size * processes))


def training_batches(
    cases: Cases,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: Augment = "full",
    first: int = 0,
    device: torch.device | str = "cpu",
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch from step `first` on, in an order drawn from (seed, epoch).

    What is left over after whole batches is left out this epoch; the next draws another order.
    With several processes each takes its own share of every step.
    """
    order = _generator(seed, "order", epoch).permutation(len(cases))
    for step in range(first, steps_per_epoch(len(cases), batch_size, processes)):
        start = step * batch_size * processes
        together = order[start : start + batch_size * processes]
        mine = [int(i) for i in (together[process::processes] if len(together) > processes else together)]
        batch = collate([cases[i] for i in mine], index=mine, device=device)
        if augment != "none":
            batch = apply_changes(batch, [draw_change(augment, seed, epoch, i) for i in mine])
        yield batch


def plain_batches(cases: Cases, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """All cases once, in order and unchanged; the last batch may be smaller."""
    for start in range(0, len(cases), batch_size):
        yield collate(cases[start : start + batch_size], device=device)


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


def _stack(arrays: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def _look(maps: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *place])
