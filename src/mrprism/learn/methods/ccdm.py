"""CCDM: outlines by categorical diffusion, from pure noise to a mask in small steps.

Source: Zbinden et al., "Stochastic segmentation with conditional categorical diffusion models", ICCV 2023,
arXiv:2303.08888.

Departures:
- the shared U-Net reads [noisy mask ‖ image ‖ time], time being the share of pixels that are still as they were; the
  paper's is a diffusion U-Net with attention;
- each structure is a category of two by itself; one network cleans all of them at once;
- 25 of the 250 steps when drawing, evenly spread, unless told otherwise (`steps`): every 10th step is taken, at some loss;
- the moving average of weights begins quickly, for short trainings: its share is at most (1 + n) / (10 + n) after n steps.
Draws are masks of 0 and 1: the last step takes what is more probable.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, rated_cases
from mrprism.learn.bounds import Done
from mrprism.learn.draws import uniform
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.multiple_hypotheses import one_rater
from mrprism.learn.networks.unet import UNet
from mrprism.learn.space import aside, axes

OFFSET = 0.008  # s of the cosine schedule
LEAST = 1e-6  # of a probability in a logarithm


class CCDM(Method):
    """A U-Net that says which pixels of a noisy mask were marked before the noise."""

    def __init__(
        self,
        task: Task,
        *,
        times: Done = 250,
        steps: Done = 25,
        average: float = 0.9999,
        draws: Done = 16,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            times: Steps from a mask to pure noise (T).
            steps: Steps back when drawing, at most `times`.
            average: Share of the old in the moving average of weights that predicts.
            draws: Outlines drawn for a case; each costs `steps` passes of the network.
        """
        super().__init__(task)
        if times < 2 or not 1 <= steps <= times or draws < 1 or not 0 <= average < 1:
            raise InputError(
                f"times must be at least 2, steps 1 to times, draws at least 1 and average in [0, 1); they are {times}, "
                f"{steps}, {draws} and {average}"
            )
        if encoder_weights is not None:
            raise InputError(
                f"ccdm reads a noisy mask beside the image, which weights of images do not fit: leave encoder_weights out, "
                f"which is {encoder_weights}"
            )
        self.times, self.steps, self.average_share = times, steps, average
        self.draws: int = draws
        structures = len(task.structures)
        self.unet = UNet(task.channels + structures + 1, structures, backbone)
        self.average = copy.deepcopy(self.unet).requires_grad_(False)
        self.kept: Tensor
        self.seen_steps: Tensor
        self.register_buffer("kept", kept_schedule(times), persistent=False)
        self.register_buffer("seen_steps", torch.tensor(0))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        self._move_average()
        drawn, known = one_rater(masks, rated)
        time = torch.randint(1, self.times + 1, (len(image),), device=image.device)
        now, before = self.kept[time], self.kept[time - 1]
        noisy = torch.where(
            torch.rand_like(drawn) < aside(now, drawn), drawn, (torch.rand_like(drawn) < 0.5).float()
        )
        clean = self.cleaned(self.unet, image, noisy, now)
        # t > 1: KL of the exact way back from its expectation over the predicted mask; t = 1: cross-entropy
        exact = way_back(noisy, drawn, now, before)
        expected = expected_way_back(noisy, clean, now, before)
        kl = binary_kl(exact, expected)
        cross = F.binary_cross_entropy(clean.clamp(LEAST, 1 - LEAST), drawn, reduction="none")
        each = torch.where(aside(time == 1, drawn), cross, kl)
        mean = (each.mean(axes(each, 2)) * known).sum(1) / known.sum(1)
        yield {"diffusion": mean.mean()}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        image, structures = batch.image, len(self.task.structures)
        shape = (structures, *image.shape[2:])
        many = image.repeat_interleave(self.draws, 0)
        stops = torch.linspace(self.times, 0, self.steps + 1, device=image.device).round().long().tolist()
        state = (uniform(batch, self.draws, shape, "pixels at first").flatten(0, 1) < 0.5).float()
        for at, to in itertools.pairwise(stops):
            now, before = self.kept[at].expand(len(many)), self.kept[to].expand(len(many))
            clean = self.cleaned(self.average, many, state, now)
            if to == 0:
                state = (clean > 0.5).float()
            else:
                chance = expected_way_back(state, clean, now, before)
                state = (uniform(batch, self.draws, shape, f"pixels at {to}").flatten(0, 1) < chance).float()
        draws = state.unflatten(0, (len(image), self.draws))
        return Prediction(probability=draws.mean(1), draws=draws)

    @staticmethod
    def cleaned(
        unet: UNet,
        image: Float[Tensor, "B channel *space"],
        noisy: Float[Tensor, "B C *space"],
        kept: Float[Tensor, " B"],
    ) -> Float[Tensor, "B C *space"]:
        """The probability that each pixel was marked before the noise."""
        time = aside(kept, image).expand(-1, 1, *image.shape[2:])
        probability: Tensor = unet(torch.cat([image, 2 * noisy - 1, time], 1)).float().sigmoid()
        return probability

    @torch.no_grad()
    def _move_average(self) -> None:
        """The average takes in the weights as the last step left them."""
        share = min(self.average_share, (1 + int(self.seen_steps)) / (10 + int(self.seen_steps)))
        for mine, theirs in zip(self.average.parameters(), self.unet.parameters(), strict=True):
            mine.lerp_(theirs, 1 - share)
        for kept, now in zip(self.average.buffers(), self.unet.buffers(), strict=True):
            kept.copy_(now)
        self.seen_steps += 1


def kept_schedule(times: int) -> Float[Tensor, " levels"]:
    """ᾱ_t, t = 0..T: the chance that a pixel is still its own after t steps, by the cosine schedule.

    Source: Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021, arXiv:2102.09672.
    """
    t = torch.arange(times + 1, dtype=torch.float64) / times
    level = torch.cos((t + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2
    beta = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    kept = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)])
    return kept.float()


def way_back(
    noisy: Float[Tensor, "B C *space"],
    clean: Float[Tensor, "B C *space"],
    now: Float[Tensor, " B"],
    before: Float[Tensor, " B"],
) -> Float[Tensor, "B C *space"]:
    """q(x_s = 1 | x_t, x_0) for s < t, of masks x_t and x_0 of 0 and 1.

    A pixel keeps its value from s to t with probability ᾱ_t / ᾱ_s and is drawn evenly otherwise; by Bayes' rule the value
    at s is as probable as it leads to x_t, times as it comes from x_0.
    """
    stays = aside(now / before, noisy)
    since = aside(before, noisy)
    marked = (stays * noisy + (1 - stays) / 2) * (since * clean + (1 - since) / 2)
    bare = (stays * (1 - noisy) + (1 - stays) / 2) * (since * (1 - clean) + (1 - since) / 2)
    return marked / (marked + bare)


def expected_way_back(
    noisy: Float[Tensor, "B C *space"],
    probability: Float[Tensor, "B C *space"],
    now: Float[Tensor, " B"],
    before: Float[Tensor, " B"],
) -> Float[Tensor, "B C *space"]:
    """Σ_c q(x_s = 1 | x_t, x_0 = c) P(x_0 = c): the way back of each mask, weighed by its probability.

    The probability put into the formula of a mask would be another thing: the formula is not linear in x_0.
    """
    one, zero = torch.ones_like(noisy), torch.zeros_like(noisy)
    return probability * way_back(noisy, one, now, before) + (1 - probability) * way_back(
        noisy, zero, now, before
    )


def binary_kl(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """KL(first ‖ second) of each pixel's two values, in nats."""
    p, q = first.clamp(LEAST, 1 - LEAST), second.clamp(LEAST, 1 - LEAST)
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
