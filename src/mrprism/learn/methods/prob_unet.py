"""Probabilistic U-Net: a conditional variational autoencoder around a U-Net.

Source: Kohl et al., "A probabilistic U-Net for segmentation of ambiguous images", NeurIPS 2018,
arXiv:1806.05034; β = 10 as in its much-used PyTorch port.

Departures:
- the shared U-Net; its features, to which z is joined, stand at half the image's size;
- structures are separate binaries; z is drawn once for an image, so that they vary together;
- the posterior also sees, as a map for each structure, whether it was rated;
- reconstruction (a sum over pixels), KL and L2 are all divided by the number of pixels and structures, which
  changes no balance between them. Dividing the reconstruction alone would let the posterior collapse.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, rated_cases
from mrprism.learn.bounds import Done, Kept
from mrprism.learn.draws import noise
from mrprism.learn.methods.hierarchical import Hierarchy
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.multiple_hypotheses import one_rater
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.latent import (
    GaussianEncoder,
    LatentUNet,
    kl_of_gaussians,
    squared_weights,
    with_mask,
)
from mrprism.learn.space import axes


class ProbUNet(Method):
    """Prior p(z|x), posterior q(z|x,y), and a decoder that draws an outline for each z."""

    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        latent: Kept = 6,
        beta: float = 10.0,
        l2: float = 1e-5,
        width: Done = 32,
        hierarchical: bool = False,
        draws: Done = 16,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            latent: Dimensions of z.
            beta: Weight of the KL, beside a reconstruction summed over pixels.
            l2: Weight of the squared weights of prior, posterior and decoder.
            width: Channels of the first block of prior and posterior.
            hierarchical: The later form with latent maps at four scales (`hierarchical.py`), which has no use for latent,
                beta, l2 and width.
            draws: Outlines drawn for a case.
        """
        super().__init__(task)
        if latent < 1 or width < 1 or draws < 1 or beta < 0 or l2 < 0:
            raise InputError(
                f"latent, width and draws must be at least 1, beta and l2 not below 0; they are {latent}, {width}, "
                f"{draws}, {beta} and {l2}"
            )
        self.latent, self.beta, self.l2 = latent, beta, l2
        self.draws: int = draws
        structures = len(task.structures)
        self.hierarchy = Hierarchy(task, backbone, encoder_weights) if hierarchical else None
        if self.hierarchy is not None:
            return
        grid = Grid.of(task)
        self.unet = LatentUNet(
            task.channels, structures, latent, backbone, encoder_weights=encoder_weights, grid=grid
        )
        self.prior = GaussianEncoder(task.channels, width, latent, grid)
        self.posterior = GaussianEncoder(task.channels + 2 * structures, width, latent, grid)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        drawn, known = one_rater(masks, rated)
        if self.hierarchy is not None:
            yield self.hierarchy.losses(image, drawn, known)
            return
        mean, log_deviation = self.posterior_of(image, drawn, known)
        z = mean + log_deviation.exp() * torch.randn_like(mean)
        logits = self.unet(image, z).float()
        each = F.binary_cross_entropy_with_logits(logits, drawn, reduction="none")
        each = each.sum(axes(each, 2))
        pixels = drawn[0, 0].numel() * known.sum(1)
        kl = kl_of_gaussians(mean, log_deviation, *self.prior(image))
        squares = squared_weights(self.prior, self.posterior, self.unet.head)
        yield {
            "reconstruction": ((each * known).sum(1) / pixels).mean(),
            "kl": self.beta * (kl / pixels).mean(),
            "l2": self.l2 * squares / pixels.float().mean(),
        }

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        if self.hierarchy is not None:
            draws = self.hierarchy.drawn(batch, self.draws)
            return Prediction(probability=draws.mean(1), draws=draws)
        mean, log_deviation = self.prior(batch.image)
        draws = self.drawn(batch, mean, log_deviation)
        return Prediction(probability=draws.mean(1), draws=draws)

    def drawn(
        self, batch: Batch, mean: Float[Tensor, "B L"], log_deviation: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B N C *space"]:
        """Outlines drawn from a Gaussian over z: the U-Net once, then a cheap decoding for each."""
        assert batch.image is not None
        seen, size = self.unet.seen(batch.image), batch.image.shape[2:]
        away = noise(batch, self.draws, (self.latent,), "latent")
        latents = mean[:, None] + log_deviation.exp()[:, None] * away
        return torch.stack([self.unet.head.decode(seen, z, size).sigmoid() for z in latents.unbind(1)], 1)

    def posterior_of(
        self,
        image: Float[Tensor, "B channel *space"],
        drawn: Float[Tensor, "B C *space"],
        known: Bool[Tensor, "B C"],
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation of q(z|x,y)."""
        found: tuple[Tensor, Tensor] = self.posterior(with_mask(image, drawn, known))
        return found
