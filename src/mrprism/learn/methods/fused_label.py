"""A plain U-Net on one mask per image: the baselines everybody starts from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mrprism.core.errors import InputError, unknown
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.fusion import FUSIONS
from mrprism.fusion.cases import shared
from mrprism.fusion.pooling import EM, Pooled, PooledObservers
from mrprism.learn.batch import Batch
from mrprism.learn.bounds import Pixels
from mrprism.learn.losses import LOSSES, LossName
from mrprism.learn.methods.fuse import fuse_batch
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import UNet
from mrprism.learn.space import aside
from mrprism.learn.vote_heads import level_targets, ordered, ranked_loss

VOTES = "votes"
LABELS = ("soft-vote", "majority", VOTES, "label-sampling", "reference")
TWO_STEPS = {  # label: the fusion whose skill is estimated once, from all training cases
    "pooled-staple": "staple",
    "pooled-dawid-skene": "dawid-skene",
    "pooled-band": "band",
    "outline": "outline",
    "auto": "auto",
}


class FusedLabel(Method):
    """The shared U-Net trained on one fused label.

    `label` is "soft-vote" (the mean of the masks), "votes" (how many raters mark a pixel: an output for each number,
    see `mrprism.learn.vote_heads`; the probability is their mean, the expected share), "label-sampling" (one rater's mask, drawn anew each time;
    Jensen et al., MICCAI 2019), "rater:NAME" (one named rater), "reference" (the arbitrated mask: a ceiling)
    or any fusion of `mrprism.fusion.FUSIONS`, such as "majority" (the hard vote) and "staple". Fusions are
    made of each batch's masks as augmented: what moves a mask moves its fusion. `loss` is one of
    `mrprism.learn.losses.LOSSES`.

    Two steps: for "pooled-staple", "pooled-dawid-skene", "pooled-band", "outline" and "auto" the raters' skill is
    estimated once from the masks of all training cases (`mrprism.fusion.pooling`), without any network, and
    each batch is fused with it. They are the controls for methods that find skill while they learn. "pooled-band"
    counts where raters differ, by how divided they are; the two by EM count in the box around all marks, grown by
    `margin` pixels. "auto" chooses the fusion as `mrprism.fusion.auto` does. If raters are anonymous, "outline" takes
    each image by itself.
    """

    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        label: str = "soft-vote",
        loss: LossName = "bce+dice",
        margin: Pixels = 0,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        super().__init__(task)
        self.rater = _named(label, task) if label.startswith("rater:") else None
        if self.rater is None and label not in (*LABELS, *TWO_STEPS, *FUSIONS):
            fusions = [name for name in FUSIONS if name not in (*LABELS, *TWO_STEPS)]
            raise unknown("label", label, [*LABELS, "rater:NAME", *TWO_STEPS, *fusions])
        if task.anonymous and label.startswith("pooled-"):
            raise InputError(
                f"label '{label}' needs the same raters from case to case, but here they are anonymous: "
                f"'{label.removeprefix('pooled-')}' fuses each image by itself"
            )
        self.label = label
        self.margin = margin
        self.skill: Pooled | None = None  # of "two steps", once prepared
        self.loss: LossName = loss
        # outputs for each structure: one level for each number of raters
        self.levels = len(task.raters) if label == VOTES else 1
        outputs = self.levels * len(task.structures)
        self.unet = UNet(
            task.channels, outputs, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        super().prepare(samples)
        self.check_label(samples)
        if self.two_steps:
            self.skill = self.estimate_skill(samples)

    @property
    def two_steps(self) -> bool:
        """Whether the label needs skill from all training cases."""
        return self.label in TWO_STEPS and not (self.task.anonymous and self.label == "outline")

    def estimate_skill(self, samples: Sequence[MultiRaterSample]) -> Pooled:
        """What the masks of all training cases say about the raters; distances are in pixels of the training."""
        fusion = TWO_STEPS[self.label]
        options: dict[str, Any] = {"margin": self.margin} if fusion in EM else {}
        found = shared(samples, fusion, task=self.task, **options)
        told = isinstance(found, PooledObservers) and all(one.told_apart for one in found.observers)
        if len(self.task.raters) == 2 and not told and self.label != "auto":
            warnings.warn(
                f"label '{self.label}': with two raters the masks do not show which one is better, so their skill is a guess; "
                "label 'majority' keeps what both have marked",
                stacklevel=2,
            )
        return found

    def check_label(self, samples: Sequence[MultiRaterSample]) -> None:
        """Refuse training cases of which none has the label."""
        if self.label == "reference" and all(sample.reference is None for sample in samples):
            raise InputError(
                "label 'reference' needs cases with a reference mask, and no training case has one"
            )
        if self.rater is not None and not any(sample.rated[self.rater].any() for sample in samples):
            raise InputError(f"{self.label.removeprefix('rater:')} rated no training case")

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        if self.label == VOTES:
            yield from self._losses_of_votes(batch)
            return
        target, known = self.targets(batch)
        if known.any():
            each = self.unet(batch.image)[known][:, None], target[known][:, None]
            yield {self.loss: LOSSES[self.loss](*each)}

    def _losses_of_votes(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        assert batch.masks is not None and batch.rated is not None
        target, known = level_targets(batch.masks, batch.rated, self.levels)
        if known.any():
            logits = ordered(self.unet(batch.image), self.levels).transpose(1, 2)[known]
            levels = target.transpose(1, 2)[known]
            yield {"ranked": ranked_loss(logits, levels), self.loss: LOSSES[self.loss](logits, levels)}

    def consensus_of(self, batch: Batch) -> Tensor:
        """The label; the majority vote for a label that is one rater's or the reference, which not all cases have."""
        if self.label in ("reference", "label-sampling") or self.rater is not None:
            return super().consensus_of(batch)
        target, known = self.targets(batch)
        return target.masked_fill(~aside(known, target), float("nan"))

    def predict(self, batch: Batch) -> Prediction:
        if self.label == VOTES:
            at_least = ordered(self.unet(batch.image), self.levels).sigmoid()
            return Prediction(probability=at_least.mean(1), at_least=at_least)
        return Prediction(probability=self.unet(batch.image).sigmoid())

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The label (B, C, *space), and which cases and structures (B, C) have one."""
        masks, rated = batch.masks, batch.rated
        assert masks is not None and rated is not None
        masks = masks.masked_fill(~aside(rated, masks), 0.0)
        votes = masks.sum(1)
        voters = rated.sum(1)
        some = voters > 0
        if self.label in ("soft-vote", VOTES):
            return votes / aside(voters.clamp(min=1), votes), some
        if self.label == "majority":
            return (2 * votes > aside(voters, votes)).float(), some
        if self.label == "label-sampling":
            drawn = torch.multinomial((rated.float() + 1e-9 * ~rated).transpose(1, 2).flatten(0, 1), 1)
            choice = aside(drawn.view(len(masks), 1, -1), masks).expand(-1, 1, -1, *masks.shape[3:])
            return masks.gather(1, choice)[:, 0], some
        if self.label == "reference":
            assert batch.reference is not None
            known = ~batch.reference.isnan().flatten(2).any(-1)
            return batch.reference.nan_to_num(), known
        if self.rater is not None:
            return masks[:, self.rater], rated[:, self.rater]
        fused, known, _ = fuse_batch(self.label, masks, rated, self.skill, self.margin)
        return fused, known


def _named(label: str, task: Task) -> int:
    """Which rater `rater:NAME` is."""
    name = label.removeprefix("rater:")
    if task.anonymous:
        raise InputError(f"label '{label}' names a rater, but the raters of this data set are anonymous")
    if name not in task.raters:
        raise InputError(f"there is no rater '{name}'; known: {', '.join(task.raters)}")
    return task.raters.index(name)
