"""What layers are along each axis of an image or a volume: their kind, how far they reach and how they halve.

Axes are treated alike, but for volumes of thick slices. Along an axis whose voxels are twice as long as the
shortest side or longer, kernels have one voxel and nothing is halved, until halving the others has made voxels
nearly cubes.

Source: after the topologies that Isensee et al., "nnU-Net", Nature Methods 18, 2021, choose for anisotropic data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from mrprism.core.sample import Task

HALVINGS = 5
THICK = 2.0  # times the shortest side
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UPWARDS = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
MEAN = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
Layer = nn.Conv2d | nn.Conv3d


@dataclass(frozen=True)
class Grid:
    """Images, or volumes whose voxels have such sides.

    Levels are counted from the input, 0, to the deepest features, 5: the strides of an image are
    1, 2, 4, 8, 16 and 32.
    """

    dims: int = 2
    sides: tuple[float, ...] | None = None  # mm, one per axis; None: alike

    @classmethod
    def of(cls, task: Task) -> Grid:
        """What a task's networks work on."""
        return cls(task.dims, task.spacing_mm)

    @property
    def strides(self) -> tuple[tuple[int, ...], ...]:
        """How each of the five halvings steps along each axis: 2, or 1 along a thick one."""
        return tuple(tuple(1 if thick else 2 for thick in self._thick(level)) for level in range(HALVINGS))

    def kernel(self, level: int, full: int = 3) -> tuple[int, ...]:
        """The pixels that a layer reading this level reaches over along each axis: all, or 1 along a thick one."""
        return tuple(1 if thick else full for thick in self._thick(level))

    def conv(
        self,
        width_in: int,
        width_out: int,
        kernel: Sequence[int],
        stride: Sequence[int] | int = 1,
        **more: int | bool,
    ) -> Layer:
        """A convolution that keeps the size, or halves it rounding up."""
        size, padding = tuple(kernel), tuple(k // 2 for k in kernel)
        steps = stride if isinstance(stride, int) else tuple(stride)
        return CONV[self.dims](width_in, width_out, size, stride=steps, padding=padding, **more)  # type: ignore[arg-type, return-value]

    def point(self, width_in: int, width_out: int) -> Layer:
        """A convolution of each pixel by itself."""
        return self.conv(width_in, width_out, (1,) * self.dims)

    def near(self, pixels: int, level: int) -> tuple[int, ...]:
        """As far along every axis as so many pixels of the finest one, at least one pixel."""
        sides = self._sides(level)
        return tuple(max(1, round(pixels * min(sides) / side)) for side in sides)

    def _sides(self, level: int) -> list[float]:
        sides = [1.0] * self.dims if self.sides is None else list(self.sides)
        for _ in range(level):
            sides = [side if thick else 2 * side for side, thick in zip(sides, _thick_of(sides), strict=True)]
        return sides

    def _thick(self, level: int) -> list[bool]:
        return _thick_of(self._sides(level))


def _thick_of(sides: Sequence[float]) -> list[bool]:
    return [side >= THICK * min(sides) for side in sides]


IMAGES = Grid()


def smooth(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, c, *space) at another size, linear between pixel centres."""
    mode = "bilinear" if maps.ndim == 4 else "trilinear"
    return F.interpolate(maps, tuple(size), mode=mode, align_corners=False)


def pooled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, c, *space) as means over the parts of a coarser grid; unchanged when the size is right."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    if maps.ndim == 4:
        return F.adaptive_avg_pool2d(maps, (size[0], size[1]))
    return F.adaptive_avg_pool3d(maps, (size[0], size[1], size[2]))


def means(maps: Tensor, step: Sequence[int]) -> Tensor:
    """Maps (B, c, *space) as means over blocks of `step` pixels; the last blocks may be smaller."""
    step = tuple(min(k, n) for k, n in zip(step, maps.shape[2:], strict=True))
    if set(step) == {1}:
        return maps
    pool = F.avg_pool2d if maps.ndim == 4 else F.avg_pool3d
    return pool(maps, step, ceil_mode=True)


def widened(marks: Tensor, margin: int) -> Tensor:
    """The largest value within `margin` pixels along the axes, (B, *space)."""
    pool = F.max_pool2d if marks.ndim == 3 else F.max_pool3d
    return pool(marks[:, None], 2 * margin + 1, 1, margin)[:, 0]
