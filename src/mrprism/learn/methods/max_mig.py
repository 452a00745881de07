"""Max-MIG: two views of one pixel, the network's and the raters', made to share all the information they can.

Source: Cao et al., "Max-MIG: an information theoretic approach for joint learning from crowds", ICLR 2019.

Departures:
- an item is a pixel, drawn evenly over the batch, and the prior is the class frequency of such pixels;
- the pairwise sum over all pairs of items is computed from two column sums (equal to the N × N form);
- S_ii is kept above 1e-6.

`MaxMIG` reads the image only. `MaxMIGForecaster` trains the same way and predicts with both views, the
fusion of the MrPrism paper's Table 3: it reads the masks of the case it is asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch, Reads
from mrprism.learn.bounds import Pixels
from mrprism.learn.methods.exclusive import (
    Classes,
    Grouping,
    confusion_counts,
    evidence,
    rows_to_one,
    vote_share,
)
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import UNet, start_heads
from mrprism.learn.resize import enlarged
from mrprism.learn.space import aside


class MaxMIG(Method):
    """A U-Net and an aggregator of labels, trained to agree beyond chance."""

    needs = frozenset({"named raters", "two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        pixels: Pixels = 16384,
        grouping: Grouping = "auto",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            pixels: Items drawn from a batch; all of them where there are fewer.
        """
        super().__init__(task)
        self.pixels = pixels
        self.classes = Classes(len(task.structures), grouping)
        groups, size, raters = self.classes.groups, self.classes.size, len(task.raters)
        self.unet = UNet(
            task.channels, groups * size, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )
        start = (self.classes.initial_confusion() + 1e-4).log()
        self.aggregator = nn.Parameter(start.repeat(raters, 1, 1, 1))  # W[r, g, true, drawn]

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        """The prior, and first weights log P(drawn | true) from each rater against the vote shares.

        Starting there keeps the optimum with the classes' right names; any permutation is one, too.
        """
        self.classes.prepare(samples)
        start_heads(self, self.classes.levels())
        device = self.aggregator.device
        counts = torch.zeros_like(self.aggregator)
        for sample in samples:
            masks = torch.from_numpy(sample.masks)[None].float().to(device)
            rated = torch.from_numpy(sample.rated)[None].to(device)
            labels, known = self.classes.labels(masks, rated)
            counts += confusion_counts(vote_share(labels, known, self.classes.size), labels, known)
        with torch.no_grad():
            self.aggregator.copy_((rows_to_one(counts, self.classes.occurs, 1e-6) + 1e-4).log())

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        network = self.classes.log_probability(self.unet(image)).exp()
        aggregated, voted = self.aggregate(masks, rated)
        terms = []
        for g in range(self.classes.groups):
            items = voted[:, g].nonzero()[:, 0]
            if not len(items):
                continue
            h, a = (x[items, g].movedim(1, -1).flatten(0, -2) for x in (network, aggregated))
            if len(h) > self.pixels:
                chosen = torch.randint(len(h), (self.pixels,), device=h.device)
                h, a = h[chosen], a[chosen]
            terms.append(mutual_information_loss(h, a, self.classes.share[g]))
        if terms:
            yield {"information": torch.stack(terms).mean()}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        probability = self.classes.log_probability(self.unet(batch.image)).exp()
        return Prediction(probability=self.classes.structures(probability))

    def aggregate(
        self, masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
    ) -> tuple[Float[Tensor, "B G K *space"], Bool[Tensor, "B G"]]:
        """The raters' view, g(z) = softmax(Σ_r W_r e(z_r) + log prior), and where anyone rated."""
        labels, known = self.classes.labels(masks, rated)
        logits = evidence(self.aggregator, labels, known)
        logits = logits + aside(self.classes.share.clamp(min=1e-9).log()[None], logits)
        return self.classes.close(logits, 2).softmax(2), known.any(1)


class MaxMIGForecaster(MaxMIG):
    """Max-MIG's two views multiplied: a fusion of given masks with the image's help."""

    reads: ClassVar[Reads] = "both"

    def predict(self, batch: Batch) -> Prediction:
        """ζ_k ∝ h_k(x) g_k(z) / prior_k."""
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        network = self.classes.log_probability(self.unet(image)).exp()
        if batch.given is not None:  # fused at their own size
            masks = batch.given
            network = enlarged(network, masks.shape[3:])
        aggregated, _ = self.aggregate(masks, rated)
        joint = network * aggregated / aside(self.classes.share.clamp(min=1e-9)[None], network)
        return Prediction(
            probability=self.classes.structures(joint / joint.sum(2, keepdim=True).clamp(min=1e-12))
        )


def mutual_information_loss(
    network: Float[Tensor, "N K"], aggregated: Float[Tensor, "N K"], prior: Float[Tensor, " K"]
) -> Float[Tensor, ""]:
    """Minus the lower bound on the information two views share, in its KL form.

    −[ mean_i (1 + log S_ii) − mean_{i≠j} S_ij ] with S_ij = Σ_k network_ik aggregated_jk / prior_k. The sum
    over pairs is Σ_k (Σ_i network_ik)(Σ_j aggregated_jk) / prior_k less the diagonal: O(N K) and not O(N²).
    """
    items = len(network)
    weighted = network / prior.clamp(min=1e-9)
    same = (weighted * aggregated).sum(1)
    different = (weighted.sum(0) * aggregated.sum(0)).sum() - same.sum()
    return different / (items * (items - 1)) - (1 + same.clamp(min=1e-6).log()).mean()
