"""The whole interface of a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch, Reads, mean_of_raters
from mrprism.learn.networks.unet import RAREST, start_heads


class Method(nn.Module, ABC):
    """Learns from several raters' masks and predicts a consensus.

    A subclass takes ``(task, *, backbone=..., **options)`` with its paper's defaults.
    """

    reads: ClassVar[Reads] = "image"  # what predict may look at
    # what of its answers torch alone works out, so that it can be told in ONNX
    portable: ClassVar[frozenset[str]] = frozenset({"probability", "raters", "confidence"})
    needs: ClassVar[frozenset[str]] = frozenset()  # of "named raters", "diagnosis", "reference", "two raters"
    dims: ClassVar[tuple[int, ...]] = (
        2,
    )  # what it learns from: 2, images and slices; 3, volumes as they are

    draws: int | None = None  # how many outlines are drawn for a case, where that can be asked for

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        """Look once at the training masks before the first step: outputs begin at how often they are marked."""
        marked = np.zeros(len(self.task.structures))
        for sample in samples:
            marked += _share_marked(sample)
        start = torch.logit(torch.from_numpy(marked / max(1, len(samples))).float(), eps=RAREST)
        start_heads(self, start)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Move schedules and per-epoch estimates on; state lives in buffers, so that it is saved."""

    def begin_step(self, step: int) -> None:
        """Told which step of the training comes, from 0, the same in all processes: for what takes turns."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        """What the optimiser is given; override to give a part its own learning rate."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    @abstractmethod
    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """The named terms of one optimiser step at each yield; the trainer sums, logs and steps."""

    @abstractmethod
    def predict(self, batch: Batch) -> Prediction:
        """Tensors with B in front; called under ``torch.inference_mode`` and in eval mode."""

    def consensus_of(self, batch: Batch) -> Tensor:
        """What this method takes the masks of a batch to say, (B, C, *space); NaN where nobody rated the structure.

        It is what `select="val-consensus"` chooses an epoch by: the majority vote, unless a method fuses masks itself.
        """
        share = mean_of_raters(batch)
        return (share > 0.5 + 1e-6).float().masked_fill(share.isnan(), float("nan"))

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))


def _share_marked(sample: MultiRaterSample) -> np.ndarray:
    """The share of pixels in each structure, by those who rated it."""
    there = sample.rated
    share: np.ndarray = (sample.masks.mean(tuple(range(2, sample.masks.ndim))) * there).sum(0) / np.maximum(
        there.sum(0), 1
    )
    return share
