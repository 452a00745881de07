"""A plain U-Net on one mask per image: the baselines everybody starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mrprism.batch import Batch
from mrprism.errors import InputError
from mrprism.losses import bce
from mrprism.methods.method import Method
from mrprism.networks.unet import UNet
from mrprism.prediction import Prediction
from mrprism.sample import Task


class FusedLabel(Method):
    """The shared U-Net trained with cross-entropy on one fused label.

    `label` is "soft-vote" (the mean of the masks), "label-sampling" (one rater's mask, drawn anew each time;
    Jensen et al., MICCAI 2019), "rater:NAME" (one named rater), "reference" (the arbitrated mask: a ceiling)
    or any fusion of `mrprism.fusion.FUSIONS`, such as "majority" (the hard vote) and "staple".
    """

    def __init__(
        self,
        task: Task,
        *,
        label: str = "soft-vote",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        super().__init__(task)
        self.label = label
        self.unet = UNet(task.channels, len(task.structures), backbone, encoder_weights=encoder_weights)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        target, known = self.targets(batch)
        if known.any():
            yield {"bce": bce(self.unet(batch.image)[known], target[known])}

    def predict(self, batch: Batch) -> Prediction:
        return Prediction(probability=self.unet(batch.image).sigmoid())

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The label (B, C, H, W), and which cases and structures (B, C) have one."""
        masks, rated = batch.masks, batch.rated
        assert masks is not None and rated is not None
        votes = (masks * rated[..., None, None]).sum(1)
        voters = rated.sum(1)
        some = voters > 0
        if self.label == "soft-vote":
            return votes / voters.clamp(min=1)[..., None, None], some
        if self.label == "majority":
            return (2 * votes > voters[..., None, None]).float(), some
        if self.label == "label-sampling":
            drawn = torch.multinomial((rated.float() + 1e-9 * ~rated).transpose(1, 2).flatten(0, 1), 1)
            choice = drawn.view(len(masks), 1, -1, 1, 1).expand(-1, 1, -1, *masks.shape[-2:])
            return masks.gather(1, choice)[:, 0], some
        if self.label == "reference":
            assert batch.reference is not None
            known = ~batch.reference.isnan().flatten(2).any(-1)
            return batch.reference.nan_to_num(), known
        raise InputError(f"unknown label '{self.label}'")
