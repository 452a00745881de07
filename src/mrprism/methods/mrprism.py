"""Multi-rater Prism: a segmentation and the raters' confidence, each refining the other.

ConP segments the image given a confidence per rater, structure and pixel. DivP reads from that
segmentation what each rater would have drawn, which says how far to trust each. Run in turn they
calibrate each other. Equation numbers are the paper's. Where we depart from the paper, and why, is
listed in docs/concepts/mrprism.md.

Source: Wu et al., "Multi-rater Prism: Learning self-calibrated medical image segmentation from
multiple raters", arXiv:2212.00601; Science Bulletin 69(18), 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mrprism.batch import Batch
from mrprism.errors import InputError
from mrprism.losses import LOSSES, bce, rated_bce
from mrprism.methods.method import Method
from mrprism.networks.convlstm import ConvLSTMStep
from mrprism.networks.encoder import Encoder
from mrprism.networks.unet import Decoder, Head, Up
from mrprism.prediction import Prediction
from mrprism.sample import Task

Fusion = Literal["log-odds", "ratio", "verbatim"]
Integration = Literal["attention", "concat", "convlstm"]

LARGEST_GRID = 32  # attention never sees more than 32 x 32 tokens
CLEAREST = 0.98  # confidences stay within [1 - CLEAREST, CLEAREST], so that log-odds stay within ±3.9


class Recurrence(NamedTuple):
    """One round of ConP and DivP."""

    logits: Float[Tensor, "B C H W"]  # ConP
    segmentation: Float[Tensor, "B C H W"]  # ỹ, its probability, detached
    raters: Float[Tensor, "B R C H W"]  # DivP: logits of what each rater would mark
    confidence: Float[Tensor, "B R C H W"]  # chance that each rater agrees with the segmentation


class MrPrism(Method):
    """Learns one calibrated segmentation, and each rater's mask and confidence, in recurrences."""

    needs = frozenset({"two raters"})

    def __init__(
        self,
        task: Task,
        *,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
        recurrences: int = 3,
        fusion: Fusion = "log-odds",
        target: Literal["fuse", "self"] = "fuse",
        integration: Integration = "attention",
        reconstruction: Literal["bce", "ssim", "dice"] = "bce",
        multi_head: float = 1.0,
        divp_reconstruction: float = 0.3,
        shuffle: float = 0.3,
        shuffles: int = 3,
        floor: float = 0.5,
        prior: float = 0.0,
        predict_recurrences: int | None = None,
    ) -> None:
        """
        Args:
            recurrences: τ, rounds of ConP and DivP in training; the first is Rec0.
            fusion: How masks and confidences become one mask. `verbatim` is eq. 4 as printed, `ratio` the
                released code's, `log-odds` Proposition 4 with the term that eq. 4 drops.
            target: What ConP is trained on: the fusion of the raters' masks (Algorithm 1) or of DivP's (eq. 8).
            integration: How confidence enters ConP (Table 4).
            reconstruction: The form of L_rec (eq. 8).
            multi_head: Weight of L_MH (eq. 9); 0 drops it, as the paper's best row does.
            divp_reconstruction: Weight of L_rec's second term, DivP's.
            shuffle: ζ, weight of L_sff (eq. 10); 0 drops it.
            shuffles: Permutations of the raters for each L_sff.
            floor: A rater's confidence is never taken as less than this when masks are fused.
            prior: Share of ConP's own log-odds in the fusion (p of eq. 1).
            predict_recurrences: Rounds when predicting; the default is one more than in training.
        """
        super().__init__(task)
        if recurrences < 1:
            raise InputError(f"recurrences must be at least 1, not {recurrences}")
        if not 0 <= floor < 1:
            raise InputError(f"floor must be in [0, 1), not {floor}")
        raters, structures = len(task.raters), len(task.structures)
        self.recurrences = recurrences
        self.predict_recurrences = predict_recurrences or recurrences + 1
        self.fusion: Fusion = fusion
        self.target = target
        self.reconstruction = LOSSES[reconstruction]
        self.multi_head, self.divp_reconstruction, self.shuffle = multi_head, divp_reconstruction, shuffle
        self.shuffles, self.floor, self.prior = shuffles, floor, prior
        self.encoder = Encoder(task.channels, backbone, encoder_weights)
        self.conp = ConP(self.encoder.widths, raters, structures, integration)
        self.divp = DivP(raters, structures)

    def recur(
        self, image: Float[Tensor, "B channel H W"], confidence: Float[Tensor, "#B R #C H W"], rounds: int
    ) -> Iterator[Recurrence]:
        """ConP and DivP in turn; what depends on the image alone is computed once (Algorithm 1, lines 7-11)."""
        features = self.encoder(image)
        skips = self.conp.decoder.skips(features)
        for _ in range(rounds):
            logits = self.conp(features, skips, log_odds(confidence))
            segmentation = logits.detach().sigmoid()  # gradients stay inside a recurrence (after eq. 13)
            raters = self.divp(segmentation)
            confidence = agreement(segmentation, raters.detach().sigmoid())
            yield Recurrence(logits, segmentation, raters, confidence)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """One step on the sum over the recurrences (eq. 13)."""
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        confidence = self.initial_confidence(masks)
        target = self.fuse(masks, rated, confidence)  # y_0, eq. 15
        terms: dict[str, Tensor] = {}
        for step in self.recur(image, confidence, self.recurrences):
            losses = {"conp": self.reconstruction(step.logits, target)}  # eq. 8, first term
            losses |= self._divp_losses(step, masks, rated)
            for name, value in losses.items():
                terms[name] = terms[name] + value if name in terms else value
            drawn = masks if self.target == "fuse" else (step.raters.detach() > 0).float()
            target = self.fuse(drawn, rated, step.confidence, step.raters.detach(), step.segmentation)
        yield terms

    def _divp_losses(
        self, step: Recurrence, masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"]
    ) -> dict[str, Tensor]:
        """DivP's terms, on one pixel of every 2 x 2, which one is drawn anew each time.

        The estimate is unbiased and costs a quarter; DivP's maps over all raters are the largest tensors here.
        """
        row, column = torch.randint(0, 2, (2,)).tolist()
        raters, masks, segmentation = (x[..., row::2, column::2] for x in (step.raters, masks, step.segmentation))
        drawn = raters.sigmoid()
        losses = {"multi_head": self.multi_head * rated_bce(raters, masks, rated)}  # eq. 9
        confidence = agreement(segmentation, drawn)
        own = (raters.detach() > 0).float()  # T_0.5 of DivP's own masks
        if self.divp_reconstruction:  # eq. 8, second term
            source = own if self.target == "self" else masks
            fused = self.fused_logits(source, rated, confidence, raters, segmentation)
            losses["divp"] = self.divp_reconstruction * self.reconstruction(fused, segmentation)
        if self.shuffle:  # eqs. 10-12: under any permutation of confidences both masks fuse alike
            weights = log_odds(confidence.clamp(min=self.floor))
            total = weights.new_zeros(())
            for _ in range(self.shuffles):
                shuffled = weights[:, torch.randperm(weights.shape[1], device=weights.device)]
                goal = fuse_log_odds(masks, rated, shuffled.detach()).sigmoid()
                total = total + bce(fuse_log_odds(own, rated, shuffled), goal)
            losses["shuffle"] = self.shuffle * total / self.shuffles
        return losses

    def predict(self, batch: Batch) -> Prediction:
        """Every recurrence from equal confidences; the last is the segmentation."""
        image = batch.image
        assert image is not None
        equal = image.new_full((1, len(self.task.raters), len(self.task.structures), *image.shape[-2:]), 0.75)
        rounds = list(self.recur(image, equal, self.predict_recurrences))
        return Prediction(
            probability=rounds[-1].segmentation,
            raters=rounds[-1].raters.sigmoid(),
            confidence=rounds[-1].confidence,
            steps=tuple(step.segmentation for step in rounds),
        )

    def initial_confidence(self, masks: Float[Tensor, "B R C H W"]) -> Float[Tensor, "1 R C H W"]:
        """Eq. 14 as a chance of agreeing, the same for the whole batch.

        a₀ = 0.5 + ψ/2, so that no rater starts worse than chance.
        """
        _, raters, structures, *pixels = masks.shape
        average = torch.empty(1, raters, 1, 1, 1, device=masks.device).uniform_(0.1, 0.9)
        disturbance = 0.2 * torch.randn(1, raters, 1, *pixels, device=masks.device)
        return (0.5 + (average + disturbance).clamp(0, 1) / 2).expand(-1, -1, structures, -1, -1)

    def fuse(
        self,
        masks: Float[Tensor, "B R C H W"],
        rated: Bool[Tensor, "B R C"],
        confidence: Float[Tensor, "#B R C H W"],
        raters: Float[Tensor, "B R C H W"] | None = None,
        segmentation: Float[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Probability of the consensus, given masks and how far each rater is trusted at each pixel."""
        return self.fused_logits(masks, rated, confidence, raters, segmentation).sigmoid()

    def fused_logits(
        self,
        masks: Float[Tensor, "B R C H W"],
        rated: Bool[Tensor, "B R C"],
        confidence: Float[Tensor, "#B R C H W"],
        raters: Float[Tensor, "B R C H W"] | None = None,
        segmentation: Float[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Log-odds of y_fuse (eq. 4), or of y_self (eq. 5) when the masks are DivP's own."""
        if self.fusion == "verbatim" and raters is not None:
            return fuse_verbatim(masks, rated, raters)
        trusted = confidence.clamp(min=self.floor)
        if self.fusion == "ratio":
            return fuse_ratio(masks, rated, trusted)
        logits = fuse_log_odds(masks, rated, log_odds(trusted))
        if self.prior and segmentation is not None:
            logits = logits + self.prior * log_odds(segmentation)
        return logits


class ConP(nn.Module):
    """Converging Prism: a U-Net decoder that a confidence per rater steers (section 4.1)."""

    def __init__(self, widths: Sequence[int], raters: int, structures: int, integration: Integration) -> None:
        super().__init__()
        self.decoder = Decoder(widths)
        ups: Sequence[Up] = list(self.decoder.ups)  # type: ignore[arg-type]
        steered = [widths[-1], *(up.from_below.out_channels for up in ups[:2])]  # strides 32, 16 and 8
        self.embedding = ConfidenceEmbedding(raters * structures, steered)
        self.integrate = nn.ModuleList(INTEGRATIONS[integration](width) for width in steered)
        self.head = Head(self.decoder.width, structures)

    def forward(
        self,
        features: Sequence[Tensor],
        skips: Sequence[Tensor],
        weights: Float[Tensor, "#B R C H W"],
    ) -> Float[Tensor, "B C H W"]:
        grids = [features[-1].shape[-2:], skips[0].shape[-2:], skips[1].shape[-2:]]
        embedded = self.embedding(weights.flatten(1, 2), grids)
        x = features[-1]
        for stage, (up, skip) in enumerate(zip(self.decoder.ups, skips, strict=True)):
            if stage < len(self.integrate):
                x = self.integrate[stage](x, embedded[stage])
            x = up(x, skip)
        logits: Tensor = self.head(x, weights.shape[-2:])
        return logits


class ConfidenceEmbedding(nn.Module):
    """Separable convolutions from confidence maps to the sizes of ConP's features (Figure 7).

    Depth-wise convolutions change the resolution, point-wise ones the channels.
    """

    def __init__(self, maps: int, widths: Sequence[int]) -> None:
        super().__init__()
        w32, w16, w8 = widths
        self.to_stride_8 = nn.Sequential(
            _separable(maps, 32, kernel=5), nn.ReLU(), _separable(32, 64), nn.ReLU(), _separable(64, w8)
        )
        self.to_stride_16 = nn.Sequential(nn.ReLU(), _separable(w8, w16))
        self.to_stride_32 = nn.Sequential(nn.ReLU(), _separable(w16, w32))

    def forward(self, weights: Float[Tensor, "B maps H W"], grids: Sequence[Sequence[int]]) -> list[Tensor]:
        fine = self.to_stride_8(weights)
        middle = self.to_stride_16(fine)
        coarse = self.to_stride_32(middle)
        return [_fit(x, grid) for x, grid in zip((coarse, middle, fine), grids, strict=True)]


def _separable(width_in: int, width_out: int, kernel: int = 3) -> nn.Sequential:
    depthwise = nn.Conv2d(width_in, width_in, kernel, stride=2, padding=kernel // 2, groups=width_in)
    return nn.Sequential(depthwise, nn.Conv2d(width_in, width_out, 1))


class Attention(nn.Module):
    """Features chosen by embedded confidence: query from the one, key and value from the other (eq. 7)."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(
        self, features: Float[Tensor, "B c h w"], confidence: Float[Tensor, "#B c h w"]
    ) -> Float[Tensor, "B c h w"]:
        grid = _grid(features)
        f, w = _tokens(features, grid), _tokens(confidence, grid).expand(len(features), -1, -1)
        position = _positions(grid, f.shape[-1], f)  # E_w and E_f: where, not what
        attended = attend(self.query(w + position), self.key(f + position), self.value(f), self.heads)
        # the query rides along: what ConP is told about the raters must reach its output, not only its gaze
        x = self.norm_attention(f + w + self.out(attended))
        x = self.norm_mlp(x + self.mlp(x))
        chosen = x.transpose(1, 2).unflatten(-1, grid)
        if grid == tuple(features.shape[-2:]):
            return chosen
        return features + _fit(chosen, features.shape[-2:])


class Concat(nn.Module):
    """Table 4's "Concat": features and confidence side by side, one convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.join = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(
        self, features: Float[Tensor, "B c h w"], confidence: Float[Tensor, "#B c h w"]
    ) -> Float[Tensor, "B c h w"]:
        joined: Tensor = self.join(torch.cat([features, confidence.expand_as(features)], 1))
        return joined


INTEGRATIONS: dict[str, type[nn.Module]] = {"attention": Attention, "concat": Concat, "convlstm": ConvLSTMStep}


class DivP(nn.Module):
    """Diverging Prism: from the segmentation to what each rater would mark (section 4.2).

    A stem to at most 32 x 32, patches of 2 x 2 of that as tokens, four self-attention blocks, the last with
    one head per rater; then each head's tokens meet the segmentation's own fine features.
    """

    def __init__(self, raters: int, structures: int, width: int = 64, per_rater: int = 8) -> None:
        super().__init__()
        self.raters, self.structures = raters, structures
        self.fine = nn.Sequential(nn.Conv2d(structures, 32, 5, stride=2, padding=2), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(32, width, 3, stride=2, padding=1), nn.ReLU())
        self.patches = nn.Conv2d(width, width, 2, stride=2)
        self.blocks = nn.ModuleList(SelfAttention(width, heads=4) for _ in range(3))
        self.heads = SelfAttention(width, heads=raters, width_head=per_rater, width_out=raters * per_rater)
        self.from_fine = nn.Conv2d(32, raters * per_rater, 1)
        self.out = nn.ConvTranspose2d(raters * per_rater, raters * structures, 2, stride=2, groups=raters)

    def forward(self, segmentation: Float[Tensor, "B C H W"]) -> Float[Tensor, "B R C H W"]:
        """Args:
        segmentation: Probabilities; DivP sees nothing else.
        """
        fine = self.fine(segmentation)
        coarse = self.coarse(fine)
        coarse = self.patches(F.adaptive_avg_pool2d(coarse, _grid(coarse)))
        grid = _grid(coarse)
        x = _tokens(coarse, grid)
        position = _positions(grid, x.shape[-1], x)
        for block in (*self.blocks, self.heads):
            x = block(x, position)
        per_rater = _fit(x.transpose(1, 2).unflatten(-1, grid), fine.shape[-2:])
        logits = self.out(F.relu(per_rater + self.from_fine(fine)))
        height, width = segmentation.shape[-2:]
        return logits[..., :height, :width].unflatten(1, (self.raters, self.structures))


class SelfAttention(nn.Module):
    """Multi-head self-attention, norm, MLP, norm, with residuals where widths allow."""

    def __init__(self, width: int, heads: int, width_head: int | None = None, width_out: int | None = None) -> None:
        super().__init__()
        inner = heads * (width_head or width // heads)
        out = width_out or width
        self.heads = heads
        self.query_key_value = nn.ModuleList(nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, out)
        self.residual = nn.Identity() if out == width else nn.Linear(width, out)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(out), nn.LayerNorm(out)
        self.mlp = nn.Sequential(nn.Linear(out, out), nn.GELU(), nn.Linear(out, out))

    def forward(
        self, x: Float[Tensor, "B token c"], position: Float[Tensor, "token c"]
    ) -> Float[Tensor, "B token d"]:
        query, key, value = self.query_key_value
        attended = attend(query(x + position), key(x + position), value(x), self.heads)
        y = self.norm_attention(self.residual(x) + self.out(attended))
        result: Tensor = self.norm_mlp(y + self.mlp(y))
        return result


def attend(
    query: Float[Tensor, "B token c"], key: Float[Tensor, "B token c"], value: Float[Tensor, "B token c"], heads: int
) -> Float[Tensor, "B token c"]:
    """Scaled dot-product attention in several heads."""
    split = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def agreement(
    segmentation: Float[Tensor, "B C H W"], raters: Float[Tensor, "B R C H W"]
) -> Float[Tensor, "B R C H W"]:
    """Chance that a rater's mark and the segmentation agree: a = ỹ s + (1 − ỹ)(1 − s)."""
    y = segmentation[:, None]
    return torch.addcmul(1 - y, 2 * y - 1, raters)


def log_odds(probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(p / (1 − p)) of a probability kept away from certainty."""
    return torch.logit(probability, eps=1 - CLEAREST)


def fuse_log_odds(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], weights: Float[Tensor, "#B R C H W"]
) -> Float[Tensor, "B C H W"]:
    """Log-odds of the consensus: eq. 4 with both terms of Proposition 4, the uniform prior p_u being 0."""
    votes = (2 * masks - 1) * rated[..., None, None]
    return (votes * weights).sum(1)


def fuse_ratio(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], confidence: Float[Tensor, "#B R C H W"]
) -> Float[Tensor, "B C H W"]:
    """Log-odds of the mean mask weighted by each rater's share of the confidence, as in the released code."""
    share = confidence * rated[..., None, None]
    return log_odds((share * masks).sum(1) / share.sum(1).clamp(min=1e-6))


def fuse_verbatim(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], raters: Float[Tensor, "B R C H W"]
) -> Float[Tensor, "B C H W"]:
    """Eq. 4 as printed: softmax over structure and background of Σ log z̃ · z, from DivP's logits.

    It inverts the vote (DESIGN): kept so that the paper's own cell can be run.
    """
    marked = (masks * rated[..., None, None] * F.logsigmoid(raters)).sum(1)
    unmarked = ((1 - masks) * rated[..., None, None] * F.logsigmoid(-raters)).sum(1)
    return marked - unmarked


def _grid(x: Tensor) -> tuple[int, int]:
    height, width = x.shape[-2:]
    return min(height, LARGEST_GRID), min(width, LARGEST_GRID)


def _fit(x: Float[Tensor, "B c h w"], size: Sequence[int]) -> Float[Tensor, "B c H W"]:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _tokens(x: Float[Tensor, "B c h w"], grid: tuple[int, int]) -> Float[Tensor, "B token c"]:
    if tuple(x.shape[-2:]) != grid:
        x = F.adaptive_avg_pool2d(x, grid)
    return x.flatten(2).transpose(1, 2)


def _positions(grid: tuple[int, int], width: int, like: Tensor) -> Float[Tensor, "token width"]:
    """Fixed sinusoidal positions, half of the channels for rows and half for columns."""
    quarter = width // 4
    rates = torch.exp(torch.arange(quarter, device=like.device) * (-6.0 / max(quarter, 1)))
    axes = []
    for length in grid:
        angle = torch.arange(length, device=like.device)[:, None] * (32.0 / length) * rates
        axes.append(torch.cat([angle.sin(), angle.cos()], -1))
    rows = axes[0][:, None].expand(*grid, -1)
    columns = axes[1][None].expand(*grid, -1)
    both = torch.cat([rows, columns], -1).flatten(0, 1)
    return F.pad(both, (0, width - both.shape[-1])).to(like.dtype)
