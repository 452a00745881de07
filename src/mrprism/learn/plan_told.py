"""The plan that a training goes by: the one it is told, or one for volumes that nobody asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrprism.core.errors import InputError
from mrprism.datasets import Dataset
from mrprism.learn.plan import Plan, Reasoned, read_plan
from mrprism.learn.planning import AUTO, plan


def plan_told(
    told: Plan | Reasoned | str | Path | None,
    dataset: Dataset,
    *,
    size: int | None,
    slices: str | None,
    said: Mapping[str, Any],
    method: str,
    backbone: str,
    split_seed: int,
    device: str | None,
) -> Reasoned | None:
    """The plan that a training goes by: the one it is told, its file, or "auto"; None: images of `size` pixels.

    Volumes are planned for unasked, unless their slices are wanted or a size is named.

    Args:
        said: Lines of the plan that were said beside it; None: not said.

    Raises:
        InputError: As `plan`; or the file is no plan; or something was said that a plan says in another way.
    """
    if told is None and (slices is not None or size is not None or not _of_volumes(dataset)):
        return None
    if size is not None:
        raise InputError("a plan says how large cases are: leave out size, or the plan")
    if slices is not None:
        raise InputError(
            "a plan says whether volumes are learned from as they are or slice by slice: leave out slices, or the plan"
        )
    if isinstance(told, Reasoned):
        found = told
    elif isinstance(told, Plan):
        found = Reasoned(told, {})
    elif told is None or str(told) == AUTO:
        found = plan(dataset, method=method, backbone=backbone, split_seed=split_seed, device=device)
    else:
        found = Reasoned(read_plan(told), {}, f"As '{Path(told).name}' said.")
    return found.changed({name: value for name, value in said.items() if value is not None})


def _of_volumes(dataset: Dataset) -> bool:
    """Whether the first case is one."""
    image = dataset[0].image if len(dataset) and dataset.pictured[dataset.names[0]] else None
    return image is not None and image.ndim == 4
