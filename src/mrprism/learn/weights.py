"""Weights in files: read without unpickling anything, and put into the method they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.learn.finite import refuse_not_finite
from mrprism.learn.methods.build import build_method
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run


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
