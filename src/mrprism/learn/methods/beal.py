"""BEAL: a boundary branch whose answer helps the mask branch.

Source: Wang et al., "Boundary and entropy-driven adversarial learning for fundus image segmentation",
MICCAI 2019.

Departures:
- on the U-Net all methods share, not on DeepLabv3+ with MobileNetV2; learns the soft vote, and the
  majority's contours;
- contours are blurred with σ = 3 pixels at height 512 and in proportion elsewhere, at least 1 pixel;
- the mask is cut at 0.5 as everywhere here, not at the released evaluation's 0.75;
- the adversarial part is off by default. The paper makes a second, unlabelled domain look like the first;
  there is none here, so the discriminators, when asked for, tell the network's boundary and entropy from
  those of the raters' vote. The entropy is the whole binary entropy and not half of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.adversary import PatchDiscriminator
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.mrnet import draw_expertise, rated_mean_bce, weighted_vote
from mrprism.learn.networks.unet import Head, UNet

ADVERSARIAL = 0.01


class BEAL(Method):
    """The shared U-Net with a boundary branch."""

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
        unet = UNet(task.channels, structures, backbone, encoder_weights=encoder_weights)
        self.encoder, self.decoder, width = unet.encoder, unet.decoder, unet.decoder.width
        self.boundary = nn.Sequential(
            *_block(width), nn.Dropout(0.5), *_block(width), nn.Dropout(0.1), nn.Conv2d(width, 1, 1)
        )
        self.mask = nn.Sequential(nn.BatchNorm2d(width + 1), nn.ReLU(), nn.Dropout(0.1))
        self.head = Head(width + 1, structures)
        self.boundary_discriminator = PatchDiscriminator(1) if adversarial else None
        self.entropy_discriminator = PatchDiscriminator(structures) if adversarial else None

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        target, known = weighted_vote(masks, rated, draw_expertise("uniform", rated.any(2)))
        if not known.any():
            return
        logits, boundary = (x.float() for x in self(image))
        edge, true_edge = boundary.sigmoid(), contour((target > 0.5).float())
        told = known.any(1)
        terms = {
            "mask": rated_mean_bce(logits, target, known),
            "boundary": F.mse_loss(edge[told], true_edge[told]),
        }
        if self.boundary_discriminator is None or self.entropy_discriminator is None:
            yield terms
            return
        made, drawn = entropy(logits.sigmoid()), entropy(target)
        yield terms | {
            "fool_boundary": ADVERSARIAL * self.boundary_discriminator.fooled(edge),
            "fool_entropy": ADVERSARIAL * self.entropy_discriminator.fooled(made),
        }
        yield {
            "boundary_discriminator": self.boundary_discriminator.tell(true_edge, edge),
            "entropy_discriminator": self.entropy_discriminator.tell(drawn, made),
        }

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        return Prediction(probability=self(batch.image)[0].sigmoid())

    def forward(
        self, image: Float[Tensor, "B channel H W"]
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"]]:
        """Logits of the structures and of their contours."""
        features = self.decoder(self.encoder(image))
        boundary = self.boundary(features)
        logits = self.head(self.mask(torch.cat([features, boundary], 1)), image.shape[-2:])
        return logits, F.interpolate(boundary, image.shape[-2:], mode="bilinear", align_corners=False)


def contour(masks: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
    """The contours of all structures in one map, blurred; 1 at its highest in each image that has any."""
    thick = F.max_pool2d(masks, 3, 1, 1) + F.max_pool2d(-masks, 3, 1, 1)
    line = thick.amax(1, keepdim=True)
    sigma = max(1.0, 3 * masks.shape[-2] / 512)
    radius = round(3 * sigma)
    offset = torch.arange(-radius, radius + 1, device=masks.device, dtype=masks.dtype)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    with torch.autocast(masks.device.type, enabled=False):
        blurred = F.conv2d(line, kernel.view(1, 1, -1, 1), padding=(radius, 0))
        blurred = F.conv2d(blurred, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return blurred / blurred.amax((-2, -1), keepdim=True).clamp(min=1e-6)


def entropy(probability: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Binary entropy in nats."""
    p = probability.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())


def _block(width: int) -> list[nn.Module]:
    return [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
