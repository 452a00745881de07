"""Diagnosis first: the raters' masks fused so that a classifier finds the diagnosis best.

Source: Wu et al., "Opinions vary? Diagnosis first!", arXiv:2202.06505.

A classifier learns the diagnosis from the image and a fusion of the masks; then it is frozen, and for each
image the maps of trust are sought under which it finds the true diagnosis most certainly. The masks fused so
are what the segmentation learns.

Departures:
- the maps are low-resolution grids, enlarged; the released code uses a network of coordinates (CPPN) for the
  same end, to keep high frequencies out. Both start at equal trust;
- they are sought for each batch as augmented, in few large steps, and not once per image in 256 small ones;
- the classifier sees one channel per structure and random mixtures of the raters, so that it knows fusions;
- while the classifier learns, in the first third of the epochs, the segmentation learns the soft vote.

`DiagnosisFirst` reads the image only. `DiagnosisFirstFusion` fuses the masks of the case it is asked about
(Table 3); the case's diagnosis is unknown then, so the classifier's own verdict on the soft vote stands in
for it. The paper uses the true one, which is not comparable with fusions that are told nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch, Reads
from mrprism.learn.bounds import Done
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.mrnet import draw_expertise, rated_mean_bce, weighted_vote
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.unet import UNet

GRID = 8  # the maps of trust have GRID x GRID free values


class DiagnosisFirst(Method):
    """A U-Net trained on the fusion that serves the diagnosis."""

    needs = frozenset({"two raters", "diagnosis"})
    judging: Tensor  # whether the classifier is frozen and decides the fusion
    positive: Tensor  # weight of the positive cases in the classifier's loss

    def __init__(
        self,
        task: Task,
        *,
        first_stage: float = 1 / 3,
        steps: Done = 20,
        step_size: float = 0.3,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            first_stage: Share of the epochs in which the classifier learns.
            steps: Steps in the search for an image's maps of trust, each of `step_size`, by Adam.
        """
        super().__init__(task)
        self.first_stage, self.steps, self.step_size = first_stage, steps, step_size
        self.unet = UNet(task.channels, len(task.structures), backbone, encoder_weights=encoder_weights)
        self.classifier = Classifier(task.channels + len(task.structures), backbone)
        self.register_buffer("judging", torch.zeros((), dtype=torch.bool))
        self.register_buffer("positive", torch.ones(()))

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        super().prepare(samples)
        known = [sample.diagnosis for sample in samples if sample.diagnosis is not None]
        if len(set(known)) < 2:
            raise InputError(
                "method 'diagnosis-first' needs cases with and cases without the disease to learn from"
            )
        self.positive.fill_(known.count(0) / max(1, len(known) - known.count(0)))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.judging.fill_(epoch >= max(1, round(self.first_stage * epochs)))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated, diagnosis = batch.image, batch.masks, batch.rated, batch.diagnosis
        assert image is not None and masks is not None and rated is not None and diagnosis is not None
        if not rated.any():
            return
        terms = {}
        if self.judging:
            expertise = self.search(image, masks, rated, diagnosis)
            target, known = fuse_under(masks, rated, expertise)
        else:
            target, known = weighted_vote(masks, rated, draw_expertise("uniform", rated.any(2)))
            told = diagnosis >= 0
            if told.any():
                mixture, _ = weighted_vote(masks, rated, draw_expertise("random", rated.any(2)))
                terms["diagnosis"] = F.binary_cross_entropy_with_logits(
                    self.classifier(image, mixture)[told], diagnosis[told].float(), pos_weight=self.positive
                )
        yield terms | {"segmentation": rated_mean_bce(self.unet(image), target, known)}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        return Prediction(probability=self.unet(batch.image).sigmoid())

    def search(
        self,
        image: Float[Tensor, "B channel H W"],
        masks: Float[Tensor, "B R C H W"],
        rated: Bool[Tensor, "B R C"],
        diagnosis: Int64[Tensor, " B"],
    ) -> Float[Tensor, "B R H W"]:
        """Logits of the trust in each rater at each pixel that make the classifier surest of the diagnosis.

        Equal trust where the diagnosis is not known (-1).
        """
        sign = torch.where(diagnosis < 0, 0, 2 * diagnosis - 1)
        self.classifier.requires_grad_(False).eval()
        with torch.inference_mode(False), torch.enable_grad():
            # tensors made where nothing is recorded cannot enter what is recorded; copies of them can
            image, masks, rated, sign = image.clone(), masks.clone(), rated.clone(), sign.clone()
            maps = torch.zeros(*masks.shape[:2], GRID, GRID, device=masks.device, requires_grad=True)
            optimiser = torch.optim.Adam([maps], lr=self.step_size)
            for _ in range(self.steps):
                fused, _ = fuse_under(masks, rated, enlarge(maps, masks.shape[-2:]))
                optimiser.zero_grad()
                (-(sign * self.classifier(image, fused)).sum()).backward()
                optimiser.step()
        self.classifier.requires_grad_(True).train(self.training)
        return enlarge(maps.detach(), masks.shape[-2:])


class DiagnosisFirstFusion(DiagnosisFirst):
    """Fuses given masks under the trust that makes the classifier surest of its own verdict."""

    reads: ClassVar[Reads] = "both"

    def predict(self, batch: Batch) -> Prediction:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        equal, _ = weighted_vote(masks, rated, draw_expertise("uniform", rated.any(2)))
        verdict = (self.classifier(image, equal) > 0).long()
        trust = self.search(image, masks, rated, verdict)
        if batch.given is not None:  # fused at their own size
            masks, trust = batch.given, enlarge(trust, batch.given.shape[-2:])
        fused, _ = fuse_under(masks, rated, trust)
        return Prediction(probability=fused)


class Classifier(nn.Module):
    """One logit per image, from the image and a fused mask."""

    def __init__(self, channels: int, backbone: str) -> None:
        super().__init__()
        self.encoder = Encoder(channels, backbone)
        self.linear = nn.Linear(self.encoder.widths[-1], 1)

    def forward(
        self, image: Float[Tensor, "B channel H W"], mask: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, " B"]:
        features = self.encoder(torch.cat([image, mask], 1))[-1]
        logits: Tensor = self.linear(features.mean((-2, -1)))[:, 0]
        return logits


def enlarge(maps: Float[Tensor, "B R h w"], size: Sequence[int]) -> Float[Tensor, "B R H W"]:
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def fuse_under(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], trust: Float[Tensor, "B R H W"]
) -> tuple[Float[Tensor, "B C H W"], Bool[Tensor, "B C"]]:
    """Masks averaged under a softmax of trust over those who rated, and where anyone did."""
    known = rated.any(1)
    absent = ~rated & known[:, None]  # where nobody rated, all count, so that the softmax stays a number
    weight = trust[:, :, None].masked_fill(absent[..., None, None], -torch.inf).softmax(1)
    votes = masks.masked_fill(~rated[..., None, None], 0.0)
    return (weight * votes).sum(1).clamp(max=1), known
