"""MrPrism at the outline: the network is one more observer of where the outline lies, beside which raters are told apart.

ConP proposes a segmentation. DivP says how each rater draws beside it: moved by how much, and how steadily. From
both follows what each mask says of the outline and what it is worth, and ConP learns that. Again, a few times in
one training. Where an image has few masks, or one, this is what tells good raters from bad. ConP's own answer
is no part of what it learns, and how unsteady it is is counted on cases that were kept from it, so that it
cannot confirm itself. Asked to fuse given masks, both are observers.

The paper does this pixel by pixel with a network for DivP (method "mrprism"). Here DivP is counted: a
displacement and a precision for each rater, `mrprism.learn.habits`. What it costs does not depend on how many
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
from jaxtyping import Float
from scipy.special import ndtr
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.fusion.auto import Chosen
from mrprism.fusion.cases import shared
from mrprism.fusion.one_case import AUTO
from mrprism.fusion.pooling import Pooled, PooledObservers
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate
from mrprism.learn.habits import AXES, Dependence, Observers, drawn_by, estimate, locate, optimism, worth
from mrprism.learn.losses import LOSSES, LossName
from mrprism.learn.methods.fuse import fuse_batch
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.unet import UNet
from mrprism.learn.outlines import Seen, answered_distance, look

FIRST = 0.4  # of the training, on masks alone; recurrences divide the rest evenly
MEMORY = 0.97  # of the running mean of the weights, which sees more calmly than the weights of one step
FOLD = 6  # one case in so many is kept from the network until it has been weighed for the first time
ENOUGH = 8  # cases, at least, that show a habit, or that are kept from the network; else neither is done
SHARPEST = 0.35  # pixels: no target is surer of its outline than this
TOGETHER = 16  # cases looked at in one go


class Answer(NamedTuple):
    """What a network makes of a batch."""

    logits: Float[Tensor, "B C *space"]
    features: Float[Tensor, "B F"]  # the mean of its deepest


class MrPrismOutline(Method):
    """A plain U-Net whose label is what the raters say of the outline, once their habits beside it are known."""

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
        self.held: frozenset[str] = frozenset()  # cases that the network does not learn from at first
        self.lone = torch.ones(
            len(task.structures), dtype=torch.bool
        )  # only lone masks are fused with the network
        self.round: Tensor
        self.register_buffer("round", torch.tensor(0))
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor(0))
        self.hidden: Tensor
        self.register_buffer("hidden", torch.ones(2, len(task.structures)))
        self.usual: Tensor
        self.register_buffer("usual", torch.ones(len(task.structures)))
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
        self.held = _held(samples)
        self.lone = torch.tensor(_without_style(self.masks_alone, len(self.task.structures)))
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
        if epoch and epoch in starts and len(self.cases) >= ENOUGH:
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
        persons = not self.task.anonymous
        if self.held and not self.round:
            held = np.array([case.name in self.held for case in self.cases])
            self.hidden.copy_(torch.from_numpy(optimism(seen, held, persons=persons)))
        dependent = np.concatenate(features).astype(float) if self.by_image else None
        hidden = self.hidden.cpu().double().numpy()
        found = estimate(seen, dependent, persons=persons, hidden=hidden)
        self._keep(found)
        raters_on = [found] * len(seen) if dependent is None else [found.on(one) for one in dependent]
        each = np.array([worth(one, raters) for one, raters in zip(seen, raters_on, strict=True)])
        told = np.isfinite(each).any(0)
        self.usual[torch.from_numpy(told)] = (
            torch.from_numpy(np.nanmean(each[:, told], 0)).float().to(self.device)
        )
        self.round += 1

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """ConP learns where the raters place the outline, most from images of which they say most."""
        target, weight = self.targets(batch)
        if not self.round:
            held = torch.tensor([name in self.held for name in batch.names], device=weight.device)
            weight = weight * ~held[:, None]
        assert batch.rated is not None
        if not batch.rated.any():
            return
        known, logits = weight > 0, self.unet(batch.image)
        # of several processes one may have nothing but cases that are held: the others wait for its part of the step
        loss = 0 * logits.float().sum()
        if known.any():
            each = [
                LOSSES[self.loss](one[None], label[None])
                for one, label in zip(logits[known][:, None], target[known][:, None], strict=True)
            ]
            loss = (torch.stack(each) * weight[known]).mean()
        yield {self.loss: loss}
        self._follow()

    @torch.no_grad()
    def targets(self, batch: Batch) -> tuple[Float[Tensor, "B C *space"], Float[Tensor, "B C"]]:
        """The label, and what it weighs; 0: there is none.

        From the first recurrence on it is what the masks say once each rater's habit beside the network is taken off.
        The network's own answer is no part of it: a network that learns from itself does not learn.
        """
        assert batch.masks is not None and batch.rated is not None
        raters = batch.rated.sum(1)
        known = raters > 0
        asked = known & ((raters == 1) | ~self.lone.to(raters.device)) & (self.round > 0)
        label, weight = torch.zeros_like(batch.masks[:, 0]), known.float()
        if (known & ~asked).any():
            label, _, _ = fuse_batch(AUTO, batch.masks, batch.rated, self.masks_alone)
        if asked.any():
            styled, worth_it = self._from_raters(batch)
            label = torch.where(asked[..., None, None], styled, label)
            weight = torch.where(asked, worth_it, weight)
        return label, weight

    def _from_raters(self, batch: Batch) -> tuple[Float[Tensor, "B C *space"], Float[Tensor, "B C"]]:
        """What given masks say of the outline, and how much it is worth beside a usual image of the training."""
        answer = self._answer(self.observer, batch)
        observers, usual = self._observers(), self.usual.cpu().double().numpy()
        labels, weights = [], []
        for one, features in zip(_look(batch, answer), answer.features.cpu().numpy(), strict=True):
            raters = observers.on(features)
            distance, error = locate(one, raters, network=False)
            labels.append(_marked(distance, np.where(np.isfinite(error), error, 1)))
            weights.append(
                np.where(np.isfinite(error), np.nan_to_num(worth(one, raters) / usual, nan=1.0), 0.0)
            )
        as_tensor = [
            torch.from_numpy(np.stack(x)).float().to(answer.logits.device) for x in (labels, weights)
        ]
        return as_tensor[0], as_tensor[1]

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
            fused.append(_marked(*locate(one, observers.on(features))))
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


def _marked(
    distance: Float[np.ndarray, "C H W"], error: Float[np.ndarray, " C"]
) -> Float[np.ndarray, "C H W"]:
    """The chance that a pixel lies inside."""
    chance: np.ndarray = ndtr(distance / np.maximum(error, SHARPEST)[:, None, None])
    return chance


def _held(samples: Sequence[MultiRaterSample]) -> frozenset[str]:
    """Cases by which the network is judged before it learns from them: every sixth patient, if masks can judge it.

    It takes several masks of an image to tell the network's errors from a rater's.
    """
    patients = [case.name if case.group is None else case.group for case in samples]
    some = set(list(dict.fromkeys(patients))[::FOLD])
    held = [case for case, patient in zip(samples, patients, strict=True) if patient in some]
    judges = sum(bool((case.rated.sum(0) > 1).any()) for case in held)
    return frozenset(case.name for case in held) if judges >= ENOUGH else frozenset()


def _without_style(masks_alone: Pooled, structures: int) -> list[bool]:
    """Where several masks of an image are better fused without the network: raters there have no style of their own.

    Who draws well changes from image to image, or nobody knows who drew; what a rater does beside the network on
    other images then says little.
    """
    alone = masks_alone.pools.get("outline") if isinstance(masks_alone, Chosen) else None
    if not isinstance(alone, PooledObservers):
        return [True] * structures
    return [observers.erratic for observers in alone.observers]


def _look(batch: Batch, answer: Answer) -> Iterator[Seen]:
    assert batch.masks is not None and batch.rated is not None
    probability = answer.logits.float().sigmoid().cpu().numpy()
    masks, rated = (batch.masks > 0.5).cpu().numpy(), batch.rated.cpu().numpy()
    for structures, drawn, present in zip(probability, masks, rated, strict=True):
        yield look(drawn, present, structures)
