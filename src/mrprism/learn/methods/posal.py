"""pOSAL: Dice and smoothness, and optionally patches that a discriminator takes for drawn.

Source: Wang et al., "Patch-based output space adversarial learning for joint optic disc and cup
segmentation", IEEE TMI 38(11), 2019.

Departures:
- on the U-Net all methods share, on the whole image; no separate net that finds the disc first;
- learns the soft vote (Dice) and the majority's flat regions (smoothness); structures weigh alike, but
  of two the first weighs 0.4 and the second 0.6, as disc and cup do in the paper;
- an empty structure left empty has Dice 1;
- the adversarial part is off by default. The paper adapts to a second, unlabelled domain; there is none here,
  so the discriminator, when asked for, tells the network's maps from a rater's masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.adversary import PatchDiscriminator
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.mrnet import draw_expertise, weighted_vote
from mrprism.learn.networks.unet import UNet

ADVERSARIAL = 0.01


class POSAL(Method):
    """A U-Net with pOSAL's losses."""

    def __init__(
        self,
        task: Task,
        *,
        adversarial: bool = False,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        super().__init__(task)
        structures = len(task.structures)
        self.structure_weights = (0.4, 0.6) if structures == 2 else (1 / structures,) * structures
        self.unet = UNet(task.channels, structures, backbone, encoder_weights=encoder_weights)
        self.discriminator = PatchDiscriminator(structures) if adversarial else None

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        target, known = weighted_vote(masks, rated, draw_expertise("uniform", rated.any(2)))
        if not known.any():
            return
        made = self.unet(image).float().sigmoid()
        weights = made.new_tensor(self.structure_weights) * known
        terms = {
            "dice": ((1 - squared_dice(made, target)) * weights).sum() / weights.sum(),
            "smooth": smoothness(made, (target > 0.5).float(), known),
        }
        if self.discriminator is not None:
            terms["adversarial"] = ADVERSARIAL * self.discriminator.fooled(made)
        yield terms
        if self.discriminator is not None:
            drawn, _ = weighted_vote(masks, rated, draw_expertise("one-hot", rated.any(2)))
            yield {"discriminator": self.discriminator.tell(drawn, made)}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        return Prediction(probability=self.unet(batch.image).sigmoid())


def squared_dice(
    probability: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B C"]:
    """2 Σyp / (Σy² + Σp²), which is largest at p = y for soft y, too; one pixel is added on both sides."""
    overlap = 2 * (probability * target).sum((-2, -1)) + 1
    return overlap / ((probability**2).sum((-2, -1)) + (target**2).sum((-2, -1)) + 1)


def smoothness(
    probability: Float[Tensor, "B C H W"], hard: Float[Tensor, "B C H W"], known: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Mean over inner pixels of Σ |p_i − p_j| over four neighbours, where all have the same label."""
    inner = probability[..., 1:-1, 1:-1]
    flat = known[..., None, None].expand_as(inner)
    steps = torch.zeros_like(inner)
    height, width = probability.shape[-2:]
    for row, column in ((0, 1), (2, 1), (1, 0), (1, 2)):
        window = (..., slice(row, row + height - 2), slice(column, column + width - 2))
        steps = steps + (inner - probability[window]).abs()
        flat = flat & (hard[..., 1:-1, 1:-1] == hard[window])
    return (steps * flat).mean()
