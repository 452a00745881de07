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
from mrprism.learn.settings import Augment


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
    draw = generator_of(seed, "augment", epoch, index)
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
    as_taken = _look(batch.image, grid)
    mean = as_taken.mean((1, 2, 3), keepdim=True)
    image = ((as_taken - mean) * contrast + mean + brightness).clamp(0, 1)
    masks = (_look(batch.masks.flatten(1, 2), grid) > 0.5).float().reshape(batch.masks.shape)
    reference = batch.reference
    if reference is not None:
        absent = reference.isnan()
        reference = (_look(reference.nan_to_num(0.0), grid) > 0.5).float().masked_fill(absent, math.nan)
    return replace(batch, image=image, as_taken=as_taken, masks=masks, reference=reference)


def _look(maps: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
