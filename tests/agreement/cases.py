"""Small data sets in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrprism.core.sample import MultiRaterSample, Task


@dataclass
class Shelf:
    """What `agree` asks of a data set, and no more."""

    task: Task
    samples: Sequence[MultiRaterSample]
    name: str = "shelf"

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> MultiRaterSample:
        return self.samples[index]


def disc(radius: float, centre: tuple[float, float] = (20, 20), size: int = 40) -> np.ndarray:
    row, column = np.mgrid[:size, :size]
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 <= radius**2


def shelf(
    radii: Sequence[Sequence[float]],
    *,
    groups: Sequence[str] | None = None,
    anonymous: bool = False,
    spacing_mm: tuple[float, float] | None = None,
    raters: Sequence[str] | None = None,
) -> Shelf:
    """One case a row of radii, one rater a column; NaN: absent, 0: drew nothing."""
    table = np.asarray(radii, float)
    names = tuple(raters or (f"rater{r + 1}" for r in range(table.shape[1])))
    task = Task(channels=1, structures=("disc",), raters=names, anonymous=anonymous)
    samples = []
    for index, row in enumerate(table):
        rated = ~np.isnan(row)[:, None]
        masks = np.stack([disc(r) if r > 0 else np.zeros((40, 40), bool) for r in row])[:, None]
        image = np.random.default_rng(index).random((1, 40, 40)).astype(np.float32)
        group = groups[index] if groups else None
        samples.append(
            MultiRaterSample(f"case{index}", image, masks, rated, group=group, spacing_mm=spacing_mm)
        )
    return Shelf(task, samples)


def drawn_by(sizes: Sequence[float], cases: int = 12, seed: int = 0) -> Shelf:
    """Cases of varying size, and raters who draw that much larger or smaller."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(8, 14, (cases, 1))
    return shelf(base + np.asarray(sizes) + rng.normal(0, 0.3, (cases, len(sizes))))
