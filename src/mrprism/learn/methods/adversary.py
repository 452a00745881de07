"""A patch discriminator, and the two sides of its game: what pOSAL and BEAL share."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Says of each patch of a map whether raters drew it (logit above 0) or a network did."""

    def __init__(self, maps: int, width: int = 64) -> None:
        super().__init__()
        widths = (maps, width, 2 * width, 4 * width, 8 * width)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Conv2d(width_in, width_out, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=2, padding=2))

    def forward(self, maps: Float[Tensor, "B maps H W"]) -> Float[Tensor, "B 1 h w"]:
        logits: Tensor = self.layers(maps)
        return logits

    def tell(
        self, drawn: Float[Tensor, "B maps H W"], made: Float[Tensor, "B maps H W"]
    ) -> Float[Tensor, ""]:
        """The discriminator's own loss; nothing reaches the network that made the maps."""
        both = self(torch.cat([drawn, made.detach()]))
        target = torch.ones_like(both)
        target[len(drawn) :] = 0
        return F.binary_cross_entropy_with_logits(both, target)

    def fooled(self, made: Float[Tensor, "B maps H W"]) -> Float[Tensor, ""]:
        """The network's loss for being told apart; the discriminator is held fixed."""
        self.requires_grad_(False)
        logits = self(made)
        self.requires_grad_(True)
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
