"""D-Persona: first the variety of all raters in a latent space, then each person as a way of looking it up.

Source: Wu et al., "Diversified and personalized multi-rater medical image segmentation", CVPR 2024, arXiv:2403.13417.

Departures:
- the shared U-Net; z is joined to its features at half the image's size, and the queries read these features;
- structures are separate binaries, with the generalised Dice of structure and background for each; z is drawn once for an
  image, so that they vary together;
- raters may be absent: union and intersection are over those present, an absent rater's channel of the posterior holds
  the share of votes, and a map for each rater and structure says whether it was rated;
- both stages are trained in one run, the first half of the epochs each (`first`); no epoch is chosen on test cases;
- anonymous raters are no persons: then there is the first stage alone.
The reconstruction of the first stage is drawn from the posterior; in the code released until August 2024 it was not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
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
from mrprism.learn.methods.pionono import generalised_dice_loss
from mrprism.learn.networks.grid import MEAN, Grid
from mrprism.learn.networks.latent import GaussianEncoder, LatentUNet, kl_of_gaussians, squared_weights
from mrprism.learn.space import aside, axes


class DPersona(Method):
    """A probabilistic U-Net held to the span of all raters, and for each rater a query to a bank of its draws."""

    needs = frozenset({"two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        latent: Kept = 6,
        kl: float = 1.0,
        bound: float = 0.5,
        l2: float = 1e-5,
        samples: Kept = 10,
        bank: Done = 100,
        first: float = 0.5,
        width: Done = 16,
        draws: Done = 50,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            latent: Dimensions of z.
            kl: Weight of the KL of posterior and prior.
            bound: Weight of the bound: draws together reach the union of the raters and share their intersection.
            l2: Weight of the squared weights of prior, posterior and head.
            samples: Draws of the bound.
            bank: Draws that the persons' queries look up.
            first: Share of the epochs for the first stage.
            width: Channels of the first block of prior and posterior.
            draws: Outlines drawn for a case.
        """
        super().__init__(task)
        if min(latent, samples, bank, width, draws) < 1 or min(kl, bound, l2) < 0 or not 0 < first < 1:
            raise InputError(
                f"latent, samples, bank, width and draws must be at least 1, kl, bound and l2 not below 0 and first in "
                f"(0, 1); they are {latent}, {samples}, {bank}, {width}, {draws}, {kl}, {bound}, {l2} and {first}"
            )
        self.latent, self.kl, self.bound, self.l2 = latent, kl, bound, l2
        self.samples, self.bank, self.first = samples, bank, first
        self.draws: int = draws
        structures, raters = len(task.structures), len(task.raters)
        grid = Grid.of(task)
        self.unet = LatentUNet(
            task.channels, structures, latent, backbone, encoder_weights=encoder_weights, grid=grid
        )
        self.prior = GaussianEncoder(task.channels, width, latent, grid)
        self.posterior = GaussianEncoder(task.channels + 2 * raters * structures, width, latent, grid)
        persons = 0 if task.anonymous else raters
        self.queries = nn.ModuleList(_query(self.unet.decoder.width, latent, grid) for _ in range(persons))
        self.second: Tensor
        self.register_buffer("second", torch.tensor(False))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.second.fill_(bool(self.queries) and epoch >= max(1, round(self.first * epochs)))
        for name, parameter in self.named_parameters():  # in the second stage all but the queries rests
            parameter.requires_grad_(not self.second or name.startswith("queries."))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        yield self._persons(image, masks, rated) if self.second else self._variety(image, masks, rated)

    def _variety(self, image: Tensor, masks: Tensor, rated: Tensor) -> dict[str, Tensor]:
        """Stage I."""
        drawn, known = one_rater(masks, rated)
        seen, size = self.unet.seen(image), image.shape[2:]
        mean, log_deviation = self.posterior_of(image, masks, rated)
        prior_mean, prior_log = self.prior(image)
        z = mean + log_deviation.exp() * torch.randn_like(mean)
        away = torch.randn(self.samples, *prior_mean.shape, device=image.device)
        draws = torch.stack(
            [self.unet.head.decode(seen, prior_mean + prior_log.exp() * e, size).float() for e in away], 1
        )
        union, intersection = span(masks, rated)
        anybody = rated.any(1)
        reached = generalised_dice_loss(draws.amax(1), union, anybody)
        shared = generalised_dice_loss(draws.amin(1), intersection, anybody)
        return {
            "dice": generalised_dice_loss(self.unet.head.decode(seen, z, size).float(), drawn, known),
            "kl": self.kl * kl_of_gaussians(mean, log_deviation, prior_mean, prior_log).mean(),
            "bound": self.bound * (reached + shared),
            "l2": self.l2 * squared_weights(self.prior, self.posterior, self.unet.head),
        }

    def _persons(self, image: Tensor, masks: Tensor, rated: Tensor) -> dict[str, Tensor]:
        """Stage II: all rests but the queries."""
        with torch.no_grad():
            learning = self.unet.training
            self.unet.eval()
            features = self.unet.features(image)
            seen = self.unet.head.seen(features)
            mean, log_deviation = self.prior(image)
            away = torch.randn(len(image), self.bank, self.latent, device=image.device)
            bank = mean[:, None] + log_deviation.exp()[:, None] * away
            self.unet.train(learning)
        size = image.shape[2:]
        each = [
            generalised_dice_loss(
                self.unet.head.decode(seen, looked_up(query(features), bank), size).float(),
                masks[:, r],
                rated[:, r],
            )
            for r, query in enumerate(self.queries)
        ]
        return {"persons": torch.stack(each).mean()}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        size = batch.image.shape[2:]
        features = self.unet.features(batch.image)
        seen = self.unet.head.seen(features)
        mean, log_deviation = self.prior(batch.image)
        # one row of noise: draws are the first of it, the bank as many as it needs
        away = noise(batch, max(self.draws, self.bank), (self.latent,), "latent")
        latents = mean[:, None] + log_deviation.exp()[:, None] * away
        draws = torch.stack(
            [self.unet.head.decode(seen, z, size).sigmoid() for z in latents[:, : self.draws].unbind(1)], 1
        )
        if not self.second:
            return Prediction(probability=draws.mean(1), draws=draws)
        bank = latents[:, : self.bank]
        persons = [
            self.unet.head.decode(seen, looked_up(query(features), bank), size).sigmoid()
            for query in self.queries
        ]
        return Prediction(probability=draws.mean(1), draws=draws, raters=torch.stack(persons, 1))

    def posterior_of(
        self,
        image: Float[Tensor, "B channel *space"],
        masks: Float[Tensor, "B R C *space"],
        rated: Bool[Tensor, "B R C"],
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation of q(z | x, all masks)."""
        flags = aside(rated, masks).expand_as(masks)
        share = torch.where(flags, masks, 0.0).sum(1) / aside(rated.sum(1).clamp(min=1), masks[:, 0])
        filled = torch.where(flags, masks, share[:, None])
        found: tuple[Tensor, Tensor] = self.posterior(
            torch.cat([image, filled.flatten(1, 2), flags.float().flatten(1, 2)], 1)
        )
        return found


def span(
    masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
) -> tuple[Float[Tensor, "B C *space"], Float[Tensor, "B C *space"]]:
    """Union and intersection of the raters who are there."""
    flags = aside(rated, masks)
    return torch.where(flags, masks, 0.0).amax(1), torch.where(flags, masks, 1.0).amin(1)


def looked_up(query: Float[Tensor, "B L"], bank: Float[Tensor, "B M L"]) -> Float[Tensor, "B L"]:
    """The mean of a bank, each entry weighed by the softmax of its product with the query."""
    weight = torch.einsum("bl,bml->bm", query, bank).softmax(1)
    return torch.einsum("bm,bml->bl", weight, bank)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(axes(x, 2))


def _query(width: int, latent: int, grid: Grid) -> nn.Module:
    """Features to a query: convolutions of 32, 16 and `latent` channels with pooling between, mean over the image."""
    return nn.Sequential(
        grid.conv(width, 32, grid.kernel(1)), nn.ReLU(), MEAN[grid.dims](grid.strides[1], ceil_mode=True),  # type: ignore[arg-type]
        grid.conv(32, 16, grid.kernel(2)), nn.ReLU(), MEAN[grid.dims](grid.strides[2], ceil_mode=True),  # type: ignore[arg-type]
        grid.conv(16, latent, grid.kernel(3)), _Mean(),
    )  # fmt: skip
