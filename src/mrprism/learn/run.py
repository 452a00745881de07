"""Run: one folder with all that a training leaves behind, the only handover between commands.

    config.json          what was trained, on what, how (`RunConfig`)
    weights.safetensors  the chosen weights
    result.json          how it ended (`RunResult`)
    log.jsonl            one line a step, one line a validation
    checkpoint/          where to go on after an interruption
    table.csv            scores of the test cases
    examples/            a few test cases with all that was predicted, for pictures

Nothing in it is ever unpickled, and every file is whole: it is written under another name, flushed
to the disk and renamed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mrprism import __version__
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.images.slicing import Plane, Slicing
from mrprism.learn.finite import not_finite, refuse_not_finite
from mrprism.learn.methods import method_class
from mrprism.learn.methods.method import Method
from mrprism.output.files import write_file

Select = Literal["last", "val", "val-reference"]
Model = TypeVar("Model", bound=BaseModel)


class RunConfig(BaseModel):
    """All settings of a training; the same ones on the same data give the same weights on a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mrprism: str = __version__
    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    backbone: str = "resnet34"
    task: Task
    dataset: str  # its name
    dataset_path: str | None = None  # None: it was given from Python
    window: tuple[float, float] | None = None  # the data set's: file values that become 0 and 1
    dataset_hash: str  # SHA-256 of the resized training and validation cases
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    images: dict[str, str] = Field(default_factory=dict)  # case: `image_mark`; empty in runs of 0.1
    seed: int = Field(default=0, ge=0)
    split_seed: int = Field(default=0, ge=0)
    size: int = Field(default=256, ge=8)
    epochs: int = Field(default=150, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float = Field(default=0.0, ge=0)  # largest gradient norm; 0: not clipped
    augment: Literal["full", "light", "none"] = "full"
    slices: Plane | None = None  # cases are volumes, and these their slices
    neighbours: int = Field(default=0, ge=0)  # slices on each side that come along as channels
    drawn_only: bool = False
    nan: Literal["stop", "skip"] = "stop"  # what becomes of a batch whose loss is no number
    precision: Literal["float32", "bf16"] = "float32"
    select: Select = "last"
    processes: int = 1

    @property
    def slicing(self) -> Slicing | None:
        """How volumes are cut; None for a run on images."""
        return None if self.slices is None else Slicing(self.slices, self.neighbours, self.drawn_only)

    @property
    def network_task(self) -> Task:
        """The task as the network sees it: neighbouring slices are channels."""
        channels = self.slicing.channels(self.task.channels) if self.slicing else self.task.channels
        return replace(self.task, channels=channels)


class RunResult(BaseModel):
    """How a training ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int
    steps: int
    select: Select
    chosen_epoch: int  # counted from 1
    score: float | None  # validation score of the chosen weights; None without validation cases
    collapsed: bool  # the chosen weights give a constant answer
    collapse: tuple[str, ...] = ()  # in what way, one sentence each
    skipped: int = 0  # batches left out because their loss was no number
    parameters: int
    seconds: float
    device: str


@dataclass(frozen=True)
class Run:
    """A run folder that holds at least its config."""

    path: Path
    config: RunConfig

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
            InputError: It is no run folder, or one this version cannot read.
        """
        path = Path(path)
        file = path / "config.json"
        if not file.is_file():
            raise InputError(f"{path} is no run folder: it has no config.json")
        return cls(path, read_model(file, RunConfig))

    @property
    def weights_file(self) -> Path:
        return self.path / "weights.safetensors"

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
        return read_model(file, RunResult) if file.is_file() else None

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log; a last line cut off by a crash is left out."""
        if not self.log_file.is_file():
            return []
        lines = self.log_file.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]


def refuse_existing(path: Path) -> None:
    """Raise InputError where a new run would overwrite something."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        if (path / "config.json").is_file():
            raise InputError(f"{path} holds a run already: go on with it by --resume, or name another folder")
        raise InputError(f"{path} holds something already that is no run: name another folder")


def refuse_another(path: Path, config: RunConfig) -> None:
    """Raise InputError where a run was begun with other settings, or on other data."""
    begun, wanted = Run.open(path).config.model_dump(), config.model_dump()
    for name, value in wanted.items():
        if name not in ("mrprism", "dataset_path") and begun[name] != value:
            how = f"{name} {begun[name]}, not {value}" if len(f"{value}") < 60 else f"another {name}"
            raise InputError(f"{path} holds a run already, begun with {how}: name another folder")


def build_method(name: str, task: Task, backbone: str, options: Mapping[str, Any]) -> Method:
    """A method with fresh weights.

    Raises:
        InputError: No such method, or it has no such option or refuses its value.
    """
    make = method_class(name)
    options = _read_options(name, make, options)
    try:
        method = make(task, backbone=backbone, **options)  # type: ignore[call-arg]
    except (ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        given = f"backbone '{backbone}' and options {dict(options)}"
        raise InputError(f"method '{name}' with {given}: {error}") from error
    return method


def _read_options(name: str, make: type[Method], options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options as its constructor's annotations say."""
    known = inspect.signature(make, eval_str=True).parameters
    passes_on = any(p.kind is p.VAR_KEYWORD for p in known.values())
    own = {
        p.name: Any if p.annotation is p.empty else p.annotation
        for p in known.values()
        if p.name not in ("task", "backbone") and p.kind is not p.VAR_KEYWORD
    }
    read = dict(options)
    for option, value in options.items():
        if option in own:
            try:
                read[option] = TypeAdapter(own[option]).validate_python(value)
            except ValidationError as error:
                said = error.errors()[0]["msg"].lower()
                raise InputError(f"option '{option}' of method '{name}' is {value!r}: {said}") from error
        elif not passes_on:
            raise InputError(f"method '{name}' has no option '{option}'; known: {', '.join(own) or 'none'}")
    return read


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or that is not there."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise InputError(f"device '{device}' is unknown; expected such as cpu, cuda or cuda:1") from None
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device '{device}' was asked for, but torch sees no CUDA device here")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device '{device}' is not here; torch sees {torch.cuda.device_count()} CUDA devices"
        )


def out_of_memory(error: Exception) -> bool:
    """Whether it was memory that torch lacked, which has several ways of saying so."""
    said = ("not enough memory", "out of memory", "alloc_failed")
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error).lower() for words in said)


def load_method(run: Run, device: torch.device | str = "cpu") -> Method:
    """The run's method with its chosen weights, ready to predict.

    Raises:
        InputError: There are no weights yet, or they are not those of this method.
    """
    config = run.config
    if not run.weights_file.is_file():
        raise InputError(f"{run.path} has no weights.safetensors yet: its training has not saved any")
    # the file of pretrained weights is only for the start, and need not be here any more
    options = {name: value for name, value in config.options.items() if name != "encoder_weights"}
    method = build_method(config.method, config.network_task, config.backbone, options)
    load_weights(method, read_tensors(run.weights_file), run.weights_file)
    return method.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def load_weights(method: Method, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Put saved tensors into a method; a buffer takes the size it was saved with.

    Raises:
        InputError: They are those of another method, or a value of them is no number.
    """
    refuse_not_finite(tensors, file)
    owners = {
        f"{prefix}.{name}" if prefix else name: (module, name)
        for prefix, module in method.named_modules()
        for name in module._buffers
    }
    expected = method.state_dict()
    for name, tensor in tensors.items():
        if name in owners and name in expected and expected[name].shape != tensor.shape:
            module, buffer = owners[name]
            setattr(module, buffer, torch.empty_like(tensor, device=expected[name].device))
    expected = method.state_dict()
    wrong = [name for name in expected if name not in tensors or tensors[name].shape != expected[name].shape]
    wrong += [name for name in tensors if name not in expected]
    if wrong:
        raise InputError(
            f"{file}: these are not the weights of this run's method "
            f"({type(method).__name__}): {len(wrong)} of {len(expected)} tensors differ in name or shape, "
            f"first '{wrong[0]}'"
        )
    method.load_state_dict(dict(tensors))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU."""
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is no whole safetensors file: {error}") from error


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file's content; tensors that share memory are written one by one."""
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return to_safetensors(copies)


class Progress(BaseModel):
    """Where a training stands: with the weights and the optimiser's state, all that resuming needs."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0  # the one under way
    step: int = 0  # steps done in it
    total_steps: int = 0
    seconds: float = 0.0
    log_bytes: int = 0  # how long the log was
    chosen_epoch: int | None = None
    score: float | None = None
    collapse: tuple[str, ...] = ()  # of the chosen weights
    skipped: int = 0
    streaks: dict[str, int] = Field(default_factory=dict)  # collapse: for how many validations now


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    progress: Progress
    files: dict[str, str]  # name: SHA-256


def save_checkpoint(
    run: Run,
    progress: Progress,
    method: Method,
    optimiser: torch.optim.Optimizer | None,
    chosen: Mapping[str, Tensor] | None,
) -> None:
    """Save where a training stands; whatever happens meanwhile, one whole checkpoint remains.

    Args:
        chosen: Weights to become the run's weights; None leaves those as they are.

    The new files carry the step in their names, and `state.json` names them with their SHA-256.
    Renaming it is the moment the new checkpoint counts; only then is the old one removed.

    Raises:
        InputError: The disk is full, or a value is no number; the checkpoint before stays.
    """
    folder = run.checkpoint
    tensors = {"weights": method.state_dict()}
    if optimiser is not None:
        tensors["optimiser"] = dict(_optimiser_tensors(optimiser))
    for kind, content in tensors.items():
        if (found := not_finite(content)) is not None:
            raise InputError(
                f"the {kind} of '{found[0]}' became NaN or infinite by step {progress.total_steps}: start anew with "
                f"a lower learning rate than {run.config.learning_rate:g}; {kept_checkpoint(run)}"
            )
    folder.mkdir(exist_ok=True)
    files = {}
    try:
        for kind, content in tensors.items():
            name = f"{kind}-{progress.total_steps}.safetensors"
            data = tensor_bytes(content)
            write_file(folder / name, data)
            files[name] = hashlib.sha256(data).hexdigest()
        if chosen is not None:
            write_file(run.weights_file, tensor_bytes(chosen))
        state = _State(progress=progress, files=files)
        write_file(folder / "state.json", state.model_dump_json(indent=2).encode())
    except InputError as error:
        kept = _read_state(folder) if (folder / "state.json").is_file() else None
        _remove_all_but(folder, {"state.json", *(kept.files if kept else ())})
        raise InputError(f"no checkpoint could be saved: {error}; {kept_checkpoint(run)}") from error
    _remove_all_but(folder, {*files, "state.json"})


def kept_checkpoint(run: Run) -> str:
    """Which checkpoint there is, in words for the end of a sentence."""
    if not (run.checkpoint / "state.json").is_file():
        return "there is no checkpoint yet"
    return f"that of step {_read_state(run.checkpoint).progress.total_steps} is whole"


def load_checkpoint(run: Run, method: Method, optimiser: torch.optim.Optimizer | None) -> Progress:
    """Put the last checkpoint into the method and the optimiser.

    Raises:
        InputError: There is none, or a file of it is damaged.
    """
    folder = run.checkpoint
    if not (folder / "state.json").is_file():
        raise InputError(f"{run.path} has no checkpoint to go on from")
    state = _read_state(folder)
    for name, expected in state.files.items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise InputError(f"{file} is missing or damaged: its SHA-256 is not the one in state.json")
        tensors = read_tensors(file)
        if name.startswith("weights-"):
            load_weights(method, tensors, file)
        elif optimiser is not None:
            refuse_not_finite(tensors, file)
            _load_optimiser(optimiser, tensors)
    return state.progress


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, values in optimiser.state_dict()["state"].items():
        for key, value in values.items():
            yield f"{index}.{key}", torch.as_tensor(value)


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _read_state(folder: Path) -> _State:
    return read_model(folder / "state.json", _State)


def read_model(file: Path, model: type[Model]) -> Model:
    """A JSON file that this package wrote.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is not what this version writes.
    """
    try:
        return model.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{file}: {where}: {first['msg']} (written by another version of mrprism?)"
        ) from error


def _remove_all_but(folder: Path, keep: set[str]) -> None:
    for file in folder.iterdir():
        if file.name not in keep:
            file.unlink(missing_ok=True)
