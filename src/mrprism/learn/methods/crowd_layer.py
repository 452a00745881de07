"""Crowd layer: one small map per rater from the consensus to what that rater would draw.

Source: Rodrigues, Pereira, "Deep learning from crowds", AAAI 2018.

Departures:
- the layer is applied at every pixel, the same everywhere;
- the loss is divided by the number of labels and not of images, so that sparse labels weigh what they should;
- the layer has its own, larger learning rate, for it starts at the identity *on probabilities*, where even a
  certain network could tell a rater of two classes no better than 0.73.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.exclusive import Classes, Grouping, rated_nll
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import UNet, start_heads
from mrprism.learn.space import aside, axes

Kind = Literal["MW", "VW", "VW+B"]


class CrowdLayer(Method):
    """A U-Net whose softmax each rater's layer bends to that rater's masks."""

    needs = frozenset({"named raters", "two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        kind: Kind = "MW",
        layer_rate: float = 100.0,
        grouping: Grouping = "auto",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            kind: A full matrix per rater (MW), a weight per class (VW), or weight and bias (VW+B).
            layer_rate: The layer's learning rate, in multiples of the network's.
        """
        super().__init__(task)
        if kind not in ("MW", "VW", "VW+B"):
            raise InputError(f"kind must be 'MW', 'VW' or 'VW+B', not '{kind}'")
        self.kind, self.layer_rate = kind, layer_rate
        self.classes = Classes(len(task.structures), grouping)
        groups, size, raters = self.classes.groups, self.classes.size, len(task.raters)
        self.unet = UNet(
            task.channels, groups * size, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )
        identity = torch.eye(size) if kind == "MW" else torch.ones(size)
        self.weight = nn.Parameter(identity.expand(raters, groups, *identity.shape).clone())
        if kind == "VW+B":
            self.bias = nn.Parameter(torch.zeros(raters, groups, size))

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        self.classes.prepare(samples)
        start_heads(self, self.classes.levels())

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        layer = [p for name, p in self.named_parameters() if not name.startswith("unet.")]
        return [
            {"params": list(self.unet.parameters()), "lr": learning_rate},
            {"params": layer, "lr": learning_rate * self.layer_rate},
        ]

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        labels, known = self.classes.labels(masks, rated)
        if known.any():
            probability = self.classes.log_probability(self.unet(image)).exp()
            yield {"raters": rated_nll(self.raters(probability), labels, known)}

    def predict(self, batch: Batch) -> Prediction:
        """The layer is taken off; it still tells what each rater would draw."""
        assert batch.image is not None
        probability = self.classes.log_probability(self.unet(batch.image)).exp()
        raters = self.raters(probability).exp()
        confusion = self.confusion(probability)
        return Prediction(
            probability=self.classes.structures(probability),
            raters=self.classes.structures(raters, 2),
            confusion=torch.stack([self.classes.structure_confusion(case) for case in confusion]),
        )

    def raters(self, probability: Float[Tensor, "B G K *space"]) -> Float[Tensor, "B R G K *space"]:
        """Log-probability of what each rater would draw: log-softmax of the bent probabilities."""
        p = probability[:, None]
        if self.kind == "MW":
            bent = sum(
                aside(self.weight[None, ..., k], p) * p[:, :, :, k, None] for k in range(self.classes.size)
            )
            assert isinstance(bent, Tensor)
        else:
            bent = aside(self.weight[None], p) * p
        if self.kind == "VW+B":
            bent = bent + aside(self.bias[None], bent)
        flat = self.classes.close(bent.float().flatten(0, 1), 2).log_softmax(2)
        return flat.view(bent.shape)

    def confusion(self, probability: Float[Tensor, "B G K *space"]) -> Float[Tensor, "B R G K K"]:
        """P(drawn | true), where true is what the network says: means over the pixels it gives to each class.

        The layer alone does not tell, for nothing makes the network's probabilities sharp: a bolder layer on
        milder probabilities draws the same masks. A class that is nowhere is asked of a certain network.
        """
        raters, size = self.raters(probability).exp(), self.classes.size
        chosen = probability.argmax(2)  # (B, G, *space)
        space = axes(raters, 4)
        rows = []
        for k in range(size):
            here = (chosen == k)[:, None, :, None]
            pixels = here.sum(space)
            certain = aside(torch.zeros_like(probability.flatten(3)[..., 0]), probability)
            certain[:, :, k] = 1
            elsewhere = self.raters(certain).exp().flatten(4)[..., 0]
            rows.append(torch.where(pixels > 0, (raters * here).sum(space) / pixels.clamp(min=1), elsewhere))
        return torch.stack(rows, 3)
