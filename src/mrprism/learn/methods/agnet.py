"""AGNet: a decoder that enlarges by attention guided filters instead of interpolation.

Source: Zhang et al., "Attention guided network for retinal image segmentation", MICCAI 2019.

Departures:
- on the backbone all methods share; the image joins it in a pyramid at strides 2 to 16;
- the filter is the exact minimiser of Σ T²(A I + b − O)² + ε A² in each window, in single precision; the
  released code's closed form mixes T² with another normalisation of T and takes an absolute value;
- windows at the border hold what is there, so any image size will do;
- learns the hard majority vote, as classes (`exclusive`); all five outputs are trained, the finest is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.exclusive import Classes, Grouping, rated_nll
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.unet import Head, decoder_widths, start_heads

RADIUS = 2  # of the filter's windows
RIDGE = 1e-2


class AGNet(Method):
    """Attention guided filters from stride 32 to stride 2, each stage with its own output."""

    def __init__(
        self,
        task: Task,
        *,
        grouping: Grouping = "auto",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        super().__init__(task)
        self.classes = Classes(len(task.structures), grouping)
        self.encoder = Encoder(task.channels, backbone, encoder_weights)
        skips = list(reversed(self.encoder.widths[:-1]))
        widths = decoder_widths(self.encoder.widths)
        below = [self.encoder.widths[-1], *widths]
        outputs = self.classes.groups * self.classes.size
        self.sides = nn.ModuleList(_conv(task.channels, skip) for skip in skips)
        self.guides = nn.ModuleList(nn.Conv2d(2 * s, b, 1) for s, b in zip(skips, below, strict=False))
        self.filters = nn.ModuleList(AttentionGuidedFilter(b) for b in below[:-1])
        self.refine = nn.ModuleList(
            nn.Sequential(_conv(b + s, w), _conv(w, w)) for b, s, w in zip(below, skips, widths, strict=False)
        )
        self.heads = nn.ModuleList(Head(width, outputs) for width in widths)

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        self.classes.prepare(samples)
        start_heads(self, self.classes.levels())

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        present = masks.masked_fill(~rated[..., None, None], 0.0)
        hard = (2 * present.sum(1) > rated.sum(1)[..., None, None]).float()
        labels, known = self.classes.labels(hard[:, None], rated.any(1)[:, None])
        if not known.any():
            return
        outputs = [self.classes.log_probability(logits) for logits in self(image)]
        mean = torch.stack(outputs).exp().mean(0).clamp(min=1e-6).log()
        each = [rated_nll(output[:, None], labels, known) for output in (*outputs, mean)]
        yield {"nll": torch.stack(each).sum()}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        probability = self.classes.log_probability(self(batch.image)[-1]).exp()
        return Prediction(probability=self.classes.structures(probability))

    def forward(self, image: Float[Tensor, "B channel H W"]) -> list[Tensor]:
        """Logits of each stage at the image's size, finest last."""
        *skips, x = self.encoder(image)
        outputs = []
        for side, guide, enlarge, refine, head, skip in zip(
            self.sides, self.guides, self.filters, self.refine, self.heads, reversed(skips), strict=True
        ):
            seen = side(F.adaptive_avg_pool2d(image, skip.shape[-2:]))
            guidance = guide(torch.cat([seen, skip], 1))
            x = refine(torch.cat([enlarge(guidance, x), skip], 1))
            half = [(length + 1) // 2 for length in image.shape[-2:]]
            outputs.append(head(_fit(x, half), image.shape[-2:]))
        return outputs


class AttentionGuidedFilter(nn.Module):
    """Enlarges an output along the edges of a guidance, which an attention weighs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_guidance = nn.Conv2d(width, width, 1)
        self.of_output = nn.Conv2d(width, width, 1)
        self.attention = nn.Conv2d(width, 1, 1)

    def forward(
        self, guidance: Float[Tensor, "B c H W"], output: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c H W"]:
        small = _fit(guidance, output.shape[-2:])
        attention = self.attention(F.relu(self.of_guidance(small) + self.of_output(output))).sigmoid()
        with torch.autocast(guidance.device.type, enabled=False):
            return guided_filter(guidance.float(), small.float(), output.float(), attention.float())


def guided_filter(
    guidance: Float[Tensor, "B c H W"],
    small: Float[Tensor, "B c h w"],
    output: Float[Tensor, "B c h w"],
    attention: Float[Tensor, "B 1 h w"],
    ridge: float = RIDGE,
) -> Float[Tensor, "B c H W"]:
    """A I + b at full size, where A and b best explain the small output by the small guidance.

    In each window Σ T²(A I + b − O)² + ε A² is least; overlapping windows are averaged, A and b enlarged.

    Args:
        attention: T. Where it is 1 everywhere this is He's guided filter.

    Source: He, Sun, Tang, "Guided image filtering", IEEE TPAMI 35(6), 2013, with weights.
    """
    weight = attention**2 + 1e-6
    total = box_mean(weight)

    def mean(x: Tensor) -> Tensor:
        return box_mean(weight * x) / total

    mean_i, mean_o = mean(small), mean(output)
    slope = (mean(small * output) - mean_i * mean_o) / ((mean(small**2) - mean_i**2).clamp(min=0) + ridge)
    offset = mean_o - slope * mean_i
    size = guidance.shape[-2:]
    return _fit(box_mean(slope), size) * guidance + _fit(box_mean(offset), size)


def box_mean(x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
    """Mean over the window around each pixel, of the pixels that are there."""
    return F.avg_pool2d(x, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)


def _fit(x: Float[Tensor, "B c h w"], size: Sequence[int]) -> Float[Tensor, "B c H W"]:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _conv(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out), nn.ReLU()
    )
