"""MrPrism at the outline: the network is one more observer of where the outline lies, and learns from all of them.

ConP proposes a segmentation. DivP says how each rater draws beside it: moved by how much, and how steadily. From
both follows where the outline is, better than the masks or the network alone say, and ConP learns that. Again, a
few times in one training. Where an image has few masks, or one, this is what tells good raters from bad.

The paper does this pixel by pixel with a network for DivP (method "mrprism"). Here DivP is counted: a
displacement and a precision for each rater, `mrprism.learn.outlines`. What it costs does not depend on how many
raters there are, only on how many drew on an image.

Source: after Wu et al., "Multi-rater Prism", arXiv:2212.00601; observers of an outline: this package,
docs/concepts/mrprism.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import ndtr
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.fusion.cases import shared
from mrprism.fusion.one_case import AUTO
from mrprism.fusion.pooling import Pooled
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate
from mrprism.learn.losses import LOSSES, LossName
from mrprism.learn.methods.fuse import fuse_batch
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.unet import UNet
from mrprism.learn.outlines import (
    AXES,
    Dependence,
    Observers,
    Seen,
    answered_distance,
    drawn_by,
    estimate,
    locate,
    look,
)

FIRST = 0.4  # of the training, on masks alone; recurrences divide the rest evenly
MEMORY = 0.97  # of the running mean of the weights, which sees more calmly than the weights of one step
FEW = 1  # masks of an image; where there are more, they know the outline better than the network does
SHARPEST = 0.35  # pixels: no target is surer of its outline than this
TOGETHER = 16  # cases looked at in one go


class Answer(NamedTuple):
    """What a network makes of a batch."""

    logits: Float[Tensor, "B C *space"]
    features: Float[Tensor, "B F"]  # the mean of its deepest


class MrPrismOutline(Method):
    """A plain U-Net whose label is where raters and network together place the outline."""

    needs = frozenset({"two raters"})
    portable: ClassVar[frozenset[str]] = frozenset({"probability"})

    def __init__(
        self,
        task: Task,
        *,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
        recurrences: int = 3,
        by_image: bool = True,
        loss: LossName = "bce+dice",
    ) -> None:
        """
        Args:
            recurrences: How often, in one training, raters are weighed anew beside the network.
            by_image: Whether a rater's precision may depend on the image, where the masks show that it does.
        """
        super().__init__(task)
        if recurrences < 1:
            raise InputError(f"recurrences must be at least 1, not {recurrences}")
        self.recurrences, self.by_image, self.loss = recurrences, by_image, loss
        self.unet = UNet(task.channels, len(task.structures), backbone, encoder_weights=encoder_weights)
        self.average = copy.deepcopy(self.unet).requires_grad_(False).eval()  # of the weights; predicts
        self.observer = copy.deepcopy(self.unet).requires_grad_(False).eval()  # that at the last recurrence
        self.cases: Sequence[MultiRaterSample] = ()
        self.masks_alone: Pooled | None = None  # what they say, once prepared
        self.round: Tensor
        self.register_buffer("round", torch.tensor(0))
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(0))
        raters, structures = len(task.raters), len(task.structures)
        for name, value in vars(Observers.unknown(raters, structures)).items():
            if value is not None:
                self.register_buffer(f"observed_{name}", torch.tensor(value, dtype=torch.float32))
        width = self.unet.encoder.widths[-1]
        self.register_buffer("image_centre", torch.zeros(width))
        self.register_buffer("image_axes", torch.zeros(width, AXES))
        self.register_buffer("image_slopes", torch.zeros(raters, AXES))
        self.register_buffer("image_gained", torch.tensor(0.0))

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        super().prepare(samples)
        self.cases = samples
        self.masks_alone = shared(samples, AUTO, task=self.task)
        for copied in (self.average, self.observer):
            copied.load_state_dict(self.unet.state_dict())

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        return [{"params": list(self.unet.parameters()), "lr": learning_rate}]

    def train(self, mode: bool = True) -> MrPrismOutline:
        super().train(mode)
        self.average.eval()
        self.observer.eval()
        return self

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """A recurrence begins when its share of the training has come."""
        starts = {
            math.ceil(epochs * (FIRST + (1 - FIRST) * r / self.recurrences)) for r in range(self.recurrences)
        }
        if epoch and epoch in starts:
            self._weigh()

    @torch.no_grad()
    def _weigh(self) -> None:
        """DivP: how every rater draws beside the network as it is now, on all training cases."""
        self.observer.load_state_dict(self.average.state_dict())
        seen: list[Seen] = []
        features: list[np.ndarray] = []
        for start in range(0, len(self.cases), TOGETHER):
            batch = collate(self.cases[start : start + TOGETHER], device=self.device)
            answer = self._answer(self.observer, batch)
            features.append(answer.features.cpu().numpy())
            for one in _look(batch, answer):
                seen.append(one._replace(network=one.network[:, :0], drawn={}))  # its numbers are enough
        dependent = np.concatenate(features).astype(float) if self.by_image else None
        self._keep(estimate(seen, dependent, persons=not self.task.anonymous))
        self.round += 1

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """ConP learns where the observers place the outline; before the first recurrence, what masks alone say."""
        target, known = self.targets(batch)
        if known.any():
            logits = self.unet(batch.image)
            yield {self.loss: LOSSES[self.loss](logits[known][:, None], target[known][:, None])}
            self._follow()

    @torch.no_grad()
    def targets(self, batch: Batch) -> tuple[Float[Tensor, "B C *space"], Bool[Tensor, "B C"]]:
        """The label, and which cases and structures have one."""
        assert batch.masks is not None and batch.rated is not None
        raters = batch.rated.sum(1)
        label, known, _ = fuse_batch(AUTO, batch.masks, batch.rated, self.masks_alone)
        few = (raters > 0) & (raters <= FEW)
        if self.round and few.any():
            label = torch.where(few[..., None, None], self.fuse_given(batch), label)
        return label, known

    def consensus_of(self, batch: Batch) -> Tensor:
        """What masks alone say, by the fusion that `mrprism.fusion.auto` chooses."""
        assert batch.masks is not None and batch.rated is not None
        label, known, _ = fuse_batch(AUTO, batch.masks, batch.rated, self.masks_alone)
        return label.masked_fill(~known[..., None, None], float("nan"))

    def fuse_given(self, batch: Batch) -> Float[Tensor, "B C *space"]:
        """Probability of the consensus of given masks and the image."""
        answer = self._answer(self.observer, batch)
        observers = self._observers()
        fused = []
        for one, features in zip(_look(batch, answer), answer.features.cpu().numpy(), strict=True):
            distance, error = locate(one, observers.on(features))
            fused.append(ndtr(distance / np.maximum(error, SHARPEST)[:, None, None]))
        return torch.from_numpy(np.stack(fused)).float().to(answer.logits.device)

    def predict(self, batch: Batch) -> Prediction:
        """The segmentation, what each rater would mark beside it, and the chance that they agree with it."""
        answer = self._answer(self.average, batch)
        probability = answer.logits.float().sigmoid()
        if torch.compiler.is_exporting():
            return Prediction(probability=probability)
        observers = self._observers()
        raters, agreed = [], []
        for structures, features in zip(
            probability.cpu().numpy(), answer.features.cpu().numpy(), strict=True
        ):
            distance = np.stack([answered_distance(structure) for structure in structures])
            radius = np.sqrt(np.maximum((structures > 0.5).sum((-2, -1)), 1) / np.pi)
            marks = drawn_by(distance, radius, observers.on(features))
            raters.append(marks)
            agreed.append(np.where(distance > 0, marks, 1 - marks))
        as_tensor = [torch.from_numpy(np.stack(x)).float().to(probability.device) for x in (raters, agreed)]
        return Prediction(probability=probability, raters=as_tensor[0], confidence=as_tensor[1])

    def _answer(self, network: nn.Module, batch: Batch) -> Answer:
        image = batch.image if batch.as_taken is None else batch.as_taken
        assert isinstance(network, UNet) and image is not None
        features = network.encoder(image)
        logits = network.head(network.decoder(features), image.shape[-2:])
        return Answer(logits, features[-1].float().mean((-2, -1)))

    @torch.no_grad()
    def _follow(self) -> None:
        """The running mean takes a step after the weights."""
        self.steps += 1
        memory = min(MEMORY, float(self.steps / (self.steps + 5)))  # the first weights are soon forgotten
        kept = self.average.state_dict()
        for name, value in self.unet.state_dict().items():
            if value.dtype.is_floating_point:
                kept[name].lerp_(value, 1 - memory)
            else:
                kept[name].copy_(value)

    def _keep(self, found: Observers) -> None:
        for name, value in vars(found).items():
            if isinstance(value, np.ndarray):
                getattr(self, f"observed_{name}").copy_(torch.from_numpy(value))
        if found.images is not None:
            axes = found.images.axes.shape[1]
            self.image_centre.copy_(torch.from_numpy(found.images.centre))  # type: ignore[operator, union-attr]
            self.image_axes.zero_()[:, :axes] = torch.from_numpy(found.images.axes)  # type: ignore[operator, index]
            self.image_slopes.zero_()[:, :axes] = torch.from_numpy(found.images.slopes)  # type: ignore[operator, index]
            self.image_gained.fill_(found.images.gained)  # type: ignore[operator]

    def _observers(self) -> Observers:
        """The buffers as arrays."""
        stored = {name: value.cpu().double().numpy() for name, value in self.named_buffers(recurse=False)}
        observed = {
            name.removeprefix("observed_"): v for name, v in stored.items() if name.startswith("observed_")
        }
        images = Dependence(
            stored["image_centre"],
            stored["image_axes"],
            stored["image_slopes"],
            float(stored["image_gained"]),
        )
        return Observers(**observed, images=images if self.by_image else None)


def _look(batch: Batch, answer: Answer) -> Iterator[Seen]:
    assert batch.masks is not None and batch.rated is not None
    probability = answer.logits.float().sigmoid().cpu().numpy()
    masks, rated = (batch.masks > 0.5).cpu().numpy(), batch.rated.cpu().numpy()
    for structures, drawn, present in zip(probability, masks, rated, strict=True):
        yield look(drawn, present, structures)
