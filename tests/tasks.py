"""What the workers of `test_workers.py` are given to do; they import it by this name."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task


def square(number: int) -> int:
    return number * number


def talking(number: int) -> int:
    print(f"case {number} speaks", file=sys.stderr)
    print("and to standard output, which is no answer")
    warnings.warn("all of them warn", UserWarning, stacklevel=1)
    return number


def odd_ones_fail(number: int) -> int:
    if number % 2:
        raise InputError(f"case {number} is odd; expected an even one")
    return number


class AwkwardError(Exception):
    """One that no pickle brings back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def awkward(number: int) -> int:
    raise AwkwardError(number, number)


def dies(folder: Path, times: int, number: int) -> int:
    """Of case 1 so many workers die."""
    if number == 1:
        marks = list(folder.glob("died-*"))
        if len(marks) < times:
            (folder / f"died-{len(marks)}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def threads(number: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def endless(folder: Path, number: int) -> int:
    """Works until it is stopped, and says when it began and that it cleaned up."""
    (folder / f"begun-{number}").write_text(str(os.getpid()))
    try:
        while True:
            time.sleep(0.01)
    finally:
        (folder / f"cleaned-{number}").touch()


def process(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


class Deadly(Sequence[MultiRaterSample]):
    """Cases of which one kills the process that reads it, if that is not the first one; so many times."""

    name = "deadly"

    def __init__(self, task: Task, cases: Sequence[MultiRaterSample], folder: Path, times: int) -> None:
        self.task, self.cases, self.folder, self.times = task, cases, folder, times
        self.first = os.getpid()

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int) -> MultiRaterSample:  # type: ignore[override]
        if os.getpid() != self.first:
            dies(self.folder, self.times, number)
        return self.cases[number]
