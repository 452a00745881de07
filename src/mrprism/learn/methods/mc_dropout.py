"""Monte Carlo dropout: one network, asked several times with other units left out.

Source: Gal, Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.

Departures: whole feature maps of the decoder are dropped; the encoder runs once per image. The passes are
drawn from a fixed seed, so that the same case gets the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.bounds import Done
from mrprism.learn.methods.fused_label import VOTES, FusedLabel
from mrprism.learn.networks.grid import DROPOUT, Grid
from mrprism.learn.networks.unet import UNet


class MCDropout(FusedLabel):
    """`FusedLabel` with dropout in the decoder, kept on when predicting."""

    def __init__(
        self,
        task: Task,
        *,
        dropout: float = 0.3,
        passes: Done = 20,
        label: str = "soft-vote",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        if label == VOTES:
            raise InputError(
                "label 'votes' has an output for each number of raters, which mc-dropout does not draw from; expected "
                "another label, or fused-label"
            )
        super().__init__(task, label=label, backbone=backbone, encoder_weights=encoder_weights)
        if not 0 < dropout < 1 or passes < 1:
            raise InputError(f"dropout must be in (0, 1) and passes at least 1, not {dropout} and {passes}")
        self.draws: int = passes
        self.unet = UNet(
            task.channels,
            len(task.structures),
            backbone,
            dropout=dropout,
            encoder_weights=encoder_weights,
            grid=Grid.of(task),
        )

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        features, size = self.unet.encoder(batch.image), batch.image.shape[2:]
        dropouts = [module for module in self.unet.modules() if isinstance(module, tuple(DROPOUT.values()))]
        learning = self.training
        with torch.random.fork_rng([batch.image.device] if batch.image.is_cuda else []):
            torch.manual_seed(0)
            _train(dropouts, True)
            draws = torch.stack([self._pass(features, size) for _ in range(self.draws)], 1)
            _train(dropouts, learning)
        return Prediction(probability=draws.mean(1), draws=draws)

    def _pass(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        logits: Tensor = self.unet.head(self.unet.decoder(features), size)
        return logits.sigmoid()


def _train(modules: Sequence[nn.Module], on: bool) -> None:
    for module in modules:
        module.train(on)
