"""What is asked of a training: every setting, as `config.json` of its run keeps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mrprism import __version__
from mrprism.core.sample import Task
from mrprism.images.slicing import Plane, Slicing

Augment = Literal["full", "light", "none"]
Select = Literal["last", "val", "val-reference"]


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
    augment: Augment = "full"
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


def steps_per_epoch(cases: int, batch_size: int, processes: int = 1) -> int:
    """Whole batches in one epoch; fewer cases than one batch make one smaller step."""
    return max(1, cases // (batch_size * processes))
