"""What the weights of a training depend on besides its settings: libraries, processor, threads.

On one machine, with the same libraries and the same number of threads, a training on a CPU gives the same
weights to the last bit, stopped and resumed or not. A run keeps what it was begun with, so that resuming can
keep to it, or say what is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import torch

from mrprism.core.threads import thread_limit
from mrprism.learn.settings import RunConfig

LIBRARIES = ("torch", "numpy", "monai")  # those that compute


def machine_of(device: torch.device) -> dict[str, str]:
    """The libraries that compute, by their versions, the kind of processor, and the device."""
    found = {"device": device.type, "processor": torch.backends.cpu.get_cpu_capability()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@contextmanager
def threads_of(config: RunConfig) -> Iterator[None]:
    """As many threads as the run was begun with, for sums are added up in another order with more or fewer."""
    before = torch.get_num_threads()
    if config.threads is not None:
        torch.set_num_threads(min(config.threads, thread_limit() or config.threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def what_is_lost(config: RunConfig, device: torch.device) -> str | None:
    """Why resuming here cannot give the very weights of a training never stopped; None if it can.

    Never None on a GPU, where nothing of the kind is promised, unless the run was begun on one.
    """
    if config.note is not None:
        return config.note
    now = machine_of(device)
    if config.machine.get("device", "cpu") != "cpu" and device.type != "cpu":
        return None
    differs = [
        f"{name} {then}, now {now.get(name)}"
        for name, then in config.machine.items()
        if now.get(name) != then
    ]
    most = thread_limit()
    if config.threads is not None and most is not None and most < config.threads:
        differs.append(f"{config.threads} threads, now {most} by OMP_THREAD_LIMIT")
    if not differs:
        return None
    return (
        f"the run was begun with {'; '.join(differs)}: it goes on from its checkpoint, but its weights will not be, "
        "bit for bit, those of a training never stopped"
    )
