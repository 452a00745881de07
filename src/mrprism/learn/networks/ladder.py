"""A U-Net with a Gaussian over a small map at each of its coarsest scales, every one given the coarser ones.

Sources: Kohl et al., "A hierarchical probabilistic U-Net for modeling multi-scale ambiguities", 2019, arXiv:1905.13077;
Baumgartner et al., "PHiSeg", MICCAI 2019, arXiv:1906.04045.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.grid import IMAGES, Grid
from mrprism.learn.networks.latent import FLATTEST
from mrprism.learn.networks.unet import Up, decoder_widths

SCALES = 5  # strides 32, 16, 8, 4 and 2


class Gaussian(NamedTuple):
    """A diagonal Gaussian over a map."""

    mean: Tensor  # (B, latent, *small)
    log_deviation: Tensor


Choose = Callable[[int, Gaussian], Tensor]  # the value of the latent map at a rung, counted from the coarsest


class Seen(NamedTuple):
    """What the encoder makes of an image, once for all draws."""

    deepest: Tensor
    skips: list[Tensor]  # after `from_skip`, deepest first


class Ladder(nn.Module):
    """From the deepest features upwards: a Gaussian, its value joined to the features, one step up, and so on."""

    def __init__(
        self,
        channels: int,
        latent: int,
        rungs: int,
        backbone: str,
        *,
        whole: bool,
        encoder_weights: Path | None = None,
        grid: Grid = IMAGES,
    ) -> None:
        """
        Args:
            latent: Channels of each latent map.
            rungs: How many scales have one, from stride 32 on.
            whole: Go up to stride 2 after the last rung; without it nothing comes after.
        """
        super().__init__()
        self.encoder = Encoder(channels, backbone, encoder_weights, grid)
        widths = decoder_widths(self.encoder.widths)
        below = (self.encoder.widths[-1], *widths)
        self.rungs = rungs
        self.gaussians = nn.ModuleList(grid.point(below[i], 2 * latent) for i in range(rungs))
        steps = len(widths) if whole else rungs - 1
        self.ups = nn.ModuleList(
            Up(below[i] + (latent if i < rungs else 0), skip, widths[i], grid=grid, level=len(widths) - i)
            for i, skip in zip(range(steps), reversed(self.encoder.widths[:-1]), strict=False)
        )
        self.width = below[steps]

    def seen(self, x: Float[Tensor, "B channel *space"]) -> Seen:
        """The encoder's features."""
        features = self.encoder(x)
        ups: Sequence[Up] = list(self.ups)  # type: ignore[arg-type]
        skips = [up.from_skip(skip) for up, skip in zip(ups, reversed(features[:-1]), strict=False)]
        return Seen(features[-1], skips)

    def climb(
        self, seen: Seen, choose: Choose
    ) -> tuple[Float[Tensor, "B width *small"], list[Gaussian], list[Tensor]]:
        """The last features, the Gaussian at each rung, and the value chosen there."""
        state, found, chosen = seen.deepest, [], []
        for i in range(max(self.rungs, len(self.ups) + 1)):
            if i < self.rungs:
                mean, log_deviation = self.gaussians[i](state).float().chunk(2, 1)
                found.append(Gaussian(mean, FLATTEST * torch.tanh(log_deviation / FLATTEST)))
                chosen.append(choose(i, found[-1]))
            if i < len(self.ups):
                joined = torch.cat([state, chosen[i].to(state.dtype)], 1) if i < self.rungs else state
                state = self.ups[i](joined, seen.skips[i])
        return state, found, chosen

    def draws(
        self, seen: Seen, count: int, away: Callable[[int, tuple[int, ...]], Iterator[Tensor]]
    ) -> Iterator[tuple[Float[Tensor, "B width *small"], list[Tensor]]]:
        """The last features and the latent maps of draw after draw.

        Args:
            away: For a rung, and the shape of its map without B, standard normal noise, a draw at a time.
        """
        rows: dict[int, Iterator[Tensor]] = {}

        def value(rung: int, p: Gaussian) -> Tensor:
            if rung not in rows:
                rows[rung] = away(rung, tuple(p.mean.shape[1:]))
            return p.mean + p.log_deviation.exp() * next(rows[rung])

        for _ in range(count):
            state, _, chosen = self.climb(seen, value)
            yield state, chosen


def drawn_from(gaussian: Gaussian) -> Tensor:
    """One value, with a gradient to mean and deviation."""
    return gaussian.mean + gaussian.log_deviation.exp() * torch.randn_like(gaussian.mean)
