"""Confusion matrices inside the network: the consensus and each rater's errors, learned together.

Sources: Tanno et al., "Learning from noisy labels by regularized estimation of annotator confusion",
CVPR 2019 (one matrix per rater); Zhang et al., "Disentangling human error from ground truth in segmentation
of medical images", NeurIPS 2020 (one per rater and pixel).

Departures:
- the likelihood is taken of A·p itself; the released code gives A·p to a cross-entropy that applies a
  second softmax;
- never with a single class (a 1×1 matrix normalises to 1 and says nothing): see `exclusive`;
- matrices are a softmax of free logits that starts at 0.9 on the diagonal; softplus of the identity,
  normalised, starts at 0.49 for three classes;
- a warm-up comes first, so that matrices cannot swallow the segmentation: in the first tenth of the epochs
  they are held where they start. Pionono's code maximises the trace instead, which drives a global matrix so
  near the identity that it does not come back; both terms are means over raters;
- pixel-wise matrices are predicted at stride 2 and enlarged, from one small network per rater.
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
from mrprism.learn.methods.exclusive import Classes, Grouping, rated_nll, through
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import IMAGES, INSTANCE_NORM, Grid, smooth
from mrprism.learn.networks.unet import UNet, start_heads
from mrprism.learn.space import aside, axes


class ConfusionMatrix(Method):
    """A U-Net whose probabilities pass each rater's confusion matrix before they meet the masks."""

    needs = frozenset({"named raters", "two raters"})
    dims = (2, 3)
    warming: Tensor  # whether the matrices are still held

    def __init__(
        self,
        task: Task,
        *,
        kind: Literal["global", "pixel"] = "global",
        trace: float | None = None,
        warmup: float = 0.1,
        matrix_rate: float | None = None,
        grouping: Grouping = "auto",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            trace: λ, weight of the trace, which is minimised: the least reliable raters that explain the
                masks. None: 0.01 for global matrices, 0.1 for pixel-wise ones.
            warmup: First share of the epochs, in which the matrices are held where they start; at least
                one epoch unless 0.
            matrix_rate: Learning rate of the matrices in multiples of the network's. None: 10 for global
                ones, 1 for pixel-wise ones.
        """
        super().__init__(task)
        if kind not in ("global", "pixel"):
            raise InputError(f"kind must be 'global' or 'pixel', not '{kind}'")
        if not 0 <= warmup < 1:
            raise InputError(f"warmup is a share of the epochs, in [0, 1), not {warmup}")
        is_global = kind == "global"
        self.warmup = warmup
        self.trace = trace if trace is not None else (0.01 if is_global else 0.1)
        self.matrix_rate = matrix_rate if matrix_rate is not None else (10.0 if is_global else 1.0)
        self.classes = Classes(len(task.structures), grouping)
        groups, size, raters = self.classes.groups, self.classes.size, len(task.raters)
        self.unet = UNet(
            task.channels, groups * size, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )
        self.matrices: GlobalMatrices | PixelMatrices = (
            GlobalMatrices(raters, groups, size)
            if is_global
            else PixelMatrices(self.unet.decoder.width, raters, groups, size, Grid.of(task))
        )
        self.register_buffer("warming", torch.tensor(warmup > 0))

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        self.classes.prepare(samples)
        start_heads(self, self.classes.levels())
        self.matrices.start_at(self.classes.initial_confusion())

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        return [
            {"params": list(self.unet.parameters()), "lr": learning_rate},
            {"params": list(self.matrices.parameters()), "lr": learning_rate * self.matrix_rate},
        ]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        held = min(max(1, round(self.warmup * epochs)), epochs - 1) if self.warmup else 0
        self.warming.fill_(epoch < held)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        labels, known = self.classes.labels(masks, rated)
        if not known.any():
            return
        probability, confusion = self(image)
        if self.warming:
            drawn = through(probability, confusion.detach())
            yield {"raters": rated_nll((drawn + 1e-6).log(), labels, known)}
            return
        drawn = through(probability, confusion)
        diagonal = confusion.diagonal(dim1=3, dim2=4)  # (B, R, G, *space, K)
        open_ = self.classes.occurs[(slice(None), *(None,) * (image.ndim - 2))]
        trace = (diagonal * open_).sum(-1)
        trace = trace.mean(axes(trace, 3))  # (B or 1, R, G)
        trace = torch.where(known, trace, 0.0).sum() / known.sum()
        yield {"raters": rated_nll((drawn + 1e-6).log(), labels, known), "trace": self.trace * trace}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        probability, confusion = self(batch.image)
        raters = self.classes.structures(through(probability, confusion), 2)
        mean = confusion.mean(axes(confusion, 5)).expand(len(probability), -1, -1, -1, -1)
        return Prediction(
            probability=self.classes.structures(probability),
            raters=raters,
            confusion=torch.stack([self.classes.structure_confusion(case) for case in mean]),
        )

    def forward(
        self, image: Float[Tensor, "B channel *space"]
    ) -> tuple[Float[Tensor, "B G K *space"], Float[Tensor, "#B R G K K *#space"]]:
        """Probability of the consensus, and P(drawn | true) of each rater, [true, drawn]."""
        features = self.unet.features(image)
        logits = self.unet.head(features, image.shape[2:])
        matrices = self.matrices(features, image.shape[2:]).float()
        closed = matrices.masked_fill(~aside(self.classes.occurs[None, None, :, None], matrices), -1e4)
        return self.classes.log_probability(logits).exp(), closed.softmax(4)


class GlobalMatrices(nn.Module):
    """One matrix of logits per rater (Tanno et al.)."""

    def __init__(self, raters: int, groups: int, size: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(raters, groups, size, size))

    def start_at(self, confusion: Float[Tensor, "G K K"]) -> None:
        with torch.no_grad():
            self.logits.copy_((confusion + 1e-6).log().expand_as(self.logits))

    def forward(self, features: Tensor, size: Sequence[int]) -> Float[Tensor, "1 R G K K *one"]:
        return self.logits[(None, ..., *(None,) * len(size))]


class PixelMatrices(nn.Module):
    """A matrix of logits per rater and pixel, from the decoder's last features (Zhang et al.)."""

    def __init__(self, width: int, raters: int, groups: int, size: int, grid: Grid = IMAGES) -> None:
        super().__init__()
        self.shape = (groups, size, size)
        self.raters = nn.ModuleList(
            nn.Sequential(_double(width, grid), _double(width, grid), grid.point(width, groups * size * size))
            for _ in range(raters)
        )

    def start_at(self, confusion: Float[Tensor, "G K K"]) -> None:
        with torch.no_grad():
            for rater in self.raters:
                last = rater[-1]  # type: ignore[index]
                last.weight.mul_(0.1)
                last.bias.copy_((confusion + 1e-6).log().flatten())

    def forward(self, features: Tensor, size: Sequence[int]) -> Float[Tensor, "B R G K K *space"]:
        maps = torch.cat([rater(features) for rater in self.raters], 1)
        enlarged = smooth(maps, size)
        matrices: Tensor = enlarged.unflatten(1, (len(self.raters), *self.shape))
        return matrices


def _double(width: int, grid: Grid) -> nn.Sequential:
    def block() -> list[nn.Module]:
        return [
            grid.conv(width, width, grid.kernel(1)),
            INSTANCE_NORM[grid.dims](width, affine=True),
            nn.PReLU(width),
        ]

    return nn.Sequential(*block(), *block())
