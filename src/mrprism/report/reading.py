"""Run folders as a report reads them: scores, log, example cases and settings; never weights."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.metrics.examples import Example, read_example
from mrprism.metrics.scores import FINAL, RATER, Row, read_table

READS = ("image", "masks", "both")  # what a row of a table looked at
DEEPEST = 16  # things in things in a run's JSON

_STRICT = ConfigDict(strict=True, extra="allow")


class _Task(BaseModel):
    model_config = _STRICT

    structures: list[str] = []
    raters: list[str] = []
    anonymous: bool = False


class _Config(BaseModel):
    """What a report reads of a config; of a run of any version, so nothing has to be there."""

    model_config = _STRICT

    method: str = ""
    dataset: str = ""
    task: _Task = _Task()
    options: dict[str, Any] = {}
    train: list[str] = []
    val: list[str] = []
    test: list[str] = []


class _Result(BaseModel):
    model_config = _STRICT

    seconds: float | None = None
    parameters: int | None = None
    collapsed: bool = False
    collapse: list[str] = []


class _Line(BaseModel):
    model_config = _STRICT

    epoch: int | None = Field(default=None, ge=0, le=10**9)
    terms: dict[str, float] = {}
    validation: dict[str, Any] = {}


class _Apart(BaseModel):
    model_config = _STRICT

    raters: list[str]
    distances: list[list[float]]


MAIN = "mrprism"  # the method a report is about, where it is among the runs


@dataclass(frozen=True)
class RunFolder:
    """What one training left behind, as far as a report needs it."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any]  # empty where the training did not write one
    rows: list[Row]
    log: list[dict[str, Any]]
    examples: dict[str, Example]  # by the name of the case
    apart: np.ndarray | None = None  # (R, R) how far apart the method has its raters

    @property
    def name(self) -> str:
        """What people call it: its folder's name, with the one above where that is only a seed's."""
        path = self.path.resolve()
        return f"{path.parent.name}, {path.name}" if re.fullmatch(r"seed\d+", path.name) else path.name


@dataclass(frozen=True)
class Key:
    """Which numbers of a table: everything that names them but the case."""

    structure: str
    target: str
    metric: str
    recurrence: str = FINAL


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of a report: a method with its options, from one run or several seeds of it."""

    name: str
    reads: str  # "image", "masks" or "both": what it looked at when scored
    runs: tuple[RunFolder, ...]

    @property
    def method(self) -> str:
        return str(self.runs[0].config.get("method", "?"))

    @property
    def ceiling(self) -> bool:
        """Whether it was trained on the reference, which nobody has in earnest."""
        return bool(_options(self.runs[0].config).get("label") == "reference")

    @property
    def collapsed(self) -> bool:
        """Whether a run of it gives a constant answer, so that its numbers mean nothing."""
        return any(run.result.get("collapsed") for run in self.runs)

    @property
    def rival(self) -> bool:
        """Whether it may be compared with the others: it saw only the image, and not the truth."""
        return self.reads == "image" and not self.ceiling

    @cached_property
    def _values(self) -> dict[Key, dict[str, float]]:
        gathered: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for run in self.runs:
            for row in run.rows:
                if row.reads == self.reads:
                    key = Key(row.structure, row.target, row.metric, row.recurrence)
                    gathered[key][row.case].append(row.value)
        return {
            key: {case: float(np.mean(values)) for case, values in cases.items()}
            for key, cases in gathered.items()
        }

    @cached_property
    def groups(self) -> dict[str, str]:
        """The patient of each case."""
        return {row.case: row.group for run in self.runs for row in run.rows}

    @cached_property
    def recurrences(self) -> tuple[str, ...]:
        """Rec0, Rec1, ... as far as the table has them."""
        found = {key.recurrence for key in self._values} - {FINAL}
        return tuple(sorted(found, key=lambda name: int(name.removeprefix("Rec") or 0)))

    @cached_property
    def targets(self) -> frozenset[str]:
        return frozenset(key.target for key in self._values)

    def values(self, key: Key) -> dict[str, float]:
        """Case to value, the mean over seeds; empty where the table has no such numbers."""
        return self._values.get(key, {})

    def example(self, case: str) -> Example | None:
        return next((run.examples[case] for run in self.runs if case in run.examples), None)


def read_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """Read run folders of one task.

    Raises:
        InputError: A folder is no evaluated run, is damaged, or is of another data set.
    """
    if not paths:
        raise InputError("a report needs at least one run folder")
    runs = [read_run(Path(path)) for path in paths]
    first = runs[0]
    for run in runs[1:]:
        for what, key in (("data set", "dataset"), ("task", "task")):
            if run.config.get(key) != first.config.get(key):
                raise InputError(
                    f"{run.path} is of another {what} than {first.path}: a report compares runs of one {what}"
                )
    return runs


def read_run(path: Path) -> RunFolder:
    """Read one run folder; what is not there yet, but for config and table, is left empty."""
    if not path.is_dir():
        raise InputError(f"{path} is not a run folder")
    if not plain_file(path / "config.json").is_file():
        raise InputError(f"{path} is not a run folder: it has no config.json")
    rows = read_table(path / "table.csv")
    if not rows:
        raise InputError(f"{path / 'table.csv'} holds no scores: evaluate the run first")
    for number, row in enumerate(rows, start=2):
        if row.reads not in READS or not (
            row.recurrence == FINAL or re.fullmatch(r"Rec\d{1,4}", row.recurrence)
        ):
            raise InputError(
                f"{path / 'table.csv'} is damaged at line {number}: {','.join(map(str, row))[:80]!r}"
            )
    config = _read_object(path / "config.json", _Config)
    examples = [read_example(file) for file in sorted(path.glob("examples/*.npz"))]
    task = config.get("task", {})
    for example in examples:
        for what, count in zip(("raters", "structures"), example.masks.shape[:2], strict=False):
            if len(task.get(what, range(count))) != count:
                raise InputError(
                    f"{path / 'examples'}: case '{example.name}' has {count} {what}, the run {len(task[what])}"
                )
    return RunFolder(
        path=path,
        config=config,
        result=_read_object(path / "result.json", _Result) if (path / "result.json").exists() else {},
        rows=rows,
        log=_read_log(path / "log.jsonl"),
        examples={example.name: example for example in examples},
        apart=_apart(path / "raters.json", task.get("raters", [])),
    )


def _apart(path: Path, raters: Sequence[str]) -> np.ndarray | None:
    """Distances of the raters, where a run kept them.

    Raises:
        InputError: The file is damaged, or of other raters.
    """
    if not plain_file(path).is_file():
        return None
    found = _read_object(path, _Apart)
    distances = np.asarray([row for row in found["distances"] if len(row) == len(raters)], np.float64)
    if list(found["raters"]) != list(raters) or distances.shape != (len(raters), len(raters)):
        raise InputError(f"{path} is of other raters than the run's: {', '.join(raters)}")
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise InputError(f"{path} holds values that are no distances")
    return distances


def entries_of(runs: Sequence[RunFolder]) -> list[Entry]:
    """Runs gathered into lines of a report: seeds together, what was scored on masks by itself."""
    gathered: dict[str, list[RunFolder]] = defaultdict(list)
    for run in runs:
        same = {key: run.config.get(key) for key in ("method", "options", "backbone", "size", "epochs")}
        gathered[json.dumps(same, sort_keys=True, default=str)].append(run)
    names = _names([group[0] for group in gathered.values()])
    entries = []
    for name, group in zip(names, gathered.values(), strict=True):
        for reads in dict.fromkeys(row.reads for run in group for row in run.rows):
            suffix = "" if reads == "image" or name.endswith("fusion") else ", fusing the given masks"
            entries.append(Entry(name + suffix, reads, tuple(group)))
    return entries


def main_entry(entries: Sequence[Entry]) -> Entry:
    """The entry a report is about: MrPrism where it is among them, else the first."""
    honest = [entry for entry in entries if entry.rival] or list(entries)
    return next((entry for entry in honest if entry.method == MAIN), honest[0])


def structures_of(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Names of the structures, in the task's order."""
    named = _task(runs[0]).get("structures")
    return tuple(named) if named else tuple(dict.fromkeys(row.structure for run in runs for row in run.rows))


def raters_of(runs: Sequence[RunFolder]) -> tuple[str, ...]:
    """Names of the raters, in the task's order."""
    named = _task(runs[0]).get("raters")
    if named:
        return tuple(named)
    targets = dict.fromkeys(row.target for run in runs for row in run.rows if row.target.startswith(RATER))
    return tuple(target.removeprefix(RATER) for target in targets)


def anonymous(runs: Sequence[RunFolder]) -> bool:
    """Whether the raters are slots and no persons."""
    return bool(_task(runs[0]).get("anonymous", False))


LABELS = {
    "soft-vote": "U-Net on the soft vote",
    "majority": "U-Net on the hard vote",
    "votes": "U-Net on the number of votes",
    "staple": "U-Net on STAPLE",
    "label-sampling": "U-Net on sampled labels",
    "pooled-staple": "U-Net on pooled STAPLE",
    "pooled-dawid-skene": "U-Net on pooled Dawid-Skene",
    "pooled-band": "U-Net on counted skill",
    "outline": "U-Net on the outline model",
    "auto": "U-Net on the chosen fusion",
    "reference": "U-Net on the reference",
}
METHOD_NAMES = {
    "mrprism": "MrPrism",
    "mrnet": "MRNet",
    "max-mig": "Max-MIG",
    "wdnet": "WDNet",
    "aggnet": "AggNet",
    "ssn": "SSN",
    "prob-unet": "Probabilistic U-Net",
    "pionono": "Pionono",
    "phiseg": "PHiSeg",
    "mose": "MoSE",
    "ccdm": "CCDM",
    "ssn-flow": "SSN with a flow",
    "d-persona": "D-Persona",
}


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """A name for each run, made unlike the others by the options in which it differs."""
    names = [_plain_name(run.config) for run in runs]
    for name in {name for name in names if names.count(name) > 1}:
        twins = [i for i, other in enumerate(names) if other == name]
        settings = [_flat(runs[i].config) for i in twins]
        differing = [
            key
            for key in dict.fromkeys(key for setting in settings for key in setting)
            if len({repr(setting.get(key)) for setting in settings}) > 1
            and key.split(".")[0] in ("options", "backbone", "size", "epochs")
        ]
        for i, setting in zip(twins, settings, strict=True):
            said = [f"{key.removeprefix('options.')} {setting[key]}" for key in differing if key in setting]
            names[i] = f"{name} ({', '.join(said) or runs[i].path.name})"
    return names


def _plain_name(config: dict[str, Any]) -> str:
    method, label = str(config.get("method", "?")), _options(config).get("label")
    if method == "fused-label" and isinstance(label, str):
        return LABELS.get(label, f"U-Net on {label.removeprefix('rater:')}")
    return METHOD_NAMES.get(method, method)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: inner
        for name, item in value.items()
        for key, inner in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def settings_of(run: RunFolder) -> dict[str, str]:
    """Every setting of a run as text; lists of cases shrink to their number, and paths of the machine to a name."""
    said = {}
    checksums = run.config.get("images")
    if isinstance(checksums, dict) and checksums:
        said["images"] = f"checksums of {len(checksums)} in config.json"
    hidden = ("task", "images") if said else ("task",)
    for key, value in _flat({k: v for k, v in run.config.items() if k not in hidden}).items():
        if isinstance(value, list):
            said[key] = (
                f"{len(value)} case{'' if len(value) == 1 else 's'}"
                if key in ("train", "val", "test")
                else ", ".join(map(str, value))
            )
        elif isinstance(value, str) and Path(value).is_absolute():
            said[key] = Path(value).name  # a page is sent to others, whom its folders do not concern
        elif value is not None:
            said[key] = _plain(value)
    return said


def _plain(value: Any) -> str:
    """A setting as people read it; of a checksum, as much as tells two apart."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{32,}", value):
        return f"{value[:12]}…"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _options(config: dict[str, Any]) -> dict[str, Any]:
    options = config.get("options")
    return options if isinstance(options, dict) else {}


def _task(run: RunFolder) -> dict[str, Any]:
    task = run.config.get("task")
    return task if isinstance(task, dict) else {}


def _read_object(path: Path, form: type[BaseModel]) -> dict[str, Any]:
    try:
        return _checked(json.loads(plain_file(path).read_text(encoding="utf-8")), form)
    except (OSError, ValueError, RecursionError) as error:
        why = _first(error) if isinstance(error, ValidationError) else error
        raise InputError(f"{path} cannot be read: {why}") from None


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut off by a crash is left out."""
    if not plain_file(path).is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        except RecursionError as error:
            raise InputError(f"{path} is damaged at line {number}: {error}") from None
        try:
            lines.append(_checked(line, _Line))
        except ValueError as error:
            why = _first(error) if isinstance(error, ValidationError) else error
            raise InputError(f"{path} is damaged at line {number}: {why}") from None
    return lines


def _checked(content: Any, form: type[BaseModel]) -> dict[str, Any]:
    """One JSON object whose entries are of the kinds a report reads them as.

    Raises:
        ValueError: It is something else, or things lie in it deeper than anything of ours.
    """
    if not isinstance(content, dict):
        raise ValueError("expected one JSON object")
    layer: list[Any] = [content]
    for _ in range(DEEPEST):
        layer = [
            item
            for one in layer
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, dict | list)
        ]
    if layer:
        raise ValueError(f"things lie in it more than {DEEPEST} deep")
    form.model_validate(content)
    return content


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg'].lower()}, found {found['input']!r:.80}"
