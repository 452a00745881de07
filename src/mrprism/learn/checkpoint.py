"""Where a training stands, saved so that it can be gone on with whatever happens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.learn.bounds import Score, Seconds, Steps, Text
from mrprism.learn.finite import not_finite, refuse_not_finite
from mrprism.learn.header import read_header
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run, read_model
from mrprism.learn.tie import Settings, refuse_other_settings, settings_of, written
from mrprism.learn.weights import check_outline, load_weights, read_tensors, tensor_bytes
from mrprism.output.files import write_file


class Progress(BaseModel):
    """Where a training stands: with the weights and the optimiser's state, all that resuming needs."""

    model_config = ConfigDict(extra="forbid")

    epoch: Steps = 0  # the one under way
    step: Steps = 0  # steps done in it
    total_steps: Steps = 0
    seconds: Seconds = 0.0
    log_bytes: Steps = 0  # how long the log was
    chosen_epoch: Steps | None = None
    score: Score | None = None
    collapse: tuple[str, ...] = ()  # of the chosen weights
    skipped: Steps = 0
    streaks: dict[str, Steps] = Field(default_factory=dict)  # collapse: for how many validations now


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    progress: Progress
    files: dict[Text, Text]  # name: SHA-256
    settings: Settings | None = None  # those it was trained with; None in runs of 0.1


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
            write_file(run.weights_file, tensor_bytes(chosen, written(settings_of(run.config))))
        state = _State(progress=progress, files=files, settings=settings_of(run.config))
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


def check_checkpoint(run: Run) -> None:
    """Refuse a checkpoint that is not of this run's settings, before any data are read.

    Raises:
        InputError: It was trained with other settings, or holds another network.
    """
    state = _read_state(run.checkpoint)
    refuse_other_settings(run.config, state.settings, str(run.checkpoint), old=not run.config.tied)
    for name in state.files:
        file = _file(run.checkpoint, name)
        header = read_header(file)
        if name.startswith("weights-"):
            check_outline(run.config, header, file)


def _file(folder: Path, name: str) -> Path:
    """A file that the state names, which lies in its folder and nowhere else."""
    if Path(name).name != name or not name.startswith(("weights-", "optimiser-")):
        raise InputError(
            f"{folder / 'state.json'} names the file '{name}'; expected weights and an optimiser's state"
        )
    return folder / name


def check_place(run: Run, progress: Progress, epochs: int, steps: int) -> None:
    """Refuse a place that a training of so many epochs of so many steps has not got.

    Raises:
        InputError: The training never stands there, or its log is shorter than it was.
    """
    most = steps * progress.epoch + progress.step
    if progress.epoch > epochs or progress.step > steps or progress.total_steps != most:
        raise InputError(
            f"{run.checkpoint} stands at step {progress.step} of epoch {progress.epoch + 1}, "
            f"{progress.total_steps} in all, which a training of {epochs} epochs of {steps} steps never does"
        )
    held = run.log_file.stat().st_size if run.log_file.is_file() else 0
    if progress.log_bytes > held:
        raise InputError(
            f"{run.log_file} has {held} bytes; its checkpoint was saved when it had {progress.log_bytes}"
        )


def load_checkpoint(run: Run, method: Method, optimiser: torch.optim.Optimizer | None) -> Progress:
    """Put the last checkpoint into the method and the optimiser.

    Raises:
        InputError: There is none, a file of it is damaged, or it is of other settings.
    """
    folder = run.checkpoint
    if not (folder / "state.json").is_file():
        raise InputError(f"{run.path} has no checkpoint to go on from")
    state = _read_state(folder)
    refuse_other_settings(run.config, state.settings, str(folder), old=not run.config.tied)
    for name, expected in state.files.items():
        file = _file(folder, name)
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise InputError(f"{file} is missing or damaged: its SHA-256 is not the one in state.json")
        tensors = read_tensors(file)
        if name.startswith("weights-"):
            load_weights(method, tensors, file, len(run.config.train))
        elif optimiser is not None:
            refuse_not_finite(tensors, file)
            _load_optimiser(optimiser, tensors, file)
    return state.progress


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, values in optimiser.state_dict()["state"].items():
        for key, value in values.items():
            yield f"{index}.{key}", torch.as_tensor(value)


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], file: Path) -> None:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        known = (
            key in ("step", "exp_avg", "exp_avg_sq") and index.isdecimal() and int(index) < len(parameters)
        )
        if not known or tensor.shape != (() if key == "step" else parameters[int(index)].shape):
            raise InputError(
                f"{file}: this is not the optimiser's state of this run: '{name[:200]}' does not fit"
            )
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _read_state(folder: Path) -> _State:
    return read_model(folder / "state.json", _State)


def _remove_all_but(folder: Path, keep: set[str]) -> None:
    for file in folder.iterdir():
        if file.name not in keep:
            file.unlink(missing_ok=True)
