"""Random changes of a case, each a function of a seed, the epoch and the case's position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from mrprism.core.seeds import generator_of
from mrprism.learn.batch import Batch
from mrprism.learn.plan import Plan
from mrprism.learn.settings import Augment


@dataclass(frozen=True)
class Change:
    """One random change of a case: where each new pixel looks, and how brightness moves."""

    look: tuple[tuple[float, ...], ...]  # new to old, x and y (and z) in [-1, 1], and 1
    contrast: float
    brightness: float


def draw_change(augment: Augment, seed: int, epoch: int, index: int, plan: Plan | None = None) -> Change:
    """What happens to case `index` in `epoch`: a function of its arguments and nothing else.

    "light" turns by up to 15°, scales by up to 10 %, shifts by up to 3 % of the size, and changes
    contrast by up to 20 % and brightness by up to 0.1; "full" also flips left-right and up-down. Volumes are turned,
    scaled and shifted in the plane, and "full" also flips their slices.

    Args:
        plan: Of what is changed, whose patches need not be square; None: images stretched to a square.
    """
    draw = generator_of(seed, "augment", epoch, index)
    turn, scale = math.radians(draw.uniform(-15, 15)), 1 / draw.uniform(0.9, 1.1)
    shift_x, shift_y = draw.uniform(-0.06, 0.06, size=2)
    contrast, brightness = draw.uniform(0.8, 1.2), draw.uniform(-0.1, 0.1)
    flip_x, flip_y = draw.choice([-1.0, 1.0], size=2) if augment == "full" else (1.0, 1.0)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    if plan is None:
        look = ((flip_x * cos, -sin * flip_x, float(shift_x)), (flip_y * sin, cos * flip_y, float(shift_y)))
        return Change(look, contrast, brightness)
    height, width = (
        plan.patch[-2:]
        if plan.spacing_mm is None
        else map(math.prod, zip(plan.patch[-2:], plan.spacing_mm[-2:], strict=True))
    )
    tall = height / width  # a turn stays one where the patch is not square
    across = (flip_x * cos, -sin * flip_x * tall, float(shift_x))
    down = (flip_y * sin / tall, cos * flip_y, float(shift_y))
    if plan.dims == 2:
        return Change((across, down), contrast, brightness)
    flip_z = draw.choice([-1.0, 1.0]) if augment == "full" else 1.0
    through = (0.0, 0.0, float(flip_z), 0.0)
    return Change(((*across[:2], 0.0, across[2]), (*down[:2], 0.0, down[2]), through), contrast, brightness)


def apply_changes(batch: Batch, changes: Sequence[Change], plan: Plan | None = None) -> Batch:
    """The batch with case b changed by ``changes[b]``: image, masks and reference alike.

    What comes into view from outside is the mirror image. Masks follow the rule of `resize_masks`.

    Args:
        plan: Of the batch; where it normalises, intensities are not kept in [0, 1].
    """
    assert batch.image is not None
    assert batch.masks is not None
    device = batch.image.device
    look = torch.tensor([change.look for change in changes], dtype=torch.float32, device=device)
    grid = functional.affine_grid(look, list(batch.image.shape), align_corners=False)
    as_taken = _look(batch.image, grid)
    each = (-1, *(1,) * (as_taken.ndim - 1))
    contrast = torch.tensor([c.contrast for c in changes], device=device).reshape(each)
    brightness = torch.tensor([c.brightness for c in changes], device=device).reshape(each)
    mean = as_taken.mean(tuple(range(1, as_taken.ndim)), keepdim=True)
    image = (as_taken - mean) * contrast + mean + brightness
    if plan is None or plan.normalise == "none":
        image = image.clamp(0, 1)
    masks = (_look(batch.masks.flatten(1, 2), grid) > 0.5).float().reshape(batch.masks.shape)
    reference = batch.reference
    if reference is not None:
        absent = reference.isnan()
        reference = (_look(reference.nan_to_num(0.0), grid) > 0.5).float().masked_fill(absent, math.nan)
    return replace(batch, image=image, as_taken=as_taken, masks=masks, reference=reference)


def _look(maps: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
