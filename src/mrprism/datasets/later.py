"""Samples that whoever writes them also reads: several processes may then do both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.dataset import FileSample

Told = tuple[str, str]  # rater, and what is wrong with a mask


class Unfit(InputError):  # noqa: N818
    """Masks of one case that do not fit; others are looked at before all of them are told together."""

    def __init__(self, faults: Sequence[Told]) -> None:
        super().__init__(faults[0][1])
        self.faults = list(faults)

    def __reduce__(self) -> tuple[type[Unfit], tuple[list[Told]]]:
        return Unfit, (self.faults,)


def _first(faults: Sequence[Told]) -> InputError:
    return InputError(faults[0][1])


@dataclass(frozen=True)
class Later:
    """Samples known by name, each read when its turn comes.

    Args:
        read: From the number of a sample to the sample, or `Unfit`. It changes nothing, and can be pickled.
        together: What is raised when all were read and some did not fit.
    """

    names: Sequence[str]
    read: Callable[[int], MultiRaterSample]
    together: Callable[[Sequence[Told]], InputError] = _first

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[MultiRaterSample]:
        faults: list[Told] = []
        for number in range(len(self.names)):
            try:
                sample = self.read(number)
            except Unfit as unfit:
                faults += unfit.faults
                continue
            if not faults:
                yield sample
        if faults:
            raise self.together(faults)


@dataclass(frozen=True)
class Facts:
    """What is said of a sample when all are read: who it is of, and who drew on it."""

    name: str
    group: str | None
    notes: tuple[str, ...]
    drew: np.ndarray  # (R,) bool

    @classmethod
    def of(cls, sample: MultiRaterSample) -> Facts:
        notes = sample.notes if isinstance(sample, FileSample) else ()
        return cls(sample.name, sample.group, notes, np.asarray(sample.rated.any(axis=1)))
