"""PHiSeg: a ladder of latent maps, each of which adds its own correction to the outline.

Source: Baumgartner et al., "PHiSeg: capturing uncertainty in medical image segmentation", MICCAI 2019,
arXiv:1906.04045.

Departures:
- prior and posterior are the shared encoder with U-Net steps; the five latent maps stand at strides 32 to 2, so the finest
  correction is one of half the image's size;
- structures are separate binaries; each latent map is drawn once for an image, so that they vary together;
- the posterior also sees, as a map for each structure, whether it was rated;
- log-deviations, bounded, in the place of deviations by softplus;
- cross-entropies (sums over pixels) and KL are divided by the number of pixels and structures, which changes no balance
  between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, rated_cases
from mrprism.learn.bounds import Done, Kept
from mrprism.learn.draws import noise_by_draw
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.multiple_hypotheses import one_rater
from mrprism.learn.networks.grid import NORM, Grid, smooth
from mrprism.learn.networks.ladder import SCALES, Gaussian, Ladder, drawn_from
from mrprism.learn.networks.latent import kl_of_gaussians, with_mask
from mrprism.learn.networks.unet import Head
from mrprism.learn.space import axes


class PHiSeg(Method):
    """Prior and posterior ladders, and a likelihood that reads nothing but the latent maps."""

    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        levels: Kept = 5,
        latent: Kept = 2,
        width: Kept = 32,
        beta: float = 1.0,
        draws: Done = 16,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            levels: Latent maps, from stride 32 on; at most 5.
            latent: Channels of each.
            width: Channels of the likelihood's features.
            beta: Weight of the KL, beside cross-entropies summed over pixels.
            draws: Outlines drawn for a case.
        """
        super().__init__(task)
        if not 1 <= levels <= SCALES or latent < 1 or width < 1 or draws < 1 or beta < 0:
            raise InputError(
                f"levels must be 1 to {SCALES}, latent, width and draws at least 1, beta not below 0; they are {levels}, "
                f"{latent}, {width}, {draws} and {beta}"
            )
        self.levels, self.latent, self.beta = levels, latent, beta
        self.draws: int = draws
        structures, grid = len(task.structures), Grid.of(task)
        self.prior = Ladder(
            task.channels, latent, levels, backbone, whole=False, encoder_weights=encoder_weights, grid=grid
        )
        self.posterior = Ladder(
            task.channels + 2 * structures, latent, levels, backbone, whole=False, grid=grid
        )
        self.likelihood = Likelihood(latent, levels, width, structures, grid)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        drawn, known = one_rater(masks, rated)
        seen = with_mask(image, drawn, known)
        _, posterior, z = self.posterior.climb(self.posterior.seen(seen), lambda i, q: drawn_from(q))
        _, prior, _ = self.prior.climb(self.prior.seen(image), lambda i, p: z[i])  # on the posterior's values
        pixels = drawn[0, 0].numel() * known.sum(1)
        cross = torch.zeros(len(image), device=image.device)
        for logits in self.likelihood(z, drawn.shape[2:]):  # every level is held against the mask, weight 1
            each = F.binary_cross_entropy_with_logits(logits.float(), drawn, reduction="none")
            cross = cross + (each.sum(axes(each, 2)) * known).sum(1)
        yield {
            "reconstruction": (cross / pixels).mean(),
            "kl": self.beta * (kl_of_levels(posterior, prior) / pixels).mean(),
        }

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        seen, size = self.prior.seen(batch.image), batch.image.shape[2:]
        draws = self.prior.draws(
            seen, self.draws, lambda i, shape: noise_by_draw(batch, shape, f"latent {i}")
        )
        drawn = torch.stack([self.likelihood(z, size)[-1].float().sigmoid() for _, z in draws], 1)
        return Prediction(probability=drawn.mean(1), draws=drawn)


def kl_of_levels(posterior: list[Gaussian], prior: list[Gaussian]) -> Float[Tensor, " B"]:
    """Σ_l 4^l KL(q_l ‖ p_l) of each case, l = 0 the finest: a coarse map has so many fewer numbers."""
    total: Tensor = torch.zeros(())
    for level, (q, p) in enumerate(zip(reversed(posterior), reversed(prior), strict=True)):
        each = kl_of_gaussians(*(part.flatten(1) for part in (*q, *p)))
        total = total + 4**level * each
    return total


class Likelihood(nn.Module):
    """Latent maps to logits: at each level a correction, added to those of all coarser ones."""

    def __init__(self, latent: int, levels: int, width: int, structures: int, grid: Grid) -> None:
        super().__init__()
        near = (3,) * grid.dims
        self.joins = nn.ModuleList(
            nn.Sequential(
                grid.conv(latent + (width if i else 0), width, near, bias=False),
                NORM[grid.dims](width),
                nn.ReLU(),
                grid.conv(width, width, near),
                nn.ReLU(),
            )
            for i in range(levels)
        )
        finest = SCALES - levels  # 0: its features stand at stride 2
        self.corrections = nn.ModuleList(
            Head(width, structures, starts=i == 0, grid=grid)
            if i == levels - 1 and not finest
            else Coarse(width, structures, i == 0, grid)
            for i in range(levels)
        )

    def forward(self, z: list[Tensor], size: tuple[int, ...]) -> list[Float[Tensor, "B C *space"]]:
        """Logits as each level has them, at the image's size, the coarsest first."""
        state, total, found = None, None, []
        for latent, join, correction in zip(z, self.joins, self.corrections, strict=True):
            joined = latent if state is None else torch.cat([smooth(state, latent.shape[2:]), latent], 1)
            state = join(joined)
            logits = correction(state, size)
            total = logits if total is None else total + logits
            found.append(total)
        return found


class Coarse(nn.Module):
    """A head of a coarse level: logits at stride 2 of where it stands, enlarged to the image."""

    def __init__(self, width: int, structures: int, starts: bool, grid: Grid) -> None:
        super().__init__()
        self.head = Head(width, structures, starts=starts, grid=grid)

    def forward(
        self, features: Float[Tensor, "B c *small"], size: tuple[int, ...]
    ) -> Float[Tensor, "B C *space"]:
        return smooth(self.head(features, [10**6] * len(size)), size)
