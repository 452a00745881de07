"""A small method and a small data set, for tests of what surrounds a method."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset
from mrprism.learn.batch import Batch
from mrprism.learn.methods import METHODS
from mrprism.learn.methods.method import Method

TASK = Task(channels=1, structures=("disc", "cup"), raters=("ann", "bob", "cy"))


def _allowed() -> float:
    """How many batches a process may train on before it waits: as the file says that TOY_HOLD names, if it is there."""
    try:
        return int(Path(os.environ["TOY_HOLD"]).read_text())
    except (KeyError, FileNotFoundError):
        return math.inf


class Toy(Method):
    """Two convolutions with all that resuming has to bring back: dropout, buffers, two steps a batch."""

    def __init__(
        self,
        task: Task,
        *,
        backbone: str = "small",
        width: int = 4,
        wait: float = 0.0,
        fail: str = "",
        plain: bool = False,  # every case counts by itself
    ) -> None:
        super().__init__(task)
        self.wait, self.fail, self.plain = wait, fail, plain
        self.batches = 0
        raters, structures = len(task.raters), len(task.structures)
        self.features = nn.Sequential(
            nn.Conv2d(task.channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2)
        )
        if plain:
            self.features = nn.Sequential(nn.Conv2d(task.channels, width, 3, padding=1), nn.ReLU())
        self.consensus = nn.Conv2d(width, structures, 1)
        self.raters = nn.Conv2d(width, raters * structures, 1)
        self.register_buffer("epoch", torch.zeros(()))
        self.register_buffer("share", torch.zeros(0))

    def prepare(self, samples: object) -> None:
        self.share = torch.tensor([float(sample.masks.mean()) for sample in samples])  # type: ignore[attr-defined]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.epoch += 1 + torch.rand(())

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        time.sleep(self.wait)
        self.batches += 1
        while self.batches > _allowed():
            time.sleep(0.005)
        if self.fail == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.fail == "killed":  # as the system does where memory is short
            os.kill(os.getpid(), signal.SIGKILL)
        assert batch.image is not None
        assert batch.masks is not None
        assert batch.index is not None
        bce = nn.functional.binary_cross_entropy_with_logits
        known = 0 if self.plain else self.share[batch.index].mean() + 0.001 * self.epoch
        loss = bce(self.consensus(self.features(batch.image)), batch.masks.mean(1)) * (1 + known)
        fails = self.fail == "nan" or self.fail in batch.names
        yield {"consensus": loss * (torch.nan if fails else 1)}
        drawn = self.raters(self.features(batch.image))
        yield {"raters": bce(drawn, batch.masks.flatten(1, 2)), "size": 1e-3 * drawn.square().mean()}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        assert batch.masks is None
        probability = self.consensus(self.features(batch.image)).sigmoid()
        raters = self.raters(self.features(batch.image)).sigmoid()
        raters = raters.unflatten(1, (len(self.task.raters), len(self.task.structures)))
        if self.fail == "constant":
            probability = torch.full_like(probability, 0.3)
        confidence = torch.full_like(raters, 0.5) if self.fail == "agreement" else 0.5 + raters / 2
        return Prediction(probability, raters, confidence, steps=(probability / 2, probability))

    def fuse_given(self, batch: Batch) -> Tensor:
        assert batch.masks is not None
        confidence = self.predict(batch.only("image")).confidence
        return (batch.masks * confidence).sum(1) / confidence.sum(1)


class ToyFusion(Method):
    """Reads masks, learns nothing."""

    reads = "masks"

    def __init__(self, task: Task, *, backbone: str = "small") -> None:
        super().__init__(task)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        return iter(())

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is None
        assert batch.masks is not None
        return Prediction(probability=batch.masks.mean(1))


TOYS = {"toy": Toy, "toy-fusion": ToyFusion}
SMALL = {  # how they are trained
    "backbone": "small",
    "size": 20,
    "batch_size": 2,
    "learning_rate": 1e-2,
    "device": "cpu",
    "quiet": True,
}


def register(patch: pytest.MonkeyPatch) -> None:
    """Put the toys among the methods until the patch is undone."""
    for name, toy in TOYS.items():
        patch.setitem(METHODS, name, toy)


def samples(
    count: int, *, height: int = 20, width: int = 20, reference: bool = True
) -> list[MultiRaterSample]:
    """Bright squares with a brighter one inside, outlined by three raters who differ by a pixel."""
    made = []
    for number in range(count):
        draw = np.random.default_rng(number)
        top, left = draw.integers(2, 6, 2)
        truth = np.zeros((2, height, width), bool)
        truth[0, top : top + 10, left : left + 10] = True
        truth[1, top + 3 : top + 8, left + 3 : left + 8] = True
        image = 0.2 + 0.3 * truth[:1] + 0.4 * truth[1:] + draw.normal(0, 0.02, (1, height, width))
        masks = np.stack([np.roll(truth, shift, axis=-1) for shift in (-1, 0, 1)])
        made.append(
            MultiRaterSample(
                name=f"case{number:02d}",
                image=np.clip(image, 0, 1).astype(np.float32),
                masks=masks,
                rated=np.ones((3, 2), bool),
                reference=truth if reference else None,
            )
        )
    return made


def dataset(count: int = 12, **options: object) -> Dataset:
    return Dataset.from_samples("squares", TASK, samples(count, **options))  # type: ignore[arg-type]
