"""What a training may take: memory, told or the machine's own, and time, by a step that is timed here."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.sample import Task


@dataclass(frozen=True)
class Machine:
    """What a training may take."""

    memory: float  # bytes
    said: str  # where the number comes from
    backbone: str = "resnet34"
    minutes: float | None = None
    # seconds of one training step with so large a patch and batch at a spacing; asked for only with a time budget
    seconds: Callable[[tuple[int, ...], int, tuple[float, ...] | None], float] | None = None


def machine_for(
    task: Task,
    memory: str | float | None,
    minutes: float | None,
    method: str,
    backbone: str,
    device: str | None,
) -> Machine:
    """What is given, and what this machine has where nothing is.

    Raises:
        InputError: It is no amount of memory or time, or there is no such method, backbone or device.
    """
    if minutes is not None and not 0 < minutes <= 1e6:
        raise InputError(f"minutes are {minutes:g}; expected a number above 0, a million at most")
    if memory is not None:
        size = bytes_of(memory)
        machine = Machine(size, f"{size / 1e9:.3g} GB given", backbone)
    else:
        machine = Machine(*_own_memory(device), backbone)
    if minutes is None:
        return machine
    return replace(machine, minutes=minutes, seconds=_timer(task, method, backbone, device))


def _timer(
    task: Task, method: str, backbone: str, device: str | None
) -> Callable[[tuple[int, ...], int, tuple[float, ...] | None], float]:
    """Seconds of a training step, taken on patches of noise."""

    def seconds(patch: tuple[int, ...], batch_size: int, spacing_mm: tuple[float, ...] | None) -> float:
        import torch

        from mrprism.learn.batch import Batch
        from mrprism.learn.devices import check_device, on_device
        from mrprism.learn.loop import optimiser_for
        from mrprism.learn.methods.build import build_method

        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_device(where)
        deep = len(patch) == 3  # kernels of volumes follow the sides of a voxel
        seen = replace(task, dims=len(patch), spacing_mm=spacing_mm if deep else None)
        one = on_device(build_method(method, seen, backbone, {}), where)
        optimiser = optimiser_for(one, 1e-4)
        if optimiser is None:
            raise InputError(f"method '{method}' trains nothing, so that no time can be planned for it")
        raters, structures = len(task.raters), len(task.structures)
        noise = torch.Generator(where).manual_seed(0)
        shape = (batch_size, raters, structures, *patch)
        batch = Batch(
            names=tuple(map(str, range(batch_size))),
            image=torch.rand((batch_size, task.channels, *patch), generator=noise, device=where),
            masks=(torch.rand(shape, generator=noise, device=where) > 0.5).float(),
            rated=torch.ones((batch_size, raters, structures), dtype=torch.bool, device=where),
            reference=(torch.rand(shape[:1] + shape[2:], generator=noise, device=where) > 0.5).float(),
            diagnosis=torch.zeros(batch_size, dtype=torch.int64, device=where),
            index=torch.arange(batch_size, device=where),
        )
        took: list[float] = []
        for _ in range(3):  # the first one warms up
            started = time.perf_counter()
            for terms in one.losses(batch):
                optimiser.zero_grad(set_to_none=True)
                torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            if where != "cpu":
                torch.cuda.synchronize(where)
            took.append(time.perf_counter() - started)
        fastest: float = min(took[1:])
        return fastest

    return seconds


def bytes_of(text: str | float) -> float:
    """Memory as people write it: "8GB", "500 MB", "16GiB"; a number is bytes.

    Raises:
        InputError: It is none, or out of all proportion.
    """
    if isinstance(text, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
        if found is None:
            raise InputError(f"memory '{text}' is not understood; expected such as 8GB or 500MB")
        number, letter, binary = float(found[1]), found[2], found[3]
        size: float = number * (1024 if binary else 1000) ** " kmgt".index(letter or " ")
    else:
        size = float(text)
    if not 1e8 <= size <= 1e14:
        raise InputError(f"memory '{text}' is {size:g} bytes; expected 100 MB to 100 TB, such as 8GB")
    return size


def _own_memory(device: str | None) -> tuple[float, str]:
    """A GPU's, but for a tenth; else half of what this machine or container has, for other things run there, too."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            own = 0.9 * torch.cuda.get_device_properties(torch.device(device or "cuda")).total_memory
            return own, f"{own / 1e9:.3g} GB, nine tenths of the GPU's"
    sizes = [1e14]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        try:
            sizes.append(float(Path("/sys/fs/cgroup", name).read_text()))
        except (OSError, ValueError):
            continue
    own = min(sizes) / 2 if min(sizes) < 1e14 else 4e9
    return own, f"{own / 1e9:.3g} GB, half of this machine's"
