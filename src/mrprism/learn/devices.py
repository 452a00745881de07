"""Where networks compute: which devices there are, what they are called, and when their memory is full."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from mrprism.core.errors import InputError
from mrprism.core.threads import thread_limit

Network = TypeVar("Network", bound=nn.Module)


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


def on_device(network: Network, device: torch.device | str) -> Network:
    """The network there, with channels last: convolutions take a fifth less time on a CPU, those of volumes a quarter."""
    volumes = [part for part in network.modules() if isinstance(part, nn.Conv3d | nn.ConvTranspose3d)]
    if not volumes:
        return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    for part in volumes:
        part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network.to(device)


def keep_thread_limit() -> None:
    """No more threads than OMP_THREAD_LIMIT allows; with more, oneDNN would wait for ever (`thread_limit`)."""
    if (most := thread_limit()) is not None:
        torch.set_num_threads(min(most, torch.get_num_threads()))


def gpu_count() -> int:
    """How many GPUs this process sees."""
    return torch.cuda.device_count()


def out_of_memory(error: Exception) -> bool:
    """Whether it was memory that torch lacked, which has several ways of saying so."""
    said = ("not enough memory", "out of memory", "alloc_failed")
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error).lower() for words in said)


def device_name(device: torch.device) -> str:
    """What a result says it was trained on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
