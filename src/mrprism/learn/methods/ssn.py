"""Stochastic segmentation network: the logits of the whole image are one low-rank normal distribution.

Source: Monteiro et al., "Stochastic segmentation networks: modelling spatially correlated aleatoric
uncertainty", NeurIPS 2020, arXiv:2006.06015.

Departures:
- draws are made by hand, η = μ + P ε₁ + √d ε₂, with ε₁ one vector for the image: no distribution object, so
  nothing that could fail to be inverted;
- structures are separate binaries with one logit each; all of them share ε₁, so that disc and cup vary together;
- the draws of the loss come in antithetic pairs; the finished loss is divided by the number of pixels and
  structures, which is a constant, and never inside the logsumexp, which would be another model;
- P is read at half the size and enlarged smoothly: a deconvolution draws its own 2x2 pattern into every outline;
- log d and P are bounded by a tanh, for in plain background the covariance grows without end otherwise;
- the first tenth of the epochs trains μ alone.
The gradient is nearly all of the best draw's: `--clip 1` steadies it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, rated_cases
from mrprism.learn.bounds import Done, Kept
from mrprism.learn.draws import noise
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.multiple_hypotheses import one_rater
from mrprism.learn.networks.grid import Grid, smooth
from mrprism.learn.networks.unet import Head, UNet
from mrprism.learn.space import aside, axes, cropped

LEAST_VARIANCE = 1e-5
STEEPEST = 6.0  # bound of log d
START = -2.0  # of log d: pixels by themselves begin quiet
NARROW = 0.1  # of a usual start
WIDEST = 10.0  # bound of an entry of P, in log-odds


class Normal(NamedTuple):
    """Distribution of an image's logits: mean, diagonal and factor of the covariance P Pᵀ + diag(d)."""

    mean: Tensor  # (B, C, *space)
    variance: Tensor  # (B, C, *space) d
    factor: Tensor  # (B, k, C, *space) P


class SSN(Method):
    """The shared U-Net with three heads: mean, log-variance and the main ways in which outlines vary."""

    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        rank: Kept = 10,
        samples: Done = 20,
        draws: Done = 16,
        warmup: float = 0.1,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            rank: Columns of P. With 0 pixels vary each by itself: a control, whose draws are no outlines.
            samples: Draws in the loss (M), an even number.
            draws: Outlines drawn for a case.
            warmup: Share of the epochs on the mean alone.
        """
        super().__init__(task)
        if rank < 0 or samples < 2 or samples % 2 or draws < 1 or not 0 <= warmup < 1:
            raise InputError(
                f"rank must be at least 0, samples even and at least 2, draws at least 1 and warmup in [0, 1), "
                f"not {rank}, {samples}, {draws} and {warmup}"
            )
        self.rank, self.samples, self.warmup = rank, samples, warmup
        self.draws: int = draws
        structures = len(task.structures)
        grid = Grid.of(task)
        self.unet = UNet(task.channels, structures, backbone, encoder_weights=encoder_weights, grid=grid)
        width = self.unet.decoder.width
        self.variance_head = Head(width, structures, starts=False, grid=grid)
        assert self.variance_head.deconvolution.bias is not None
        nn.init.constant_(self.variance_head.deconvolution.bias, START)
        self.factor_head = grid.point(width, rank * structures) if rank else None
        if self.factor_head is not None:  # outlines begin to vary a little, and learn how far
            for parameter in self.factor_head.parameters():
                parameter.data *= NARROW
        self.step = grid.strides[0]
        self.warm: Tensor
        self.register_buffer("warm", torch.tensor(False))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.warm.fill_(epoch < round(self.warmup * epochs))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        drawn, known = one_rater(masks, rated)
        normal = self.distribution(image)
        if self.warm:
            logits = normal.mean[:, None]
        else:
            half = self.samples // 2
            shared = torch.randn(len(drawn), half, self.rank, device=image.device)
            alone = torch.randn(len(drawn), half, *drawn.shape[1:], device=image.device)
            away = deviations(normal, shared, alone)
            logits = normal.mean[:, None] + torch.cat([away, -away], 1)
        likelihood = joint_log_likelihood(logits, drawn, known)
        pixels = drawn[0, 0].numel() * known.sum(1)
        yield {"likelihood": -(likelihood / pixels).mean()}

    def predict(self, batch: Batch) -> Prediction:
        draws = self.drawn(batch, self.draws)
        return Prediction(probability=draws.mean(1), draws=draws)

    def drawn(self, batch: Batch, count: int) -> Float[Tensor, "B N C *space"]:
        """Outlines drawn from the distribution, as probabilities."""
        assert batch.image is not None
        normal = self.distribution(batch.image)
        shared = noise(batch, count, (self.rank,), "latent")
        alone = noise(batch, count, normal.mean.shape[1:], "pixels")
        return (normal.mean[:, None] + deviations(normal, shared, alone)).sigmoid()

    def modes(self, batch: Batch, count: int = 3) -> Float[Tensor, "B M 2 C *space"]:
        """The main ways in which outlines vary: the probability two deviations to either side of the mean.

        They are the principal directions of P Pᵀ, the widest first; columns of P by themselves have no order.
        """
        assert batch.image is not None
        normal = self.distribution(batch.image)
        flat = normal.factor.flatten(2)
        _, directions = torch.linalg.eigh(flat @ flat.mT)  # ascending
        widest = directions.flip(2)[:, :, : min(count, self.rank)]
        ways = (widest.mT @ flat).unflatten(2, normal.mean.shape[1:])
        # an eigenvector has no sign of its own: to the right more is marked
        more = ways.flatten(2).sum(2).sign()
        ways = ways * aside(torch.where(more == 0, 1.0, more), ways)
        ends = torch.stack([-2 * ways, 2 * ways], 2) + normal.mean[:, None, None]
        return ends.sigmoid()

    def distribution(self, image: Float[Tensor, "B channel *space"]) -> Normal:
        """The normal distribution of the logits of each image."""
        features, size = self.unet.features(image), image.shape[2:]
        mean = self.unet.head(features, size).float()
        log_variance = STEEPEST * torch.tanh(self.variance_head(features, size).float() / STEEPEST)
        if self.factor_head is None:
            factor = mean.new_zeros(len(mean), 0, *mean.shape[1:])
        else:
            ways = self.factor_head(features).float()
            finer = [pixels * step for pixels, step in zip(ways.shape[2:], self.step, strict=True)]
            flat = cropped(smooth(ways, finer), size)
            factor = (WIDEST * torch.tanh(flat / WIDEST)).unflatten(1, (self.rank, -1))
        return Normal(mean, log_variance.exp() + LEAST_VARIANCE, factor)


def deviations(
    normal: Normal, shared: Float[Tensor, "B N k"], alone: Float[Tensor, "B N C *space"]
) -> Float[Tensor, "B N C *space"]:
    """η − μ = P ε₁ + √d ε₂ of N draws, from ε₁ (one vector for the image) and ε₂ (one number a pixel)."""
    return torch.einsum("bnk,bkc...->bnc...", shared, normal.factor) + normal.variance.sqrt()[:, None] * alone


def joint_log_likelihood(
    logits: Float[Tensor, "B M C *space"], drawn: Float[Tensor, "B C *space"], known: Bool[Tensor, "B C"]
) -> Float[Tensor, " B"]:
    """log 1/M Σ_m exp Σ_pixels log p(y | η_m): of a mask as a whole, for the sum over pixels stands inside.

    Args:
        known: Which structures were rated; the others say nothing.
    """
    each = -F.binary_cross_entropy_with_logits(logits, drawn[:, None].expand_as(logits), reduction="none")
    whole = (each.sum(axes(each, 3)) * known[:, None]).sum(2)
    return whole.logsumexp(1) - math.log(logits.shape[1])
