"""AggNet: expectation-maximisation around a network, the raters' confusions learned on the side.

Source: Albarqouni et al., "AggNet: deep learning from crowds for mitosis detection in breast cancer
histology images", IEEE TMI 35(5), 2016, doi:10.1109/TMI.2016.2528120.

Departures:
- several classes, and one confusion matrix per rater for all pixels;
- the E-step is done inside each batch with the last epoch's confusions, so that no posterior is stored;
- the M-step uses the posterior of the whole epoch (the network's view and the votes), smoothed by 0.01;
- `margin` restricts the M-step to the neighbourhood of what anyone marked, `disputed` to where raters differ: otherwise
  the background makes every rater look specific, as in STAPLE. Neither is the paper's, nor the default;
- `loss="ce+dice"` adds the Dice of the structures, which most networks here learn from, to the paper's cross-entropy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.losses import dice_apart
from mrprism.learn.methods.exclusive import (
    Classes,
    Grouping,
    confusion_counts,
    evidence,
    rows_to_one,
    through,
    vote_share,
)
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid, widened
from mrprism.learn.networks.unet import UNet, start_heads
from mrprism.learn.space import aside, axes

SMOOTHING = 1e-2
LEAST_PROBABILITY, LEAST_RATE = 1e-3, 1e-4  # floors under the logarithms of the E-step


class AggNet(Method):
    """A U-Net trained on the posterior of its own view and the raters' votes."""

    needs = frozenset({"named raters", "two raters"})
    dims = (2, 3)
    confusion: Tensor  # (R, G, K, K) P(drawn | true) of the last M-step
    counts: Tensor  # (R, G, K, K) expected pixels of this epoch, [true, drawn]
    warming: Tensor  # whether the network still learns the vote shares

    def __init__(
        self,
        task: Task,
        *,
        warmup_epochs: int = 1,
        margin: int | None = None,
        disputed: bool = False,
        loss: Literal["ce", "ce+dice"] = "ce",
        grouping: Grouping = "auto",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            warmup_epochs: First epochs, in which the network learns the vote shares.
            margin: Pixels around anything marked that the M-step reads; None: the whole image.
            disputed: The M-step reads only pixels on which the raters of a case differ.
        """
        super().__init__(task)
        self.warmup_epochs, self.margin = warmup_epochs, margin
        self.disputed, self.loss = disputed, loss
        self.classes = Classes(len(task.structures), grouping)
        groups, size, raters = self.classes.groups, self.classes.size, len(task.raters)
        self.unet = UNet(
            task.channels, groups * size, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )
        self.register_buffer("confusion", self.classes.initial_confusion().repeat(raters, 1, 1, 1))
        self.register_buffer("counts", torch.zeros(raters, groups, size, size))
        self.register_buffer("warming", torch.tensor(True))

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        """First confusions: each rater against the vote shares of the training set."""
        self.classes.prepare(samples)
        start_heads(self, self.classes.levels())
        counts = torch.zeros_like(self.counts)
        for sample in samples:
            masks = torch.from_numpy(sample.masks)[None].float().to(counts.device)
            rated = torch.from_numpy(sample.rated)[None].to(counts.device)
            labels, known = self.classes.labels(masks, rated)
            votes = vote_share(labels, known, self.classes.size)
            counts += confusion_counts(votes, labels, known, self.region(masks, rated))
        self.confusion.copy_(rows_to_one(counts, self.classes.occurs, SMOOTHING))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """M-step, from the counts of the epoch that ended."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.counts)
        if self.counts.any():
            self.confusion.copy_(rows_to_one(self.counts, self.classes.occurs, SMOOTHING))
        self.counts.zero_()
        self.warming.fill_(epoch < self.warmup_epochs)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        labels, known = self.classes.labels(masks, rated)
        log_probability = self.classes.log_probability(self.unet(image))
        consensus = self.e_step(log_probability.detach().exp(), labels, known)
        self.counts += confusion_counts(consensus, labels, known, self.region(masks, rated))
        target = vote_share(labels, known, self.classes.size) if self.warming else consensus
        voted = known.any(1)
        if voted.any():
            each = -(target * log_probability).sum(2)
            each = each.mean(axes(each, 2))
            terms = {"consensus": each[voted].mean()}
            if self.loss == "ce+dice":
                some = voted.all(1)  # a group that nobody rated has no votes to learn from
                if some.any():
                    seen = (self.classes.structures(x[some]) for x in (log_probability.exp(), target))
                    terms["dice"] = dice_apart(*seen)
            yield terms

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        probability = self.classes.log_probability(self.unet(batch.image)).exp()
        drawn = through(probability, aside(self.confusion[None], probability[:, None, :, None]))
        seen = self.classes.structure_confusion(self.confusion)
        return Prediction(
            probability=self.classes.structures(probability),
            raters=self.classes.structures(drawn, 2),
            confusion=seen.expand(len(probability), -1, -1, -1, -1),
        )

    def e_step(
        self,
        probability: Float[Tensor, "B G K *space"],
        labels: Int64[Tensor, "B R G *space"],
        rated: Bool[Tensor, "B R G"],
    ) -> Float[Tensor, "B G K *space"]:
        """Posterior of the consensus: μ_k ∝ p_k · Π_r P(z_r | k)."""
        votes = evidence((self.confusion + LEAST_RATE).log(), labels, rated)
        return self.classes.close((probability + LEAST_PROBABILITY).log() + votes, 2).softmax(2)

    def region(
        self, masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
    ) -> Bool[Tensor, "B *space"] | None:
        """Pixels the M-step reads."""
        if self.margin is None and not self.disputed:
            return None
        marked, drawn = (masks > 0.5) & aside(rated, masks), (masks > 0.5) | ~aside(rated, masks)
        union = (marked.any(1) & ~drawn.all(1)).any(1) if self.disputed else marked.flatten(1, 2).any(1)
        return union if self.margin is None else widened(union.float(), self.margin) > 0
