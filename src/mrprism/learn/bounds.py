"""How large the numbers of a run may be; docs/reference/limits.md says so to users.

A run folder may come from anybody, and its config is built before its weights can be compared with it. No
limit here binds an honest training: each is far above what fits a machine of today.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, ValidationError

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.sample import Task

MOST_BYTES = 64 << 20  # of a JSON file of a run
MOST_RATERS = MOST_STRUCTURES = MOST_CHANNELS = 1000
MOST_CASES = 1_000_000
MOST_DRAWS = 1000  # of a case
MOST_LETTERS = 1000  # of a name
MOST_DEPTH = 5  # of lists in lists in an option
MOST_ITEMS = 10_000  # of one option
LARGEST = 1e9  # number in an option that says nothing of its own bounds

# what the settings of a run, and options of methods, are annotated with
Augment = Literal["full", "light", "none"]
Kept = Annotated[int, Field(le=100)]  # networks, rounds: things that are all kept in memory
Done = Annotated[int, Field(le=1000)]  # passes, steps: things that are done one after the other
Pixels = Annotated[int, Field(le=4096**2)]
Size = Annotated[int, Field(ge=8, le=4096)]
Epochs = Annotated[int, Field(ge=1, le=1_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=100_000)]
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Clip = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Neighbours = Annotated[int, Field(ge=0, le=100)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Processes = Annotated[int, Field(ge=1, le=10_000)]
Steps = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=MOST_LETTERS)]
Folder = Annotated[str, Field(max_length=10_000)]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > MOST_CASES:
        raise ValueError(f"there are {len(names)} cases; at most {MOST_CASES} are read")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"case '{twice[0][:80]}' is there twice")
    return names


Names = Annotated[tuple[Text, ...], AfterValidator(_distinct)]


def _bounded_task(task: Task) -> Task:
    if task.dims != 2 or task.spacing_mm is not None:
        raise ValueError("a task says nothing of dimensions; dims stands beside it")
    if not 1 <= task.channels <= MOST_CHANNELS:
        raise ValueError(f"there are {_number(task.channels)} channels; expected 1 to {MOST_CHANNELS}")
    for what, names, least, most in (
        ("structures", task.structures, 1, MOST_STRUCTURES),
        ("raters", task.raters, 1, MOST_RATERS),
    ):
        if not least <= len(names) <= most:
            raise ValueError(f"there are {len(names)} {what}; expected {least} to {most}")
        if len(set(names)) < len(names):
            raise ValueError(f"two {what} have one name")
        if any(len(name) > MOST_LETTERS for name in names):
            raise ValueError(f"names of {what} have at most {MOST_LETTERS} letters")
    return task


def _task_of_data(task: Task) -> dict[str, Any]:
    """A task without what only networks see of it, which a run's settings say elsewhere."""
    return {name: getattr(task, name) for name in ("channels", "structures", "raters", "anonymous")}


BoundedTask = Annotated[Task, AfterValidator(_bounded_task), PlainSerializer(_task_of_data)]


def _bounded_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    if window is not None:
        low, high = window
        if not (math.isfinite(low) and math.isfinite(high) and low < high and high - low < 1e30):
            raise ValueError("expected two numbers, the lower one first, less than 1e30 apart")
    return window


BoundedWindow = Annotated[tuple[float, float] | None, AfterValidator(_bounded_window)]


def bounded_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method, if none of them is out of all proportion.

    Raises:
        ValueError: One is; the text says which.
    """
    if len(options) > MOST_ITEMS:
        raise ValueError(f"there are {len(options)} options; at most {MOST_ITEMS} are read")
    for name, value in options.items():
        if len(name) > MOST_LETTERS:
            raise ValueError(f"names of options have at most {MOST_LETTERS} letters")
        _bounded(name, value)
    return dict(options)


Options = Annotated[dict[str, Any], AfterValidator(bounded_options)]


def _bounded(name: str, value: Any) -> None:
    """Walk through a value without ever going deeper than is allowed."""
    seen, level = 0, [value]
    for depth in range(MOST_DEPTH + 1):
        if not level:
            return
        if depth == MOST_DEPTH:
            break
        below: list[Any] = []
        for item in level:
            seen += 1
            if isinstance(item, Mapping):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple):
                below += item
            elif isinstance(item, str) and len(item) > MOST_ITEMS:
                raise ValueError(
                    f"option '{name}' has a text of {len(item)} letters; at most {MOST_ITEMS} are read"
                )
            elif isinstance(item, int | float) and not abs(item) <= LARGEST:  # written so that NaN fails
                raise ValueError(
                    f"option '{name}' is {_number(item)}; expected a number of at most {LARGEST:g}"
                )
            if seen + len(below) > MOST_ITEMS:
                raise ValueError(f"option '{name}' holds more than {MOST_ITEMS} values")
        level = below
    raise ValueError(f"option '{name}' has lists in lists, more than {MOST_DEPTH} deep")


def _number(value: int | float) -> str:
    """A number in few letters; whole ones may have thousands of digits."""
    if isinstance(value, int) and abs(value) >= 10**15:
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1} digits"
    return f"{value:g}" if isinstance(value, float) else str(value)


def fault_of(error: ValidationError) -> str:
    """Where a settings file is wrong and how, in few words."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part)[:80] for part in first["loc"]) or "the file"
    said = first["msg"].removeprefix("Value error, ")
    said = said[:1].lower() + said[1:300]
    given = repr(first["input"]) if isinstance(first["input"], str | int | float | None) else ""
    return f"{where} is {given}: {said}" if given and len(given) < 80 else f"{where}: {said}"


def read_bounded(file: Path) -> bytes:
    """A JSON file of a run.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is larger than such files are, or cannot be read.
    """
    try:
        with plain_file(file).open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(file) from None
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{file} has more than {MOST_BYTES >> 20} MiB; a file of a run has less")
    return content
