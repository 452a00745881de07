"""Pionono: every rater is a Gaussian in a latent space that steers the network's last layers.

Source: Schmidt et al., "Probabilistic modeling of inter- and intra-observer variability in medical image
segmentation", ICCV 2023.

Departures:
- the shared U-Net; z is joined to its features at half the image's size;
- structures are separate binaries, with the generalised Dice of structure and background for each;
- one rater of those who rated is drawn for each case and step; the paper's batches hold pairs of image and rater;
- no gold rater is preferred: the consensus is the mean over raters;
- outlines are drawn from the raters at random, each as likely as the other.
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
from mrprism.learn.draws import chosen, noise
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.latent import LatentUNet, squared_weights
from mrprism.learn.space import axes

PRIOR_DEVIATION = 2.0
START_DEVIATION = 8.0  # of the raters' means, so that raters are apart from the beginning


class Pionono(Method):
    """A U-Net with a latent Gaussian for each rater, whatever the image."""

    needs = frozenset({"named raters", "two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        latent: Kept = 8,
        samples: Kept = 5,
        kl: float = 5e-4,
        l2: float = 1e-5,
        latent_rate: float = 0.02,
        draws: Done = 20,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            latent: Dimensions of z.
            samples: Draws whose mean logits the loss looks at.
            kl: Weight of the KL to the prior N(0, 2²).
            l2: Weight of the squared weights of the head.
            latent_rate: Learning rate of the raters' Gaussians.
            draws: Draws for each rater, and outlines drawn for a case.
        """
        super().__init__(task)
        if latent < 1 or samples < 1 or draws < 1 or latent_rate <= 0 or kl < 0 or l2 < 0:
            raise InputError(
                f"latent, samples and draws must be at least 1, latent_rate above 0, kl and l2 not below 0; they are "
                f"{latent}, {samples}, {draws}, {latent_rate}, {kl} and {l2}"
            )
        self.latent, self.samples, self.kl, self.l2 = latent, samples, kl, l2
        self.draws: int = draws
        self.latent_rate = latent_rate
        structures = len(task.structures)
        self.unet = LatentUNet(
            task.channels,
            structures,
            latent,
            backbone,
            encoder_weights=encoder_weights,
            grid=Grid.of(task),
        )
        self.means = nn.Parameter(START_DEVIATION * torch.randn(len(task.raters), latent))
        # Σ = L Lᵀ; the diagonal of L is kept as its logarithm, what stands above it is not read
        self.log_diagonals = nn.Parameter(torch.zeros(len(task.raters), latent))
        self.lower = nn.Parameter(torch.zeros(len(task.raters), latent * (latent - 1) // 2))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, object]]:
        gaussians = [self.means, self.log_diagonals, self.lower]
        mine = {id(parameter) for parameter in gaussians}
        return [
            {"params": [p for p in self.parameters() if id(p) not in mine], "lr": learning_rate},
            {"params": gaussians, "lr": self.latent_rate},
        ]

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        rater = torch.multinomial(rated.any(2).float(), 1)[:, 0]
        case = torch.arange(len(image), device=image.device)
        drawn, known = masks[case, rater], rated[case, rater]
        seen, size = self.unet.seen(image), image.shape[2:]
        factor = self.factors()[rater]
        away = torch.randn(self.samples, len(image), self.latent, device=image.device)
        latents = self.means[rater] + torch.einsum("bij,nbj->nbi", factor, away)
        logits = torch.stack([self.unet.head.decode(seen, z, size).float() for z in latents]).mean(0)
        yield {
            "dice": generalised_dice_loss(logits, drawn, known),
            "kl": self.kl * self.divergences()[rater].mean(),
            "l2": self.l2 * squared_weights(self.unet.head),
        }

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        seen, size = self.unet.seen(batch.image), batch.image.shape[2:]
        count, raters = len(batch.image), len(self.task.raters)
        away = noise(batch, self.draws, (raters, self.latent), "latent")
        even = self.means.new_full((count, raters), 1 / raters)
        who = chosen(batch, even, self.draws)
        case = torch.arange(count, device=seen.device)
        mean, draws, factors = torch.zeros((), device=seen.device), [], self.factors()
        for n in range(self.draws):
            latents = self.means + torch.einsum("rij,brj->bri", factors, away[:, n])
            each = torch.stack([self.unet.head.decode(seen, z, size).sigmoid() for z in latents.unbind(1)], 1)
            mean = mean + each / self.draws
            draws.append(each[case, who[:, n]])
        mean = mean.clamp(0, 1)
        return Prediction(probability=mean.mean(1), raters=mean, draws=torch.stack(draws, 1))

    def factors(self) -> Float[Tensor, "R L L"]:
        """Lower-triangular L of each rater's covariance L Lᵀ."""
        row, column = torch.tril_indices(self.latent, self.latent, -1)
        below = self.means.new_zeros(len(self.means), self.latent, self.latent)
        below[:, row, column] = self.lower
        return below + torch.diag_embed(self.log_diagonals.exp())

    def divergences(self) -> Float[Tensor, " R"]:
        """KL of each rater's Gaussian to the prior N(0, 2²), in nats."""
        variance = PRIOR_DEVIATION**2
        trace = self.factors().square().sum((-2, -1)) / variance
        apart = self.means.square().sum(-1) / variance
        log_ratio = 2 * (torch.tensor(PRIOR_DEVIATION).log() - self.log_diagonals).sum(-1)
        return 0.5 * (trace + apart - self.latent + log_ratio)

    @torch.no_grad()
    def rater_distances(self) -> Float[Tensor, "R R"]:
        """How far apart raters are: Wasserstein-2 distance of their Gaussians, without regard to their order."""
        factors: Tensor = self.factors().double()
        covariance = factors @ factors.mT
        roots = _root(covariance)
        between = _root(roots[:, None] @ covariance[None] @ roots[:, None])
        traces = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        spread = traces[:, None] + traces - 2 * between.diagonal(dim1=-2, dim2=-1).sum(-1)
        means = self.means.double()
        squared = (means[:, None] - means).square().sum(-1) + spread
        distances: Tensor = squared.clamp(min=0).sqrt().float()
        return distances


def generalised_dice_loss(
    logits: Float[Tensor, "B C *space"], drawn: Float[Tensor, "B C *space"], known: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """One minus the generalised Dice of structure and background, over the structures rated.

    Either side is weighed by one over its squared area; an empty side as if it had one pixel.

    Source: Sudre et al., "Generalised Dice overlap as a deep learning loss function", DLMIA 2017.
    """
    probability = logits.sigmoid()
    both, sizes, space = torch.zeros_like(known.float()), torch.zeros_like(known.float()), axes(drawn, 2)
    for p, y in ((probability, drawn), (1 - probability, 1 - drawn)):
        weight = y.sum(space).clamp(min=1) ** -2
        both = both + weight * (p * y).sum(space)
        sizes = sizes + weight * (p + y).sum(space)
    return torch.where(known, 1 - 2 * both / sizes, 0.0).sum() / known.sum().clamp(min=1)


def _root(matrices: Float[Tensor, "*b L L"]) -> Float[Tensor, "*b L L"]:
    """The symmetric square root of symmetric matrices that have no negative eigenvalue."""
    values, vectors = torch.linalg.eigh(matrices)
    root: Tensor = vectors @ torch.diag_embed(values.clamp(min=0).sqrt()) @ vectors.mT
    return root
