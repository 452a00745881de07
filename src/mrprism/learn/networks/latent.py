"""Parts of networks that draw: Gaussians read from images, and a head that a latent vector steers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.learn.networks.grid import IMAGES, MEAN, Grid
from mrprism.learn.networks.unet import Head, UNet
from mrprism.learn.space import aside, axes

FLATTEST = 5.0  # |log-deviation| never exceeds it, so that no Gaussian becomes a point or a plain


class GaussianEncoder(nn.Module):
    """An image to a diagonal Gaussian: blocks of three convolutions with pooling between, mean over the image.

    Source: Kohl et al., "A probabilistic U-Net", NeurIPS 2018, arXiv:1806.05034, appendix.
    """

    def __init__(self, channels: int, width: int, latent: int, grid: Grid = IMAGES) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, factor in enumerate((1, 2, 4, 6)):
            if number:
                layers.append(MEAN[grid.dims](grid.strides[number - 1], ceil_mode=True))  # type: ignore[arg-type]
            for _ in range(3):
                layers += [grid.conv(channels, width * factor, grid.kernel(number)), nn.ReLU()]
                channels = width * factor
        self.blocks = nn.Sequential(*layers)
        self.out = grid.point(channels, 2 * latent)

    def forward(self, x: Float[Tensor, "B channel *space"]) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation, (B, L) each."""
        seen = self.blocks(x)
        flat: Tensor = self.out(seen.mean(axes(seen, 2), keepdim=True)).flatten(1).float()
        mean, log_deviation = flat.chunk(2, 1)
        return mean, FLATTEST * torch.tanh(log_deviation / FLATTEST)


def kl_of_gaussians(
    mean: Float[Tensor, "*b L"],
    log_deviation: Float[Tensor, "*b L"],
    prior_mean: Float[Tensor, "*b L"],
    prior_log_deviation: Float[Tensor, "*b L"],
) -> Float[Tensor, "*b"]:
    """KL(N(mean) ‖ N(prior)) of diagonal Gaussians in nats, in closed form, summed over the last axis."""
    ratio = (2 * (log_deviation - prior_log_deviation)).exp()
    apart = ((mean - prior_mean) * (-prior_log_deviation).exp()) ** 2
    return 0.5 * (ratio + apart - 1).sum(-1) - (log_deviation - prior_log_deviation).sum(-1)


def with_mask(
    image: Float[Tensor, "B channel *space"],
    drawn: Float[Tensor, "B C *space"],
    known: Bool[Tensor, "B C"],
) -> Float[Tensor, "B channels *space"]:
    """What a posterior sees: the image, a rater's masks, and as a map for each structure whether it was rated."""
    flags = aside(known, drawn).expand_as(drawn).float()
    return torch.cat([image, drawn * flags, flags], 1)


def squared_weights(*parts: nn.Module) -> Float[Tensor, ""]:
    """Sum of the squared weights of some networks."""
    return torch.stack([p.square().sum() for part in parts for p in part.parameters()]).sum()


class LatentHead(nn.Module):
    """[features ‖ z tiled] → three 1×1 convolutions → logits; the last of them enlarges to the image's size.

    The first layer is written as a sum, so that the features' half is computed once for many draws.
    """

    def __init__(self, width: int, latent: int, outputs: int, grid: Grid = IMAGES) -> None:
        super().__init__()
        self.from_features = grid.point(width, width)
        self.from_latent = nn.Linear(latent, width, bias=False)
        self.middle = grid.point(width, width)
        self.last = Head(width, outputs, grid=grid)

    def seen(self, features: Float[Tensor, "B c *small"]) -> Float[Tensor, "B c *small"]:
        """The features' half of the first layer."""
        half: Tensor = self.from_features(features)
        return half

    def decode(
        self, seen: Float[Tensor, "B c *small"], z: Float[Tensor, "B L"], size: Sequence[int]
    ) -> Float[Tensor, "B outputs *space"]:
        """Logits of one draw for each image, from `seen`."""
        hidden = torch.relu(seen + aside(self.from_latent(z), seen))
        logits: Tensor = self.last(torch.relu(self.middle(hidden)), size)
        return logits


class LatentUNet(UNet):
    """A U-Net whose last layers a latent vector steers, joined to its features at half the image's size."""

    head: LatentHead  # type: ignore[assignment]

    def __init__(
        self,
        channels: int,
        outputs: int,
        latent: int,
        backbone: str,
        *,
        encoder_weights: Path | None,
        grid: Grid = IMAGES,
    ) -> None:
        super().__init__(channels, outputs, backbone, encoder_weights=encoder_weights, grid=grid)
        self.head = LatentHead(self.decoder.width, latent, outputs, grid)

    def seen(self, image: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B c *small"]:
        """What `head.decode` draws from, once for all draws."""
        return self.head.seen(self.features(image))

    def forward(  # type: ignore[override]
        self, image: Float[Tensor, "B channel *space"], z: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B outputs *space"]:
        return self.head.decode(self.seen(image), z, image.shape[2:])
