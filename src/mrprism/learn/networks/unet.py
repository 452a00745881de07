"""The U-Net every method shares, so that methods differ in nothing else."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.grid import DROPOUT, IMAGES, NORM, UPWARDS, Grid, smooth
from mrprism.learn.space import cropped

RAREST = 1e-4  # nothing begins rarer than this


def decoder_widths(encoder_widths: Sequence[int]) -> tuple[int, ...]:
    """Widths of the decoder's features at strides 16, 8, 4 and 2."""
    return tuple(max(width // 2, 24) for width in reversed(encoder_widths[:-1]))


class Up(nn.Module):
    """One U-Net step: enlarge, join with the encoder's features, two convolutions.

    The convolution of ``[enlarged ‖ skip]`` is written as the sum of two, so that the skip's half can be
    computed once for decoders that run several times on the same image.
    """

    def __init__(
        self,
        width_in: int,
        width_skip: int,
        width_out: int,
        dropout: float = 0.0,
        rounds: int = 1,
        grid: Grid = IMAGES,
        level: int = 1,
    ) -> None:
        """
        Args:
            level: Of the skip, and of what comes out; see `Grid`.
        """
        super().__init__()
        here = grid.kernel(level)
        self.from_below = grid.conv(width_in, width_out, grid.kernel(level + 1), bias=False)
        self.from_skip = grid.conv(width_skip, width_out, here, bias=False)
        self.join = RoundNorm(width_out, rounds, grid)
        self.refine = grid.conv(width_out, width_out, here, bias=False)
        self.norm = RoundNorm(width_out, rounds, grid)
        self.dropout = DROPOUT[grid.dims](dropout)

    def forward(
        self, below: Float[Tensor, "B c *small"], skip: Float[Tensor, "B d *space"], round: int = 0
    ) -> Float[Tensor, "B e *space"]:
        """
        Args:
            skip: The encoder's features after `from_skip`.
            round: How often a recurrent decoder has run on this image before.
        """
        # enlarging commutes with what follows but for the border, and the convolution is cheaper before it
        enlarged = smooth(self.from_below(below), skip.shape[2:])
        joined = F.relu(self.join(enlarged.add_(skip), round), inplace=True)
        refined: Tensor = self.dropout(F.relu(self.norm(self.refine(joined), round), inplace=True))
        return refined


class RoundNorm(nn.Module):
    """Batch norm that keeps the rounds of a recurrent decoder apart; the last serves all later ones.

    What rounds see is distributed differently, so one set of running means would fit none of them.

    Source: Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017.
    """

    def __init__(self, width: int, rounds: int, grid: Grid = IMAGES) -> None:
        super().__init__()
        self.norms = nn.ModuleList(NORM[grid.dims](width) for _ in range(rounds))

    def forward(self, x: Float[Tensor, "B c *space"], round: int) -> Float[Tensor, "B c *space"]:
        normed: Tensor = self.norms[min(round, len(self.norms) - 1)](x)
        return normed


class Head(nn.Module):
    """From stride 2 to one logit per pixel and output: a 2x2 deconvolution, cropped to the image."""

    def __init__(self, width: int, outputs: int, starts: bool = True, grid: Grid = IMAGES) -> None:
        """
        Args:
            starts: `start_heads` applies to it.
        """
        super().__init__()
        step = grid.strides[0]
        self.deconvolution = UPWARDS[grid.dims](width, outputs, step, stride=step)  # type: ignore[arg-type]
        self.starts = starts

    def forward(
        self, features: Float[Tensor, "B c *small"], size: Sequence[int]
    ) -> Float[Tensor, "B outputs *space"]:
        logits: Tensor = self.deconvolution(features)
        return cropped(logits, size)


@torch.no_grad()
def start_heads(network: nn.Module, levels: Float[Tensor, " K"]) -> None:
    """Let all outputs begin at these logits, again and again for more outputs than levels.

    A level is slow to learn: hundreds of Adam's steps go into a few units of log-odds.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4.1.
    """
    for head in network.modules():
        if isinstance(head, Head) and head.starts:
            weight, bias = head.deconvolution.weight, head.deconvolution.bias
            assert bias is not None
            weight -= weight.mean(0)  # features begin with one mean, and would move the level at random
            bias.copy_(levels.repeat(len(bias) // len(levels)))


class Decoder(nn.Module):
    """U-Net's way up, from stride 32 to features at stride 2."""

    def __init__(
        self, encoder_widths: Sequence[int], dropout: float = 0.0, rounds: int = 1, grid: Grid = IMAGES
    ) -> None:
        super().__init__()
        widths = decoder_widths(encoder_widths)
        below = (encoder_widths[-1], *widths)
        self.ups = nn.ModuleList(
            Up(width_in, width_skip, width_out, dropout, rounds, grid, level)
            for width_in, width_skip, width_out, level in zip(
                below, reversed(encoder_widths[:-1]), widths, (4, 3, 2, 1), strict=False
            )
        )
        self.width = widths[-1]

    def skips(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The skips' half of every join, deepest first; depends on the image alone."""
        ups: Sequence[Up] = list(self.ups)  # type: ignore[arg-type]
        return [up.from_skip(skip) for up, skip in zip(ups, reversed(features[:-1]), strict=True)]

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "B width *small"]:
        x = features[-1]
        for up, skip in zip(self.ups, self.skips(features), strict=True):
            x = up(x, skip)
        return x


class UNet(nn.Module):
    """Encoder, decoder, head.

    Source: Ronneberger et al., "U-Net", MICCAI 2015, on a residual encoder.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        backbone: str = "resnet34",
        *,
        dropout: float = 0.0,
        encoder_weights: Path | None = None,
        grid: Grid = IMAGES,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, backbone, encoder_weights, grid)
        self.decoder = Decoder(self.encoder.widths, dropout, grid=grid)
        self.head = Head(self.decoder.width, outputs, grid=grid)

    def features(self, image: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B width *small"]:
        """The decoder's last features, at stride 2."""
        features: Tensor = self.decoder(self.encoder(image))
        return features

    def forward(self, image: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B outputs *space"]:
        logits: Tensor = self.head(self.features(image), image.shape[2:])
        return logits
