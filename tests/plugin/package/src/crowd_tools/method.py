"""A plain U-Net that learns the share of raters who marked a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.unet import UNet


class MeanVote(Method):
    """The shared U-Net, trained with cross-entropy or squares on the mean of those who rated."""

    def __init__(
        self, task: Task, *, backbone: str = "resnet34", loss: Literal["bce", "squares"] = "bce"
    ) -> None:
        super().__init__(task)
        self.loss = loss
        self.unet = UNet(task.channels, len(task.structures), backbone)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        assert batch.masks is not None and batch.rated is not None
        rated = batch.rated[..., None, None].float()
        there = rated.sum(1)
        vote = (batch.masks * rated).sum(1) / there.clamp(min=1)
        logits = self.unet(batch.image)
        wrong = functional.binary_cross_entropy_with_logits(logits, vote, reduction="none")
        if self.loss == "squares":
            wrong = (logits.sigmoid() - vote) ** 2
        some = (there > 0).expand_as(wrong)
        yield {self.loss: (wrong * some).sum() / torch.clamp(some.sum(), min=1)}

    def predict(self, batch: Batch) -> Prediction:
        return Prediction(probability=self.unet(batch.image).sigmoid())
