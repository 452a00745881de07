"""MRNet: a segmentation conditioned on how much each rater is trusted.

Three parts: the expertise-aware inferring module (EIM) segments the image given one trust per rater, the
multi-rater reconstruction module (MRM) draws every rater's mask from that, and the multi-rater perception
module (MPM) refines the segmentation where the raters differ.

Source: Ji et al., "Learning calibrated medical image segmentation via multi-rater agreement modeling",
CVPR 2021.

Departures:
- any number of raters, structures and pixels; absent raters get no trust and enter no loss;
- EIM and MRM stand on the backbone all methods share, not on ResNet-34 and VGG16 with ASPP;
- MRM is fed probabilities everywhere; the released code feeds it logits, and masks in one term;
- MPM sees the coarse map of its own condition; in the released code the uniform case gets the random one's;
- the three parts, separately optimised in the released code, share an optimiser but no gradient;
- the consistency term reaches EIM as the paper says (`consistency="paper"`); the released code computes it
  on the detached prediction, where it moves nothing (`consistency="code"`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.losses import rated_bce
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.convlstm import ConvLSTMStep
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.unet import Decoder, Head

CONDITIONS = {"uniform": 3 / 6, "random": 2 / 6, "one-hot": 1 / 6}  # how much each weighs
CONSISTENCY = 0.3


class MRNet(Method):
    """EIM, MRM and MPM; predicts under equal trust."""

    needs = frozenset({"named raters", "two raters"})

    def __init__(
        self,
        task: Task,
        *,
        consistency: Literal["paper", "code"] = "paper",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        super().__init__(task)
        if consistency not in ("paper", "code"):
            raise InputError(f"consistency must be 'paper' or 'code', not '{consistency}'")
        self.consistency = consistency
        raters, structures = len(task.raters), len(task.structures)
        self.eim = Conditioned(task.channels, structures, raters, backbone, encoder_weights)
        self.mrm = Conditioned(task.channels + structures, raters * structures, raters, backbone, None)
        self.mpm = Perception(self.eim.decoder.width, structures)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        if not rated.any():
            return
        present = rated.any(2)
        encoded = self.eim.encoder(image)
        terms = {name: image.new_zeros(()) for name in ("coarse", "raters", "refined", "consistency")}
        for condition, share in CONDITIONS.items():
            expertise = draw_expertise(condition, present)
            target, known = weighted_vote(masks, rated, expertise)
            coarse, features = self.eim.decode(encoded, expertise, image.shape[-2:])
            given = coarse.detach().sigmoid()
            raters = self.reconstruct(image, given, expertise)
            refined = self.mpm(features.detach(), given, raters.detach().sigmoid(), image.shape[-2:])
            terms["coarse"] = terms["coarse"] + (1 - CONSISTENCY) * share * rated_mean_bce(
                coarse, target, known
            )
            terms["raters"] = terms["raters"] + rated_bce(raters, masks, rated) / len(CONDITIONS)
            terms["refined"] = terms["refined"] + share * rated_mean_bce(refined, target, known)
            if condition == "uniform":
                predicted = coarse.sigmoid() if self.consistency == "paper" else given
                true = torch.where(known[..., None, None], target, predicted.detach())
                terms["consistency"] = CONSISTENCY * self.feature_distance(image, predicted, true)
        yield terms

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        equal = batch.image.new_full((len(batch.image), len(self.task.raters)), 1 / len(self.task.raters))
        return self.predict_under(batch.image, equal)

    def predict_under(
        self, image: Float[Tensor, "B channel H W"], expertise: Float[Tensor, "B R"]
    ) -> Prediction:
        """The segmentation when each rater is trusted so much.

        Args:
            expertise: Sums to 1 over raters; one-hot for a single rater's view.
        """
        coarse, features = self.eim(image, expertise)
        raters = self.reconstruct(image, coarse.sigmoid(), expertise).sigmoid()
        refined = self.mpm(features, coarse.sigmoid(), raters, image.shape[-2:])
        return Prediction(probability=refined.sigmoid(), raters=raters)

    def reconstruct(
        self,
        image: Float[Tensor, "B channel H W"],
        segmentation: Float[Tensor, "B C H W"],
        expertise: Float[Tensor, "B R"],
    ) -> Float[Tensor, "B R C H W"]:
        """MRM: logits of every rater's mask, from the image and a segmentation's probabilities."""
        logits, _ = self.mrm(torch.cat([image, segmentation], 1), expertise)
        each: Tensor = logits.unflatten(1, (len(self.task.raters), -1))
        return each

    def feature_distance(
        self,
        image: Float[Tensor, "B channel H W"],
        predicted: Float[Tensor, "B C H W"],
        true: Float[Tensor, "B C H W"],
    ) -> Float[Tensor, ""]:
        """How differently MRM's encoder, held fixed, sees two segmentations: squared distances over rows of
        pixels, averaged, summed over its stages, over 1000."""
        encoder = self.mrm.encoder
        learning = encoder.training
        encoder.requires_grad_(False).eval()
        apart = [
            ((p - t) ** 2).sum(-1).mean()
            for p, t in zip(
                encoder(torch.cat([image, predicted], 1)), encoder(torch.cat([image, true], 1)), strict=True
            )
        ]
        encoder.requires_grad_(True).train(learning)
        return torch.stack(apart).sum() / 1000


class Conditioned(nn.Module):
    """A U-Net whose deepest features pass a ConvLSTM step with the trust in each rater as its state."""

    def __init__(
        self, channels: int, outputs: int, raters: int, backbone: str, encoder_weights: Path | None
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, backbone, encoder_weights)
        self.embedding = nn.Conv2d(raters, self.encoder.widths[-1], 3, padding=1)
        self.integrate = ConvLSTMStep(self.encoder.widths[-1])
        self.decoder = Decoder(self.encoder.widths)
        self.head = Head(self.decoder.width, outputs, starts=False)

    def forward(
        self, image: Float[Tensor, "B channel H W"], expertise: Float[Tensor, "B R"]
    ) -> tuple[Float[Tensor, "B outputs H W"], Float[Tensor, "B width h w"]]:
        """Logits, and the features at stride 2 they come from."""
        return self.decode(self.encoder(image), expertise, image.shape[-2:])

    def decode(
        self, encoded: Sequence[Tensor], expertise: Float[Tensor, "B R"], size: Sequence[int]
    ) -> tuple[Float[Tensor, "B outputs H W"], Float[Tensor, "B width h w"]]:
        """The same from the encoder's features, which depend on the image alone."""
        deepest = encoded[-1]
        state = self.embedding(expertise[..., None, None].expand(-1, -1, *deepest.shape[-2:]))
        features = self.decoder([*encoded[:-1], self.integrate(deepest, state)])
        return self.head(features, size), features


class Perception(nn.Module):
    """MPM: features seen through the segmentation and through the raters' spread, once per structure."""

    def __init__(self, width: int, structures: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(SoftAttention() for _ in range(2 * structures))
        self.join = nn.Sequential(
            nn.Conv2d(2 * structures * width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.ReLU(),
        )
        self.head = Head(width, structures, starts=False)

    def forward(
        self,
        features: Float[Tensor, "B width h w"],
        segmentation: Float[Tensor, "B C H W"],
        raters: Float[Tensor, "B R C H W"],
        size: Sequence[int],
    ) -> Float[Tensor, "B C H W"]:
        spread = raters.std(1, correction=0)
        height, width = features.shape[-2:]
        maps = F.adaptive_avg_pool2d(torch.cat([segmentation, spread], 1), (height, width))
        seen = [attend(features, maps[:, [n]]) for n, attend in enumerate(self.attentions)]
        logits: Tensor = self.head(self.join(torch.cat(seen, 1)), size)
        return logits


class SoftAttention(nn.Module):
    """Features multiplied by a blurred map, where blurring may only widen it; plus the features."""

    def __init__(self, size: int = 31) -> None:
        super().__init__()
        offset = torch.linspace(-4, 4, size)  # standard deviations
        line = torch.exp(-(offset**2) / 4)  # the square root of a Gaussian
        kernel = line[:, None] * line
        self.kernel = nn.Parameter((kernel / kernel.sum())[None, None])

    def forward(
        self, features: Float[Tensor, "B width h w"], attention: Float[Tensor, "B 1 h w"]
    ) -> Float[Tensor, "B width h w"]:
        blurred = convolved(attention, self.kernel)
        least, most = blurred.amin((-2, -1), keepdim=True), blurred.amax((-2, -1), keepdim=True)
        wide = torch.maximum((blurred - least) / (most - least + 1e-6), attention)
        return features * wide + features


def convolved(maps: Float[Tensor, "B 1 h w"], kernel: Float[Tensor, "1 1 k k"]) -> Float[Tensor, "B 1 h w"]:
    """`F.conv2d` padded to the same size, by Fourier: on a CPU its backward pass for 31 x 31 is very slow."""
    height, width = maps.shape[-2:]
    before, after = kernel.shape[-1] // 2, kernel.shape[-1] - 1
    size = (height + after, width + after)
    product = torch.fft.rfft2(maps.float(), size) * torch.fft.rfft2(kernel.float().flip(-2, -1), size)
    whole: Tensor = torch.fft.irfft2(product, size).to(maps.dtype)
    return whole[..., before : before + height, before : before + width]


def draw_expertise(condition: str, present: Bool[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    """Trust in the raters present: equal, random integers 1 to 10, or one-hot; sums to 1 or to 0."""
    if condition == "uniform":
        weight = torch.ones_like(present, dtype=torch.float32)
    elif condition == "random":
        weight = torch.randint(1, 11, present.shape, device=present.device).float()
    else:
        chosen = torch.multinomial(present.float() + 1e-9, 1)
        weight = torch.zeros_like(present, dtype=torch.float32).scatter(1, chosen, 1.0)
    weight = weight * present
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-6)


def weighted_vote(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], expertise: Float[Tensor, "B R"]
) -> tuple[Float[Tensor, "B C H W"], Bool[Tensor, "B C"]]:
    """The mean of the masks with these weights, and where a trusted rater did the structure."""
    weight = expertise[:, :, None] * rated
    total = weight.sum(1)
    votes = (masks.masked_fill(~rated[..., None, None], 0.0) * weight[..., None, None]).sum(1)
    return votes / total.clamp(min=1e-6)[..., None, None], total > 0


def rated_mean_bce(
    logits: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], known: Bool[Tensor, "B C"]
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over the cases and structures that have a target."""
    each = F.binary_cross_entropy_with_logits(logits, target.clamp(0, 1), reduction="none").mean((-2, -1))
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)
