"""What agreement asks of a data set."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mrprism.core.sample import MultiRaterSample, Task


@runtime_checkable
class Cases(Protocol):
    """A sequence of cases and what was to be outlined on them; any opened data set is one."""

    @property
    def name(self) -> str: ...

    @property
    def task(self) -> Task: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> MultiRaterSample: ...


def patient(sample: MultiRaterSample) -> str:
    """Who to resample: the patient, or the case itself where no patient is known."""
    return f"patient {sample.group}" if sample.group is not None else f"case {sample.name}"
