"""What agreement asks of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset
from mrprism.datasets.outlined import Outlined, outlined, outlined_files


@runtime_checkable
class Cases(Protocol):
    """A sequence of cases and what was to be outlined on them; any opened data set is one."""

    @property
    def name(self) -> str: ...

    @property
    def task(self) -> Task: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> MultiRaterSample: ...


def outlined_case(cases: Cases, index: int) -> Outlined:
    """What was drawn on a case; a large volume is read from its files and not held.

    Raises:
        InputError: It does not fit the task, or its files cannot be read.
    """
    if isinstance(cases, Dataset) and (found := outlined_files(cases, index)) is not None:
        return found
    sample, task = cases[index], cases.task
    expected = (len(task.raters), len(task.structures))
    if sample.masks.shape[:2] != expected or sample.rated.shape != expected:
        raise InputError(
            f"case '{sample.name}' has masks of {sample.masks.shape[:2]} raters and structures and "
            f"{sample.rated.shape} marks of who rated; the data set has {expected}"
        )
    return outlined(sample)


def called(cases: Cases) -> Callable[[int], str]:
    """What a case is called, where that is known before it is read."""
    return cases.names.__getitem__ if isinstance(cases, Dataset) else str


def patient(sample: MultiRaterSample | Outlined) -> str:
    """Who to resample: the patient, or the case itself where no patient is known."""
    return f"patient {sample.group}" if sample.group is not None else f"case {sample.name}"
