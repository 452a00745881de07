"""The hierarchical form of the probabilistic U-Net: latent maps at four scales, and a bound instead of a weight.

Source: Kohl et al., "A hierarchical probabilistic U-Net for modeling multi-scale ambiguities", 2019, arXiv:1905.13077.
GECO: Rezende and Viola, "Taming VAEs", 2018, arXiv:1810.00597.

Departures:
- the shared encoder and decoder; the latent maps stand at strides 32, 16, 8 and 4 (the paper's at 128 to 16 for 128 pixels);
- structures are separate binaries; each latent map is drawn once for an image, so that they vary together;
- the posterior also sees, as a map for each structure, whether it was rated;
- λ is multiplied at each step by exp(rate · C / κ), C the moving average of the cross-entropy of the chosen pixels minus κ,
  C / κ at most 1: it grows where the bound is broken, falls where it is kept, and stays positive.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.draws import noise_by_draw
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.ladder import Gaussian, Ladder, drawn_from
from mrprism.learn.networks.latent import kl_of_gaussians, with_mask
from mrprism.learn.networks.unet import Head
from mrprism.learn.space import aside

RUNGS = 4
KAPPA = 0.05  # cross-entropy of a chosen pixel, in nats, that is good enough
DECAY = 0.99  # of its moving average
RATE = 0.01  # at which λ moves
HARD = 0.02  # share of pixels that are learned from, drawn in proportion to their loss
LARGEST = 1e4  # λ is between its inverse and this


class Hierarchy(nn.Module):
    """Prior with decoder, posterior, and λ."""

    def __init__(self, task: Task, backbone: str, encoder_weights: Path | None) -> None:
        super().__init__()
        structures, grid = len(task.structures), Grid.of(task)
        self.prior = Ladder(
            task.channels, 1, RUNGS, backbone, whole=True, encoder_weights=encoder_weights, grid=grid
        )
        self.posterior = Ladder(task.channels + 2 * structures, 1, RUNGS, backbone, whole=False, grid=grid)
        self.head = Head(self.prior.width, structures, grid=grid)
        self.multiplier: Tensor
        self.average: Tensor
        self.register_buffer("multiplier", torch.tensor(1.0))
        self.register_buffer("average", torch.tensor(0.0))

    def losses(
        self,
        image: Float[Tensor, "B channel *space"],
        drawn: Float[Tensor, "B C *space"],
        known: Bool[Tensor, "B C"],
    ) -> dict[str, Tensor]:
        """KL + λ · (moving average of the reconstruction - κ), each a mean over pixels and structures."""
        seen = with_mask(image, drawn, known)
        _, posterior, z = self.posterior.climb(self.posterior.seen(seen), lambda i, q: drawn_from(q))
        state, prior, _ = self.prior.climb(
            self.prior.seen(image), lambda i, p: z[i]
        )  # on the posterior's values
        logits = self.head(state, image.shape[2:]).float()
        each = F.binary_cross_entropy_with_logits(logits, drawn, reduction="none")
        there = aside(known, drawn).expand_as(drawn)
        cross = (each * hardest(each.detach(), there, HARD)).sum() / max(1.0, HARD * int(there.sum()))
        if self.training:
            self._move(float(cross.detach()))
        pixels = drawn[0, 0].numel() * known.sum(1)
        # a moving average for the value, this step's for the gradient
        bound = self.average + cross - cross.detach() - KAPPA
        return {
            "reconstruction": HARD * self.multiplier * bound,
            "kl": (kl_of_rungs(posterior, prior) / pixels).mean(),
        }

    def drawn(self, batch: Batch, count: int) -> Float[Tensor, "B N C *space"]:
        """Outlines drawn from the prior."""
        assert batch.image is not None
        seen, size = self.prior.seen(batch.image), batch.image.shape[2:]
        draws = self.prior.draws(seen, count, lambda i, shape: noise_by_draw(batch, shape, f"latent {i}"))
        return torch.stack([self.head(state, size).float().sigmoid() for state, _ in draws], 1)

    @torch.no_grad()
    def _move(self, cross: float) -> None:
        first = float(self.average) == 0
        self.average.fill_(cross if first else DECAY * float(self.average) + (1 - DECAY) * cross)
        apart = min(1.0, (float(self.average) - KAPPA) / KAPPA)
        moved = float(self.multiplier) * float(torch.tensor(RATE * apart).exp())
        self.multiplier.fill_(min(LARGEST, max(1 / LARGEST, moved)))


def kl_of_rungs(posterior: list[Gaussian], prior: list[Gaussian]) -> Float[Tensor, " B"]:
    """Σ KL(q ‖ p) of each case over all rungs, in nats."""
    each = [
        kl_of_gaussians(*(part.flatten(1) for part in (*q, *p)))
        for q, p in zip(posterior, prior, strict=True)
    ]
    return torch.stack(each).sum(0)


def hardest(
    losses: Float[Tensor, "B C *space"], known: Bool[Tensor, "B C *space"], share: float
) -> Bool[Tensor, "B C *space"]:
    """A share of the pixels of each case, drawn without repetition with chances in proportion to their loss.

    The largest of log loss plus Gumbel noise are such a draw.
    """
    flat = (losses.clamp(min=1e-12).log() - torch.empty_like(losses).exponential_().log()).masked_fill(
        ~known, -torch.inf
    )
    flat = flat.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    chosen = torch.zeros_like(flat, dtype=torch.bool).scatter(1, flat.topk(count).indices, True)
    return chosen.view_as(losses) & known
