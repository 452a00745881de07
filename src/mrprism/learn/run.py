"""Run: one folder with all that a training leaves behind, the only handover between commands.

    config.json          what was trained, on what, how (`RunConfig`)
    weights.safetensors  the chosen weights
    calibration.json     what validation cases taught of its probabilities (`mrprism.learn.calibration`)
    result.json          how it ended (`RunResult`)
    log.jsonl            one line a step, one line a validation
    checkpoint/          where to go on after an interruption
    table.csv            scores of the test cases
    examples/            a few test cases with all that was predicted, for pictures

Nothing in it is ever unpickled, and every file is whole: it is written under another name, flushed
to the disk and renamed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.learn.bounds import Score, Seconds, Steps, Text, fault_of, read_bounded
from mrprism.learn.settings import RunConfig, Select
from mrprism.output.files import write_file

Model = TypeVar("Model", bound=BaseModel)


class RunResult(BaseModel):
    """How a training ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Steps
    steps: Steps
    select: Select
    chosen_epoch: Steps  # counted from 1
    score: Score | None  # validation score of the chosen weights; None without validation cases
    collapsed: bool  # the chosen weights give a constant answer
    collapse: tuple[str, ...] = ()  # in what way, one sentence each
    skipped: Steps = 0  # batches left out because their loss was no number
    parameters: Steps
    seconds: Seconds
    device: Text


@dataclass(frozen=True)
class Run:
    """A run folder that holds at least its config."""

    path: Path
    config: RunConfig

    def __repr__(self) -> str:
        state = "trained" if (self.path / "result.json").is_file() else "begun"
        return f"Run('{self.path}', {self.config.method} on {self.config.dataset}, {state})"

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> Run:
        """Start a run in a folder that is not there yet, or is empty.

        Raises:
            InputError: The folder holds something already, or cannot be made.
        """
        run = cls(Path(path), config)
        refuse_existing(run.path)
        write_file(run.path / "config.json", config.model_dump_json(indent=2).encode() + b"\n")
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run that stands in a folder.

        Raises:
            InputError: It is not a run folder, or one this version cannot read.
        """
        path = Path(path)
        file = path / "config.json"
        if not plain_file(file).is_file():
            raise InputError(f"{path} is not a run folder: it has no config.json")
        return cls(path, read_model(file, RunConfig))

    @property
    def weights_file(self) -> Path:
        """The weights; in a folder that was exported for a hub they have that hub's name."""
        handed_on = self.path / "model.safetensors"
        ours = self.path / "weights.safetensors"
        return handed_on if handed_on.is_file() and not ours.is_file() else ours

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def table_file(self) -> Path:
        return self.path / "table.csv"

    @property
    def examples(self) -> Path:
        return self.path / "examples"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    def result(self) -> RunResult | None:
        """How the training ended; None while it has not."""
        file = self.path / "result.json"
        return read_model(file, RunResult) if file.exists() else None

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log; a last line cut off by a crash is left out."""
        if not plain_file(self.log_file).is_file():
            return []
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").split("\n")
        found = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                if line:
                    found.append(dict(json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                raise InputError(f"{self.log_file} is damaged at line {number}") from error
        return found


def refuse_existing(path: Path) -> None:
    """Raise InputError where a new run would overwrite something."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        if (path / "config.json").is_file():
            raise InputError(f"{path} already holds a run: go on with it by --resume, or name another folder")
        raise InputError(f"{path} already holds files that are not a run: name another folder")


def refuse_another(path: Path, config: RunConfig) -> None:
    """Raise InputError where a run was begun with other settings, or on other data."""
    begun, wanted = Run.open(path).config.model_dump(), config.model_dump()
    for name, value in wanted.items():
        unknown = name == "images" and not begun[name]  # a run of 0.1 kept no marks of images
        if (
            name not in ("mrprism", "dataset_path", "threads", "machine")
            and not unknown
            and begun[name] != value
        ):
            how = f"{name} {begun[name]}, not {value}" if len(f"{value}") < 60 else f"another {name}"
            raise InputError(f"{path} already holds a run, started with {how}: name another folder")


def read_model(file: Path, model: type[Model]) -> Model:
    """A JSON file that this package wrote.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is not what this version writes.
    """
    try:
        return model.model_validate_json(read_bounded(file))
    except ValidationError as error:
        raise InputError(f"{file}: {fault_of(error)} (written by another version of mrprism?)") from error
