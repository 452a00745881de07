"""Weights in files: read without unpickling anything, and put into the method they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mrprism.core.errors import InputError, unknown
from mrprism.learn import tie
from mrprism.learn.devices import on_device
from mrprism.learn.finite import refuse_not_finite
from mrprism.learn.header import (
    SPARE,
    Header,
    Stored,
    TooManyPartsError,
    check_weights,
    few_parts,
    read_header,
)
from mrprism.learn.methods import METHODS
from mrprism.learn.methods.build import build_method
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run
from mrprism.learn.settings import RunConfig
from mrprism.learn.tie import refuse_other_settings


def load_method(run: Run, device: torch.device | str = "cpu") -> Method:
    """The run's method with its chosen weights, ready to predict.

    Raises:
        InputError: There are no weights yet, or they are not those of this method.
    """
    if run.config.method not in METHODS:
        raise InputError(
            f"{run.path}: {unknown('method', run.config.method, METHODS)}; where another package offers it, "
            "install that package"
        )
    file = run.weights_file
    if not file.is_file():
        raise InputError(f"{run.path} has no weights.safetensors yet: its training has not saved any")
    refuse_untied(run)
    check_outline(run.config, read_header(file), file)
    method = _build(run.config)
    load_weights(method, read_tensors(file), file, len(run.config.train))
    return on_device(method, device).eval()


def refuse_untied(run: Run) -> None:
    """Refuse a run whose weights were trained with other settings than its config.json says.

    Raises:
        InputError: It names what differs.
    """
    file = run.weights_file
    refuse_other_settings(
        run.config, tie.read(read_header(file).about, file), str(file), old=not run.config.tied
    )


def check_outline(config: RunConfig, header: Header, file: Path) -> None:
    """Compare what a config asks for with what a file announces, before either takes memory.

    Raises:
        InputError: The config is not that of these weights.
    """
    try:
        with torch.device("meta"), few_parts(3 * len(header.tensors) + SPARE, file):
            method = _build(config)
    except TooManyPartsError:
        raise
    except Exception:  # a wrong option, or somebody else's method that looks at values while it is built
        with few_parts(3 * len(header.tensors) + SPARE, file):
            method = _build(config)
    check_weights(method, header, file, len(config.train))


def _build(config: RunConfig) -> Method:
    # the file of pretrained weights is only for the start, and need not be here any more
    options = {name: value for name, value in config.options.items() if name != "encoder_weights"}
    return build_method(config.method, config.network_task, config.backbone, options)


def load_weights(method: Method, tensors: Mapping[str, Tensor], file: Path, cases: int) -> None:
    """Put saved tensors into a method; a buffer takes the length it was saved with (see `check_weights`).

    Args:
        cases: How many the run was trained on.

    Raises:
        InputError: They are those of another method, or a value of them is no number.
    """
    stored = {name: Stored(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    check_weights(method, Header(stored, {}), file, cases)
    refuse_not_finite(tensors, file)
    owners = {
        f"{prefix}.{name}" if prefix else name: (module, name)
        for prefix, module in method.named_modules()
        for name in module._buffers
    }
    expected = method.state_dict()
    for name, tensor in tensors.items():
        if name in owners and expected[name].shape != tensor.shape:
            module, buffer = owners[name]
            setattr(module, buffer, torch.empty_like(tensor, device=expected[name].device))
    method.load_state_dict(dict(tensors))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU."""
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a complete safetensors file: {error}") from error


def tensor_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file's content; tensors that share memory are written one by one.

    Args:
        about: What stands beside them, by name.
    """
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return to_safetensors(copies, None if about is None else dict(about))
