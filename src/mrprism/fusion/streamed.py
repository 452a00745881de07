"""A large volume of a data set, fused from its files without ever being held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.core.errors import InputError
from mrprism.core.sample import Samples, Task
from mrprism.datasets.dataset import Dataset
from mrprism.datasets.outlined import LARGE
from mrprism.fusion.files import RULES, fuse_streams
from mrprism.images import format_of
from mrprism.images.streams import NiftiMask, same_order


@dataclass(frozen=True)
class StreamedCase:
    """What was found while the files of a case were read; its fused files lie in the folder that was given."""

    counts: Float[np.ndarray, "R C 2 2"]  # as `skill_counts`
    ties: int | None
    drawn: list[int]  # structures that somebody drew


def fuse_streamed(
    cases: Samples,
    name: str,
    task: Task,
    method: str,
    folder: Path,
    structures: Sequence[str],
    margin: int | None,
    options: dict[str, Any],
) -> StreamedCase | None:
    """Fuse one case of a data set structure by structure, its masks read front to back.

    Args:
        folder: Where STRUCTURE.nii.gz and STRUCTURE_probability.nii.gz are written.
        structures: Their names for files.

    Returns:
        None, and nothing written, where this cannot be done: the case is small or in memory, its files are not
        NIfTI with one structure each on the very grid of the image, or the method needs more than votes.

    Raises:
        InputError: A file is broken, or holds more than one value besides 0.
    """
    files = cases.mask_files(name) if isinstance(cases, Dataset) else None
    if files is None or method not in RULES or "smoothing" in options:
        return None
    image, masks = files
    if not masks or any(
        format_of(path) != "nifti" for path in (*masks.values(), *([image] if image else []))
    ):
        return None
    raters = len(task.raters)
    counts = np.zeros((raters, len(structures), 2, 2))
    ties: list[int] = []
    with ExitStack() as stack:
        streams = {at: stack.enter_context(closing(NiftiMask(path))) for at, path in masks.items()}
        try:
            grid = [] if image is None else [stack.enter_context(closing(NiftiMask(image)))]
            if not same_order([*grid, *streams.values()]):
                return None
        except InputError:  # the other way says what is wrong with them
            return None
        if math.prod(next(iter(streams.values())).shape) < LARGE:
            return None
        drawn = sorted({c for _, c in streams})
        for c in drawn:
            present = [r for r in range(raters) if (r, c) in streams]
            paths = folder / f"{structures[c]}.nii.gz", folder / f"{structures[c]}_probability.nii.gz"
            fused = fuse_streams(
                [streams[r, c] for r in present],
                lambda table: RULES[method](table, **options),
                *paths,
                margin,
            )
            counts[present, c] = fused.counts
            ties += [] if fused.ties is None else [fused.ties]
    return StreamedCase(counts, sum(ties) if ties else None, drawn)
