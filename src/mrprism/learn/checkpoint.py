"""Where a training stands, saved so that it can be gone on with whatever happens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.learn.finite import not_finite, refuse_not_finite
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run, read_model
from mrprism.learn.weights import load_weights, read_tensors, tensor_bytes
from mrprism.output.files import write_file


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


def _remove_all_but(folder: Path, keep: set[str]) -> None:
    for file in folder.iterdir():
        if file.name not in keep:
            file.unlink(missing_ok=True)
