"""Accelerate: several processes, mixed precision, trackers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mrprism.core.errors import InputError
from mrprism.learn.devices import check_device, keep_thread_limit

Tracker = Literal["tensorboard", "mlflow", "wandb"]


def accelerator_for(device: str | None, precision: str, track: Tracker | None, out: Path) -> Accelerator:
    """Accelerate's view of the machine; its global state is begun anew when it does not fit."""
    if device is not None:
        check_device(device)
    keep_thread_limit()
    if track is not None:
        _check_tracker(track)
    kind = torch.device(device).type if device else ("cuda" if torch.cuda.is_available() else None)
    helps = kind == "cuda" and torch.cuda.is_bf16_supported()
    mixed = "bf16" if precision == "bf16" or (precision == "auto" and helps) else "no"
    if device and ":" in device:
        torch.cuda.set_device(torch.device(device))
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
        torch.set_float32_matmul_precision("high")
    AcceleratorState._reset_state(reset_partial_state=device is not None)
    return Accelerator(cpu=kind == "cpu", mixed_precision=mixed, log_with=track, project_dir=out / "tracking")


def _check_tracker(track: str) -> None:
    packages = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "wandb": ("wandb",)}
    if track not in packages:
        raise InputError(f"unknown tracker '{track}'; known: {', '.join(packages)}")
    if not any(importlib.util.find_spec(name) for name in packages[track]):
        raise InputError(f"tracking with {track} needs the package '{track}': pip install {track}")
