"""WDNet: one head per rater, and how to average the heads.

Source: Guan et al., "Who said what: modeling individual labelers improves classification", AAAI 2018.

Departures:
- heads are per pixel, on one shared U-Net; averaging weights are per rater and structure;
- `uniform` (the paper's DN) is the default, as in MrPrism's Table 1;
- the second stage scores an average without the rater whose mask is the target, for when everyone rates
  everything the paper's rule (only raters who did not rate the case) leaves nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.losses import rated_bce
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import UNet
from mrprism.learn.space import aside, axes


class WDNet(Method):
    """A U-Net with a head per rater, averaged."""

    needs = frozenset({"named raters", "two raters"})
    dims = (2, 3)
    averaging: Tensor  # whether the second stage is on

    def __init__(
        self,
        task: Task,
        *,
        weights: Literal["uniform", "global", "image"] = "uniform",
        second_stage: float = 0.25,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            weights: Of the heads: equal (DN), learned (WDN), or learned and a function of the image (IWDN).
            second_stage: Last share of the epochs, in which the heads are frozen and the weights learned.
        """
        super().__init__(task)
        if weights not in ("uniform", "global", "image"):
            raise InputError(f"weights must be 'uniform', 'global' or 'image', not '{weights}'")
        self.raters, self.structures = len(task.raters), len(task.structures)
        self.weights, self.second_stage = weights, second_stage
        outputs = self.raters * self.structures
        self.unet = UNet(
            task.channels, outputs, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )
        if weights == "global":
            self.logits = nn.Parameter(torch.zeros(outputs))
        if weights == "image":
            self.linear = nn.Linear(self.unet.encoder.widths[-1], outputs)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
        self.register_buffer("averaging", torch.zeros((), dtype=torch.bool))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.averaging.fill_(self.weights != "uniform" and epoch >= round((1 - self.second_stage) * epochs))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        if not self.averaging:
            yield {"raters": rated_bce(self.heads(image)[0], masks, rated)}
            return
        self.unet.eval()  # frozen, batch statistics too
        with torch.no_grad():
            heads, deepest = self.heads(image)
        yield {"average": left_out(heads.sigmoid(), self.log_weights(deepest), masks, rated)}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        heads, deepest = self.heads(batch.image)
        raters = heads.sigmoid()
        weights = aside(self.log_weights(deepest).softmax(1), raters)
        return Prediction(probability=(weights * raters).sum(1), raters=raters)

    def heads(
        self, image: Float[Tensor, "B channel *space"]
    ) -> tuple[Float[Tensor, "B R C *space"], Float[Tensor, "B width *small"]]:
        """Every rater's logits, and the encoder's deepest features."""
        features = self.unet.encoder(image)
        logits = self.unet.head(self.unet.decoder(features), image.shape[2:])
        return logits.unflatten(1, (self.raters, self.structures)), features[-1]

    def log_weights(self, deepest: Float[Tensor, "B width *small"]) -> Float[Tensor, "B R C"]:
        """Logits of the heads' weights; softmax over R."""
        if self.weights == "global":
            flat = self.logits.expand(len(deepest), -1)
        elif self.weights == "image":
            flat = self.linear(deepest.mean(axes(deepest, 2)))
        else:
            flat = deepest.new_zeros(len(deepest), self.raters * self.structures)
        return flat.view(-1, self.raters, self.structures)


def left_out(
    heads: Float[Tensor, "B R C *space"],
    logits: Float[Tensor, "B R C"],
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
) -> Float[Tensor, ""]:
    """Cross-entropy of each rater's mask with the weighted average of all other heads."""
    share = aside((logits.float() - logits.amax(1, keepdim=True)).exp(), heads)
    others = (share * heads).sum(1, keepdim=True) - share * heads
    average = others / (share.sum(1, keepdim=True) - share).clamp(min=1e-6)
    average = average.clamp(1e-6, 1 - 1e-6)
    each = -(masks * average.log() + (1 - masks) * (1 - average).log()).mean(axes(masks, 3))
    return torch.where(rated, each, 0.0).sum() / rated.sum().clamp(min=1)
