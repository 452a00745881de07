"""Small volumes for tests: bright boxes in a noisy block, outlined by three raters who differ by a voxel."""

from __future__ import annotations

import numpy as np

from mrprism.core.sample import Task
from mrprism.datasets import Dataset, FileSample
from mrprism.images import Geometry

TASK = Task(channels=1, structures=("disc", "cup"), raters=("ann", "bob", "cy"))
SHAPE = (7, 20, 24)  # D, H, W


def geometry(shape: tuple[int, int, int] = SHAPE, *, lps: bool = True) -> Geometry:
    """2.5 × 0.8 × 0.7 mm; rows towards the back and columns towards the left, as CT is stored, or RAS."""
    sign = -1.0 if lps else 1.0
    affine = np.diag([sign * 0.7, sign * 0.8, 2.5, 1.0])
    affine[:3, 3] = (10, -20, 30)
    return Geometry(affine, shape[::-1])


def volumes(count: int = 6, *, reference: bool = True) -> list[FileSample]:
    made = []
    for number in range(count):
        draw = np.random.default_rng(number)
        low = draw.integers(1, 6, 2)
        truth = np.zeros((2, *SHAPE), bool)
        truth[0, 1:6, low[0] : low[0] + 12, low[1] : low[1] + 14] = True
        truth[1, 2:5, low[0] + 3 : low[0] + 9, low[1] + 4 : low[1] + 10] = True
        image = 0.2 + 0.3 * truth[:1] + 0.4 * truth[1:] + draw.normal(0, 0.02, (1, *SHAPE))
        made.append(
            FileSample(
                name=f"scan{number}",
                image=np.clip(image, 0, 1).astype(np.float32),
                masks=np.stack([np.roll(truth, shift, axis=-1) for shift in (-1, 0, 1)]),
                rated=np.ones((3, 2), bool),
                reference=truth if reference else None,
                spacing_mm=(2.5, 0.8, 0.7),
                geometry=geometry(),
            )
        )
    return made


def volume_dataset(count: int = 6, *, reference: bool = True) -> Dataset:
    return Dataset.from_samples("blocks", TASK, volumes(count, reference=reference))
