"""What is asked of a training: every setting, as `config.json` of its run keeps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mrprism import __version__
from mrprism.core.sample import Task
from mrprism.images.slicing import Plane, Slicing
from mrprism.learn.bounds import Augment as Augment
from mrprism.learn.bounds import (
    BatchSize,
    BoundedTask,
    BoundedWindow,
    Clip,
    Epochs,
    Folder,
    Names,
    Neighbours,
    Options,
    Processes,
    Rate,
    Seed,
    Size,
    Text,
)
from mrprism.learn.plan import Plan

Select = Literal["last", "val", "val-consensus", "val-reference"]


class RunConfig(BaseModel):
    """All settings of a training; the same ones on the same data give the same weights on a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mrprism: Text = __version__
    method: Text
    options: Options = Field(default_factory=dict)
    backbone: Text = "resnet34"
    task: BoundedTask
    dataset: Text  # its name
    dataset_path: Folder | None = None  # None: it was given from Python
    reference: Literal["dataset", "decisions"] = (
        "dataset"  # whose references: the data set's, or those settled in the viewer
    )
    window: BoundedWindow = None  # the data set's: file values that become 0 and 1
    several_windows: bool = False  # the images had different ones, so none is remembered
    shares: bool | None = None  # 8 and 16 bit pictures divided by the largest value; None: not known
    dataset_hash: Text  # SHA-256 of the resized training and validation cases
    train: Names
    val: Names
    test: Names
    images: dict[Text, Text] = Field(default_factory=dict)  # case: `image_mark`; empty in runs of 0.1
    seed: Seed = 0
    split_seed: Seed = 0
    size: Size = 256
    epochs: Epochs = 150
    batch_size: BatchSize = 8
    learning_rate: Rate = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    clip: Clip = 0.0  # largest gradient norm; 0: not clipped
    augment: Augment = "full"
    slices: Plane | None = None  # cases are volumes, and these their slices
    neighbours: Neighbours = 0  # slices on each side that come along as channels
    drawn_only: bool = False
    dims: Literal[2, 3] = 2  # of what networks are given: 3 for volumes as they are, without slices
    plan: Plan | None = None  # in place of `size`: see `mrprism.learn.plan`
    nan: Literal["stop", "skip"] = "stop"  # what becomes of a batch whose loss is no number
    precision: Literal["float32", "bf16"] = "float32"
    select: Select = "last"
    processes: Processes = 1
    threads: Processes | None = None  # it was begun with; None in runs of 0.1, as the next
    machine: dict[Text, Text] = Field(default_factory=dict)  # `machine_of`: libraries, processor, device

    @model_validator(mode="after")
    def _each_case_on_one_side(self) -> RunConfig:
        sides = {"train": set(self.train), "val": set(self.val), "test": set(self.test)}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if both := sides[one] & sides[other]:
                raise ValueError(f"case '{min(both)}' is in {one} and in {other}")
        return self

    @model_validator(mode="after")
    def _one_way_to_read(self) -> RunConfig:
        if self.plan is not None and self.slices is not None:
            raise ValueError("there are both a plan and slices; expected one of them")
        if self.plan is not None and self.plan.dims != self.dims:
            raise ValueError(f"dims is {self.dims}, and {self.plan.dims} in the plan; expected the same")
        return self

    @property
    def tied(self) -> bool:
        """Whether the settings stand beside the weights as well, which runs of 0.1 did not have."""
        return bool(self.machine)

    @property
    def note(self) -> str | None:
        """What is to be said of a run that cannot be compared with its weights; None: nothing."""
        if self.tied:
            return None
        return (
            f"the run is of mrprism {self.mrprism}, which did not keep the settings "
            "beside the weights: nobody can know whether config.json was edited since"
        )

    @property
    def slicing(self) -> Slicing | None:
        """How volumes are cut; None for a run on images."""
        return None if self.slices is None else Slicing(self.slices, self.neighbours, self.drawn_only)

    @property
    def network_task(self) -> Task:
        """The task as the network sees it: neighbouring slices are channels; in how many dimensions."""
        channels = self.slicing.channels(self.task.channels) if self.slicing else self.task.channels
        sides = self.plan.spacing_mm if self.plan is not None and self.dims == 3 else None
        return replace(self.task, channels=channels, dims=self.dims, spacing_mm=sides)


def steps_per_epoch(cases: int, batch_size: int, processes: int = 1) -> int:
    """Whole batches in one epoch; fewer cases than one batch make one smaller step."""
    return max(1, cases // (batch_size * processes))
