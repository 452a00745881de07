"""What helps, said where torch only says what failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.learn.devices import out_of_memory
from mrprism.learn.settings import RunConfig


@contextmanager
def training_advice(config: RunConfig) -> Iterator[None]:
    """Which setting to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError, ValueError) as error:
        if "more than 1 value per channel" in str(error):
            raise InputError(
                f"one case of size {config.size} a step is too little for batch norm: "
                "use a larger batch size or size"
            ) from error
        if not out_of_memory(error):
            raise
        if config.plan is not None:
            raise InputError(
                f"out of memory with batch size {config.batch_size} and patches of "
                f"{' × '.join(map(str, config.plan.patch))}: lower the plan's batch_size first, then its patch"
            ) from error
        raise InputError(
            f"out of memory with batch size {config.batch_size} and size {config.size}: "
            "lower the batch size first, then the size"
        ) from error


@contextmanager
def predicting_advice(sample: MultiRaterSample, device: torch.device) -> Iterator[None]:
    """Smaller images, or another device."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        size = " × ".join(str(n) for n in sample.space)
        helps = "predict smaller images" if device.type == "cpu" else "give --device cpu, or smaller images"
        raise InputError(
            f"out of memory with '{sample.name}' of {size} pixels on {device}: {helps}"
        ) from error
