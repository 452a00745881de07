"""Mixture of stochastic experts: a few ways of drawing, each with a probability that the image decides.

Source: Gao et al., "Modeling multimodal aleatoric uncertainty in segmentation with mixture of stochastic experts",
ICLR 2023, arXiv:2212.07328; settings of their code.

Departures:
- the shared U-Net; latents shift and scale its features at half the image's size; the gate reads the encoder's deepest;
- structures are separate binaries; one latent draws all of them, and the cost is their mean;
- the set of raters is of those who rated the case, each with the same mass;
- the bound on what a draw may take is lifted halfway through the epochs, and not after ten of them without gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, rated_cases
from mrprism.learn.bounds import Done, Kept
from mrprism.learn.draws import chosen, noise
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import Head, UNet
from mrprism.learn.space import aside, axes

NARROW = math.log(1 / 8)  # log-deviation of an expert at first
FIRST_BOUND = 0.5  # of all mass, what one draw may take in the first half of the training


class MoSE(Method):
    """The shared U-Net, K Gaussian experts, and a gate that gives each its chance."""

    needs = frozenset({"two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        experts: Kept = 4,
        samples: Kept = 4,
        beta: float = 1.0,
        sampling: Literal["standard", "compact"] = "standard",
        draws: Done = 16,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            experts: How many (K).
            samples: Draws of each expert in the loss.
            beta: Weight of the KL between what draws take of the raters and their chances.
            sampling: "standard": first the expert, with its chance, then z; "compact": of every expert as many, and each
                draw carries its chance as a weight.
            draws: Outlines drawn for a case; compact, rounded up to a multiple of the experts.
        """
        super().__init__(task)
        if experts < 1 or samples < 1 or draws < 1 or beta < 0:
            raise InputError(
                f"experts, samples and draws must be at least 1 and beta not below 0; they are {experts}, {samples}, "
                f"{draws} and {beta}"
            )
        self.experts, self.samples, self.beta, self.sampling = experts, samples, beta, sampling
        self.draws: int = draws
        grid = Grid.of(task)
        self.unet = UNet(
            task.channels, len(task.structures), backbone, encoder_weights=encoder_weights, grid=grid
        )
        width = self.unet.decoder.width
        self.unet.head = ModulatedHead(width, len(task.structures), grid)  # type: ignore[assignment]
        self.means = nn.Parameter(torch.linspace(-1, 1, experts)[:, None])
        self.log_deviations = nn.Parameter(torch.full((experts, 1), NARROW))
        deep = self.unet.encoder.widths[-1]
        self.gate = nn.Sequential(
            nn.Linear(deep, deep // 2), nn.ReLU(), nn.Linear(deep // 2, deep // 2), nn.ReLU(), nn.Linear(deep // 2, experts)
        )  # fmt: skip
        self.late: Tensor
        self.register_buffer("late", torch.tensor(False))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.late.fill_(epoch >= epochs / 2)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        features, chances = self.seen(image)
        away = torch.randn(len(features), self.experts, self.samples, 1, device=image.device)
        z = self.means[:, None] + self.log_deviations.exp()[:, None] * away
        drawn = self.decoded(features, z.flatten(1, 2), image.shape[2:])
        cost, there = costs(drawn, masks, rated)
        weight = (chances / self.samples).repeat_interleave(self.samples, 1)
        bound = 1.0 if self.late else max(FIRST_BOUND, 1 / drawn.shape[1])
        taken = coupling(cost.detach(), there, bound)
        share = taken.sum(2)
        # KL(share ‖ weight); what takes nothing adds nothing
        kl = (share * (share.clamp(min=1e-12).log() - weight.clamp(min=1e-12).log())).sum(1)
        yield {"transport": (taken * cost).sum((1, 2)).mean(), "kl": self.beta * kl.mean()}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        features, chances = self.seen(batch.image)
        if self.sampling == "standard":
            who = chosen(batch, chances, self.draws)
        else:
            each = -(-self.draws // self.experts)
            who = torch.arange(self.experts, device=features.device).repeat(each).expand(len(features), -1)
        away = noise(batch, who.shape[1], (1,), "latent")
        z = self.means[who] + self.log_deviations.exp()[who] * away
        draws = self.decoded(features, z, batch.image.shape[2:])
        if self.sampling == "standard":
            return Prediction(probability=draws.mean(1), draws=draws)
        weights = chances.gather(1, who) / (who.shape[1] // self.experts)
        structures = draws.shape[2]
        mean = (aside(weights, draws) * draws).sum(1).clamp(0, 1)
        return Prediction(
            probability=mean, draws=draws, draw_weights=weights[..., None].expand(-1, -1, structures)
        )

    def seen(self, image: Float[Tensor, "B channel *space"]) -> tuple[Tensor, Float[Tensor, "B K"]]:
        """The U-Net's last features, and the chance of each expert."""
        deep = self.unet.encoder(image)
        gate: Tensor = self.gate(deep[-1].mean(axes(deep[-1], 2))).float().softmax(1)
        features: Tensor = self.unet.decoder(deep)
        return features, gate

    def decoded(
        self, features: Tensor, z: Float[Tensor, "B N 1"], size: tuple[int, ...]
    ) -> Float[Tensor, "B N C *space"]:
        """The outlines of these latents, as probabilities."""
        each = [self.unet.head(features, size, one).float().sigmoid() for one in z.unbind(1)]
        return torch.stack(each, 1)


class ModulatedHead(nn.Module):
    """(features + shift(z)) · scale(z), channel by channel, then three 1×1 convolutions."""

    def __init__(self, width: int, outputs: int, grid: Grid) -> None:
        super().__init__()
        self.modulation = nn.Linear(1, 2 * width)
        self.middle = nn.Sequential(grid.point(width, width), nn.ReLU(), grid.point(width, width), nn.ReLU())
        self.last = Head(width, outputs, grid=grid)
        assert self.modulation.bias is not None
        nn.init.zeros_(self.modulation.bias[:width])
        nn.init.ones_(self.modulation.bias[width:])  # features pass as they are where z is 0

    def forward(
        self, features: Float[Tensor, "B c *small"], size: tuple[int, ...], z: Float[Tensor, "B 1"]
    ) -> Float[Tensor, "B C *space"]:
        shift, scale = self.modulation(z).chunk(2, 1)
        steered = (features + aside(shift, features)) * aside(scale, features)
        logits: Tensor = self.last(self.middle(steered), size)
        return logits


def costs(
    draws: Float[Tensor, "B N C *space"], masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
) -> tuple[Float[Tensor, "B N R"], Bool[Tensor, "B R"]]:
    """1 - soft IoU (numerator and denominator + 1) of each draw with each rater, mean over structures; who rated.

    An absent rater's cost is 0 and never read.
    """
    flat = draws.flatten(3)
    drawn = torch.where(aside(rated, masks), masks, 0.0).flatten(3)
    shared = torch.einsum("bncp,brcp->bnrc", flat, drawn)
    total = flat.sum(3)[:, :, None] + drawn.sum(3)[:, None]
    each = 1 - (shared + 1) / (total - shared + 1)
    known = rated[:, None]
    cost = (each * known).sum(3) / known.sum(3).clamp(min=1)
    return cost, rated.any(2)


@torch.no_grad()
def coupling(
    cost: Float[Tensor, "B N R"], there: Bool[Tensor, "B R"], bound: float
) -> Float[Tensor, "B N R"]:
    """How much of each rater's mass each draw takes: the cheapest draws first, none more than `bound` of all.

    Raters who are easiest to please go first. With a bound of 1 each goes to the nearest draw, which is the best
    transport there is.
    """
    taken = torch.zeros_like(cost)
    for case, (costs_, present) in enumerate(zip(cost, there, strict=True)):
        raters = present.nonzero()[:, 0].tolist()
        room = [bound] * len(costs_)
        for r in sorted(raters, key=lambda r: float(costs_[:, r].min())):
            left = 1 / len(raters)
            for n in costs_[:, r].argsort().tolist():
                part = min(left, room[n])
                taken[case, n, r] += part
                room[n] -= part
                left -= part
                if left <= 1e-9:
                    break
    return taken
