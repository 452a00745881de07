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

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.losses import LOSSES, LossName, bce, rated_bce
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.convlstm import ConvLSTMStep
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.unet import Decoder, Head, Up

Fusion = Literal["log-odds", "share", "ratio", "verbatim"]
Integration = Literal["attention", "concat", "convlstm"]
Trust = Literal["band", "pixel", "mask"]

LARGEST_GRID = 32  # attention never has more than 32 x 32 queries
KEY_GRID = (
    8  # keys and values are pooled to at most 8 x 8: Wang et al., "Pyramid Vision Transformer", ICCV 2021
)
EQUAL = 0.75  # the confidence everyone has before anything is known
DISPUTED = 2.5  # rates are counted as if ten evenly divided pixels had already shown what is usual
CALIBRATION_RATE = 0.03  # of the running means, each step
CLEAR = 7.0  # log-odds of what all raters agree on, one in a thousand in doubt; seven raters' votes reach it
CLEAREST = 0.98  # confidences stay within [1 - CLEAREST, CLEAREST], so that log-odds stay within ±3.9


class Recurrence(NamedTuple):
    """One round of ConP and DivP."""

    round: int
    logits: Float[Tensor, "B C H W"]  # ConP
    segmentation: Float[Tensor, "B C H W"]  # ỹ, its probability, detached
    phases: Float[Tensor, "B R C 2 2 h w"]  # DivP: `raters` before its pixels are interleaved
    raters: Float[Tensor, "B R C H W"]  # logits of what each rater would mark, detached
    agreed: Float[Tensor, "B R C H W"]  # chance that each rater agrees with the segmentation, by DivP
    read: Float[Tensor, "B R C h w"]  # log-odds of the confidence DivP shows, for the image or each pixel
    confidence: Float[Tensor, "B R C h w"]  # that, calibrated: what ConP is told and masks are fused with


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
        predict_recurrences: int | None = None,
        fusion: Fusion | None = None,
        target: Literal["fuse", "self"] = "fuse",
        integration: Integration = "attention",
        reconstruction: LossName = "bce+dice",
        multi_head: float = 1.0,
        divp_reconstruction: float = 0.0,
        initial: Literal["equal", "random"] = "equal",
        shuffle: float = 0.0,
        shuffles: int = 3,
        trust: Trust | None = None,
        floor: float = 0.55,
        prior: float = 0.0,
    ) -> None:
        """
        Args:
            recurrences: τ, rounds of ConP and DivP in training; the first is Rec0.
            predict_recurrences: Rounds when predicting; the default is one more than in training.
            fusion: How masks and confidences become one mask. "log-odds": Proposition 4 with the term that
                eq. 4 drops, the chance of the truth. "share": the share of votes, each weighing its log-odds:
                the same outline at one half, and soft wherever raters differ. "ratio" is the released code's,
                "verbatim" eq. 4 as printed. None: "share" when raters are anonymous, for their spread is then
                all there is to be calibrated to; else "log-odds".
            target: What ConP is trained on: the fusion of the raters' masks (Algorithm 1) or DivP's (eq. 8).
            integration: How confidence enters ConP (Table 4).
            reconstruction: The form of L_rec (eq. 8).
            multi_head: Weight of L_MH (eq. 9); 0 drops it, as the paper's best row does.
            divp_reconstruction: Weight of L_rec's second term, DivP's.
            initial: Confidence before the first round of training: the same for all raters, as when predicting,
                or drawn anew each step (eq. 14).
            shuffle: ζ, weight of L_sff (eq. 10); 0 drops it.
            shuffles: Permutations of the raters for each L_sff.
            trust: Where confidence is read. "pixel": DivP's agreement at each pixel, the paper's reading.
                "band": one for the image, from where raters differ (`skill`), set right by counting (see
                `_calibrate`). "mask": the same of each given mask, whoever drew it. None: "mask" when raters are
                anonymous, else "band".
            floor: No rater is taken for worse than this when masks are fused; above 0.5, no vote is ever
                turned round, and the fusion cannot collapse to a constant.
            prior: Share of ConP's own log-odds in the fusion (p of eq. 1).
        """
        super().__init__(task)
        if predict_recurrences is None:
            predict_recurrences = recurrences + 1
        counts = {
            "recurrences": recurrences,
            "predict_recurrences": predict_recurrences,
            "shuffles": shuffles,
        }
        for name, count in counts.items():
            if count < 1:
                raise InputError(f"{name} must be at least 1, not {count}")
        if not 0 <= floor < 1:
            raise InputError(f"floor must be in [0, 1), not {floor}")
        raters, structures = len(task.raters), len(task.structures)
        self.recurrences = recurrences
        self.predict_recurrences = predict_recurrences
        self.fusion: Fusion = fusion or ("share" if task.anonymous else "log-odds")
        self.target = target
        self.reconstruction = LOSSES[reconstruction]
        self.multi_head, self.divp_reconstruction = multi_head, divp_reconstruction
        self.initial, self.shuffle, self.shuffles = initial, shuffle, shuffles
        self.trust: Trust = trust or ("mask" if task.anonymous else "band")
        self.floor, self.prior = floor, prior
        self.encoder = Encoder(task.channels, backbone, encoder_weights)
        self.conp = ConP(self.encoder.widths, raters, structures, integration, rounds=min(recurrences, 2))
        self.divp = DivP(raters, structures)
        self.counted: Tensor  # each rater's confidence from their real masks, a running mean in training
        self.read: Tensor  # the log-odds that DivP read for it, the same mean; both for each round by itself
        self.register_buffer("counted", torch.full((recurrences, raters, structures), EQUAL))
        self.register_buffer("read", torch.zeros(recurrences, raters, structures))

    def recur(
        self, image: Float[Tensor, "B channel H W"], confidence: Float[Tensor, "#B R C h w"], rounds: int
    ) -> Iterator[Recurrence]:
        """ConP and DivP in turn; the encoder and its skips run once (Algorithm 1, lines 7-11)."""
        size = image.shape[-2:]
        features = self.encoder(image)
        skips = self.conp.decoder.skips(features)
        for round in range(rounds):
            logits = self.conp(features, skips, log_odds(confidence), size, round)
            segmentation = logits.detach().sigmoid()  # gradients stay inside a recurrence (after eq. 13)
            phases = self.divp(segmentation)
            raters = interleave(phases.detach(), size)
            agreed = agreement(segmentation, raters.sigmoid())
            read = self._read(agreed, raters.sigmoid(), segmentation)
            confidence = self._corrected(read, round)
            yield Recurrence(round, logits, segmentation, phases, raters, agreed, read, confidence)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """One step on the sum over the recurrences (eq. 13)."""
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        confidence = self.equal_confidence(image)
        if self.initial == "random":
            confidence = self.random_confidence(masks)
        someone = rated.any(1)[..., None, None]
        target = self.fused_logits(masks, rated, confidence).sigmoid()  # y_0, eq. 15
        terms: dict[str, Tensor] = {}
        for step in self.recur(image, confidence, self.recurrences):
            target = torch.where(someone, target, step.segmentation)  # nothing to learn where nobody rated
            losses = {"conp": self.reconstruction(step.logits, target)}  # eq. 8, first term
            losses |= self._divp_losses(step, masks, rated)
            for name, value in losses.items():
                terms[name] = terms[name] + value if name in terms else value
            if self.trust == "band":
                self._calibrate(step, masks, rated)
            drawn = masks if self.target == "fuse" else (step.raters > 0).float()
            target = self._fusion(step, drawn, rated).sigmoid()
        yield terms

    def _divp_losses(
        self, step: Recurrence, masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"]
    ) -> dict[str, Tensor]:
        """DivP's terms, on one pixel of every 2 x 2, which one is drawn anew each time.

        The estimate is unbiased and costs a quarter; maps over all raters are the largest tensors here.
        """
        row, column = torch.randint(0, 2, (2,)).tolist()
        masks, segmentation = masks[..., row::2, column::2], step.segmentation[..., row::2, column::2]
        raters = step.phases[:, :, :, row, column, : masks.shape[-2], : masks.shape[-1]]
        losses = {}
        if self.multi_head:
            losses["multi_head"] = self.multi_head * rated_bce(raters, masks, rated)  # eq. 9
        if not (self.divp_reconstruction or self.shuffle):
            return losses
        drawn = raters.sigmoid()
        read = self._read(agreement(segmentation, drawn), drawn, segmentation)
        confidence = self._corrected(read, step.round)
        own = (raters.detach() > 0).float()  # T_0.5 of DivP's own masks
        if self.divp_reconstruction:  # eq. 8, second term
            source = own if self.target == "self" else masks
            fused = self.fused_logits(source, rated, confidence, raters, segmentation)
            losses["divp"] = self.divp_reconstruction * self.reconstruction(fused, segmentation)
        if self.shuffle:  # eqs. 10-12: under any permutation of confidences both masks fuse alike
            total = drawn.new_zeros(())
            for _ in range(self.shuffles):
                shuffled = confidence[:, torch.randperm(confidence.shape[1], device=confidence.device)]
                goal = self.fused_logits(masks, rated, shuffled).detach().sigmoid()
                total = total + bce(self.fused_logits(own, rated, shuffled), goal)
            losses["shuffle"] = self.shuffle * total / self.shuffles
        return losses

    def predict(self, batch: Batch) -> Prediction:
        """Every recurrence from equal confidences; the last is the segmentation."""
        assert batch.image is not None
        rounds = list(self.recur(batch.image, self.equal_confidence(batch.image), self.predict_recurrences))
        last = rounds[-1]
        confidence = self._corrected(log_odds(last.agreed), last.round)
        return Prediction(
            probability=last.segmentation,
            raters=last.raters.sigmoid(),
            confidence=confidence,
            steps=tuple(step.segmentation for step in rounds),
        )

    def fuse_given(self, batch: Batch) -> Float[Tensor, "B C H W"]:
        """Probability of the consensus of given masks, trusted as DivP reads the image (Table 3)."""
        assert batch.image is not None and batch.masks is not None and batch.rated is not None
        *_, last = self.recur(batch.image, self.equal_confidence(batch.image), self.predict_recurrences)
        return self._fusion(last, batch.masks, batch.rated).sigmoid()

    def _read(
        self,
        agreed: Float[Tensor, "B R C H W"],
        raters: Float[Tensor, "B R C H W"],
        segmentation: Float[Tensor, "B C H W"],
    ) -> Float[Tensor, "B R C h w"]:
        """Log-odds of the confidence that DivP's maps show: at every pixel, or one for the image.

        Far from every outline all raters agree; at the outline itself nobody does better than chance. What
        tells raters apart is how they fare in the band between, so that is where they are judged.
        """
        if self.trust == "pixel":
            return log_odds(agreed)
        return skill(*tally(raters, segmentation, raters.mean(1)), EQUAL)[..., None, None]

    def _corrected(self, read: Float[Tensor, "B R C h w"], round: int) -> Float[Tensor, "B R C h w"]:
        """Confidence from DivP's reading, moved so that its mean in training is what was counted.

        Each round has its own mean: what Rec0 draws is nearer the vote than what later rounds draw, DivP
        cannot tell which of them it sees, and one mean for all makes rounds swing around the right answer.
        """
        if self.trust == "pixel":
            return read.sigmoid()
        round = min(round, self.recurrences - 1)
        return (read + (log_odds(self.counted[round]) - self.read[round])[..., None, None]).sigmoid()

    @torch.no_grad()
    def _calibrate(
        self, step: Recurrence, masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"]
    ) -> None:
        """Count how often each rater's real masks agree with the segmentation where raters differ.

        Pooled over the training set: Dawid and Skene, "Maximum likelihood estimation of observer
        error-rates", Applied Statistics 28(1), 1979, with ConP's segmentation as the consensus.
        """
        there = rated.float()
        hits, chances = tally(masks, (step.segmentation > 0.5).float(), mean_vote(masks, rated))
        hits, chances = (hits * there[..., None]).sum(0), (chances * there[..., None]).sum(0)
        cases = there.sum(0)
        rate = CALIBRATION_RATE * (cases > 0)
        counted, read = self.counted[step.round], self.read[step.round]
        counted.lerp_(skill(hits, chances, counted[..., None]).sigmoid(), rate)
        read.lerp_((step.read[..., 0, 0] * there).sum(0) / cases.clamp(min=1), rate)

    def _fusion(
        self, step: Recurrence, masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"]
    ) -> Float[Tensor, "B C H W"]:
        """Log-odds of the masks' fusion as one recurrence sees it.

        For a rater who is absent stands what DivP says they would mark, once they have been counted on other
        images ("band"). Otherwise each image's consensus would lean the way of those who happen to be there.
        """
        confidence = step.confidence
        if self.trust == "mask":
            confidence = read_masks(masks, rated, step.segmentation)
        counted = self.counted[min(step.round, self.recurrences - 1)] != EQUAL
        drawn = (step.raters > 0).float() if self.target == "self" else step.raters.sigmoid()
        masks = torch.where(rated[..., None, None], masks, drawn)
        rated = rated | (counted & rated.any(1, keepdim=True))
        return self.fused_logits(masks, rated, confidence, step.raters, step.segmentation)

    def fused_logits(
        self,
        masks: Float[Tensor, "B R C H W"],
        rated: Bool[Tensor, "B R C"],
        confidence: Float[Tensor, "#B R C h w"],
        raters: Float[Tensor, "B R C H W"] | None = None,
        segmentation: Float[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Log-odds of y_fuse (eq. 4), or of y_self (eq. 5) when the masks are DivP's own."""
        if self.fusion == "verbatim" and raters is not None:
            return fuse_verbatim(masks, rated, raters)
        trusted = confidence.clamp(min=self.floor)
        if self.fusion == "ratio":
            return fuse_ratio(masks, rated, trusted)
        if self.fusion == "share":
            return fuse_share(masks, rated, log_odds(trusted))
        logits = fuse_log_odds(masks, rated, log_odds(trusted))
        if self.trust != "pixel":
            logits = settle(logits, masks, rated)
        if self.prior and segmentation is not None:
            logits = logits + self.prior * log_odds(segmentation)
        return logits

    def random_confidence(self, masks: Float[Tensor, "B R C H W"]) -> Float[Tensor, "1 R C h w"]:
        """Eq. 14 as a chance of agreeing, the same for the whole batch.

        a₀ = 0.5 + ψ/2, so that no rater starts worse than chance.
        """
        _, raters, structures, *pixels = masks.shape
        average = torch.empty(1, raters, 1, 1, 1, device=masks.device).uniform_(0.1, 0.9)
        places = pixels if self.trust == "pixel" else (1, 1)
        disturbance = 0.2 * torch.randn(1, raters, 1, *places, device=masks.device)
        return (0.5 + (average + disturbance).clamp(0, 1) / 2).expand(-1, -1, structures, -1, -1)

    def equal_confidence(self, image: Float[Tensor, "B channel H W"]) -> Float[Tensor, "1 R C 1 1"]:
        """Every rater trusted alike."""
        return image.new_full((1, len(self.task.raters), len(self.task.structures), 1, 1), EQUAL)


class ConP(nn.Module):
    """Converging Prism: a U-Net decoder that a confidence per rater steers (section 4.1)."""

    def __init__(
        self, widths: Sequence[int], raters: int, structures: int, integration: Integration, rounds: int
    ) -> None:
        super().__init__()
        self.decoder = Decoder(widths, rounds=rounds)
        ups: Sequence[Up] = list(self.decoder.ups)  # type: ignore[arg-type]
        steered = [widths[-1], *(up.from_below.out_channels for up in ups[:2])]  # strides 32, 16 and 8
        self.embedding = ConfidenceEmbedding(raters * structures, steered)
        self.integrate = nn.ModuleList(INTEGRATIONS[integration](width) for width in steered)
        self.head = Head(self.decoder.width, structures)

    def forward(
        self,
        features: Sequence[Tensor],
        skips: Sequence[Tensor],
        weights: Float[Tensor, "#B R C h w"],
        size: Sequence[int],
        round: int,
    ) -> Float[Tensor, "B C H W"]:
        grids = [features[-1].shape[-2:], skips[0].shape[-2:], skips[1].shape[-2:]]
        embedded = self.embedding(weights.flatten(1, 2), grids)
        x = features[-1]
        for stage, (up, skip) in enumerate(zip(self.decoder.ups, skips, strict=True)):
            if stage < len(self.integrate):
                x = self.integrate[stage](x, embedded[stage].expand(len(x), -1, -1, -1))
            x = up(x, skip, round)
        logits: Tensor = self.head(x, size)
        return logits


class ConfidenceEmbedding(nn.Module):
    """Separable convolutions from confidence maps to the sizes of ConP's features (Figure 7).

    Depth-wise convolutions change the resolution, point-wise ones the channels.
    """

    def __init__(self, maps: int, widths: Sequence[int]) -> None:
        super().__init__()
        w32, w16, w8 = widths
        self.to_stride_8 = nn.Sequential(nn.Conv2d(maps, 64, 1), nn.ReLU(), nn.Conv2d(64, w8, 1))
        self.to_stride_16 = nn.Sequential(nn.ReLU(), _separable(w8, w16))
        self.to_stride_32 = nn.Sequential(nn.ReLU(), _separable(w16, w32))

    def forward(self, weights: Float[Tensor, "B maps h w"], grids: Sequence[Sequence[int]]) -> list[Tensor]:
        fine = self.to_stride_8(_pooled(weights, grids[2]))
        middle = self.to_stride_16(fine)
        coarse = self.to_stride_32(middle)
        return [_fit(x, grid) for x, grid in zip((coarse, middle, fine), grids, strict=True)]


def _separable(width_in: int, width_out: int) -> nn.Sequential:
    depthwise = nn.Conv2d(width_in, width_in, 3, stride=2, padding=1, groups=width_in)
    return nn.Sequential(depthwise, nn.Conv2d(width_in, width_out, 1))


class Attention(nn.Module):
    """Features chosen by embedded confidence: query from the one, key and value from the other (eq. 7)."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_features, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        last = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), last)
        for parameter in (*self.out.parameters(), *last.parameters()):
            nn.init.zeros_(parameter)  # begins as the plain U-Net and learns as fast

    def forward(
        self, features: Float[Tensor, "B c h w"], confidence: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c h w"]:
        grid = _grid(features.shape[-2:], LARGEST_GRID)
        few = _grid(grid, KEY_GRID)
        w = _tokens(confidence, grid)
        seen = self.norm_features(_tokens(features, few))
        queries_at, keys_at = _positions(grid, w.shape[-1], w), _positions(few, w.shape[-1], w)  # E_w, E_f
        attended = attend(self.query(w + queries_at), self.key(seen + keys_at), self.value(seen), self.heads)
        # the query rides along: what ConP is told about the raters must reach its output, not only its gaze
        x = w + self.out(attended)
        x = x + self.mlp(self.norm_mlp(_tokens(features, grid) + x))
        return features + _fit(x.transpose(1, 2).unflatten(-1, grid), features.shape[-2:])


class Concat(nn.Module):
    """Table 4's "Concat": features and confidence side by side, one convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.join = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(
        self, features: Float[Tensor, "B c h w"], confidence: Float[Tensor, "B c h w"]
    ) -> Float[Tensor, "B c h w"]:
        joined: Tensor = self.join(torch.cat([features, confidence], 1))
        return joined


INTEGRATIONS: dict[str, type[nn.Module]] = {
    "attention": Attention,
    "concat": Concat,
    "convlstm": ConvLSTMStep,
}


class DivP(nn.Module):
    """Diverging Prism: from the segmentation to what each rater would mark (section 4.2).

    A stem to at most 32 x 32, patches of 2 x 2 of that as tokens, four self-attention blocks, the last with
    one head per rater; then each head's tokens meet the segmentation's own fine features. A straight path
    lets a rater be the segmentation seen through a blur of their own, moved outwards or inwards, which most
    raters nearly are; the rest of the network learns what is left.
    """

    scales = (1, 2, 4, 8)  # the straight path's blurs: means over so many pixels at stride 2

    def __init__(self, raters: int, structures: int, width: int = 64, per_rater: int = 8) -> None:
        super().__init__()
        self.raters, self.structures = raters, structures
        self.fine = nn.Sequential(nn.Conv2d(structures, 32, 5, stride=2, padding=2), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(32, width, 3, stride=2, padding=1), nn.ReLU())
        self.patches = nn.Conv2d(width, width, 2, stride=2)
        self.blocks = nn.ModuleList(SelfAttention(width, heads=4) for _ in range(3))
        self.heads = SelfAttention(width, heads=raters, width_out=raters * per_rater)
        self.from_fine = nn.Conv2d(32, raters * per_rater, 1)
        straight = torch.zeros(raters, structures, len(self.scales))
        straight[..., 0] = 1.0
        self.straight = nn.Parameter(straight)
        self.out = nn.Parameter(0.1 * torch.randn(raters, structures * 4, per_rater))
        self.bias = nn.Parameter(torch.zeros(raters, structures * 4, 1))

    def forward(self, segmentation: Float[Tensor, "B C H W"]) -> Float[Tensor, "B R C 2 2 h w"]:
        """Logits of each rater's mask, the four pixels of every 2 x 2 apart: see `interleave`.

        Args:
            segmentation: Probabilities; DivP sees nothing else.
        """
        fine = self.fine(segmentation)
        coarse = self.coarse(fine)
        x = self.patches(F.adaptive_avg_pool2d(coarse, _grid(coarse.shape[-2:], LARGEST_GRID)))
        for block in (*self.blocks, self.heads):
            x = block(x)
        per_rater = F.relu(_fit(x, fine.shape[-2:]) + self.from_fine(fine))
        logits: Tensor = self.out @ per_rater.flatten(2).unflatten(1, (self.raters, -1)) + self.bias
        logits = logits.unflatten(2, (self.structures, 2, 2)).unflatten(-1, fine.shape[-2:])
        blurred = torch.einsum("rck,bckhw->brchw", self.straight, self._blurs(segmentation))
        return logits + blurred[:, :, :, None, None]

    def _blurs(self, segmentation: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C K h w"]:
        half = F.avg_pool2d(segmentation, 2, ceil_mode=True)
        blurs = [_fit(F.avg_pool2d(half, k, ceil_mode=True), half.shape[-2:]) for k in self.scales]
        return log_odds(torch.stack(blurs, 2))


def interleave(phases: Float[Tensor, "B R C 2 2 h w"], size: Sequence[int]) -> Float[Tensor, "B R C H W"]:
    """The full-size maps of which `phases` holds every second row and column."""
    whole = phases.permute(0, 1, 2, 5, 3, 6, 4).flatten(5, 6).flatten(3, 4)
    return whole[..., : size[0], : size[1]]


class SelfAttention(nn.Module):
    """Multi-head self-attention, norm, MLP, norm, with residuals (Figure 2 c)."""

    def __init__(self, width: int, heads: int, width_out: int | None = None) -> None:
        super().__init__()
        out = width_out or width
        inner = out if width_out else width
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.out = nn.Linear(inner, out)
        self.residual = nn.Identity() if out == width else nn.Linear(width, out)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(out), nn.LayerNorm(out)
        self.mlp = nn.Sequential(nn.Linear(out, out), nn.GELU(), nn.Linear(out, out))

    def forward(self, maps: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        grid = _grid(maps.shape[-2:], LARGEST_GRID)
        few = _grid(grid, KEY_GRID)
        x, keys = _tokens(maps, grid), _tokens(maps, few)
        queries_at, keys_at = _positions(grid, x.shape[-1], x), _positions(few, x.shape[-1], x)
        attended = attend(self.query(x + queries_at), self.key(keys + keys_at), self.value(keys), self.heads)
        y = self.norm_attention(self.residual(x) + self.out(attended))
        y = self.norm_mlp(y + self.mlp(y))
        result: Tensor = y.transpose(1, 2).unflatten(-1, grid)
        return result


def attend(
    query: Float[Tensor, "B token c"],
    key: Float[Tensor, "B seen c"],
    value: Float[Tensor, "B seen c"],
    heads: int,
) -> Float[Tensor, "B token c"]:
    """Scaled dot-product attention in several heads."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    # written out: on a CPU, PyTorch's fused attention is three times slower for so few and narrow tokens
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    attended: Tensor = weights @ v
    return attended.transpose(1, 2).flatten(2)


def agreement(
    segmentation: Float[Tensor, "B C H W"], raters: Float[Tensor, "B R C H W"]
) -> Float[Tensor, "B R C H W"]:
    """Chance that a rater's mark and the segmentation agree: a = ỹ s + (1 − ỹ)(1 − s)."""
    y = segmentation[:, None]
    return torch.addcmul(1 - y, 2 * y - 1, raters)


def mean_vote(masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"]) -> Float[Tensor, "B C H W"]:
    """The share of those who rated that marked each pixel."""
    return weighted_share(masks, rated, torch.ones_like(masks[..., :1, :1]))


def tally(
    masks: Float[Tensor, "B R C H W"], segmentation: Float[Tensor, "B C H W"], votes: Float[Tensor, "B C H W"]
) -> tuple[Float[Tensor, "B R C 2"], Float[Tensor, "B 1 C 2"]]:
    """How often each rater was right where the vote is divided, and how often they could have been.

    Returns:
        Pixels, each weighing the vote's variance: marked inside the segmentation and left out outside it;
        and all pixels inside and outside, by which those are to be divided.
    """
    band = votes * (1 - votes)
    sides = torch.stack([band * segmentation, band * (1 - segmentation)], -1)
    inside, outside = torch.einsum("brchw,bchwk->brck", masks, sides).unbind(-1)
    chances = sides.sum((-3, -2))[:, None]
    return torch.stack([inside, chances[..., 1] - outside], -1), chances


def skill(
    hits: Float[Tensor, "*B R C 2"],
    chances: Float[Tensor, "*B #R C 2"],
    usual: float | Float[Tensor, "*#B #R C 1"],
) -> Float[Tensor, "*B R C"]:
    """Log-odds of a rater's confidence: the mean of those of their sensitivity and specificity.

    By Bayes a vote moves the consensus by log-odds(sensitivity) + log-odds(specificity), twice this, between
    marked and unmarked. The constant that Bayes adds beside it is left out. It would be the same at every
    pixel, so all it does is make the consensus larger or smaller as a whole; and then who draws large or
    small seems the better rater, and the consensus grows or shrinks on. The plain share of pixels on
    which a rater is right, one coin, drifts likewise.

    Args:
        hits, chances: See `tally`; few of them leave the rates near what is `usual`.
    """
    return log_odds((hits + DISPUTED * usual) / (chances + DISPUTED)).mean(-1)


def read_masks(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], segmentation: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B R C 1 1"]:
    """How far to trust each given mask: its agreement with the segmentation where masks differ.

    No weights, any number of raters, their order free: for raters who are slots and not persons, or whom
    training never saw. With few pixels in dispute it stays near what the image's masks show together.
    """
    there = rated[..., None].float()
    hits, chances = tally(masks, (segmentation > 0.5).float(), mean_vote(masks, rated))
    hits, chances = hits * there, chances * there
    usual = skill(hits.sum(1, keepdim=True), chances.sum(1, keepdim=True), EQUAL).sigmoid()
    return skill(hits, chances, usual[..., None]).sigmoid()[..., None, None]


def log_odds(probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log(p / (1 − p)) of a probability kept away from certainty."""
    return torch.logit(probability, eps=1 - CLEAREST)


def fuse_log_odds(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], weights: Float[Tensor, "#B R C #H #W"]
) -> Float[Tensor, "B C H W"]:
    """Log-odds of the consensus: eq. 4 with both terms of Proposition 4, the uniform prior p_u being 0."""
    trusted = weights * rated[..., None, None]
    if trusted.shape[-2:] == (1, 1):  # one weight for the image: Σ w (2z − 1) without a map for each rater
        together = torch.einsum("brchw,brc->bchw", masks, 2 * trusted[..., 0, 0])
        return together - trusted.sum(1)
    return ((2 * masks - 1) * trusted).sum(1)


def settle(
    logits: Float[Tensor, "B C H W"], masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"]
) -> Float[Tensor, "B C H W"]:
    """A consensus that is clear wherever all agree.

    Weights read where raters differ say little about the rest; two or four small ones would leave the
    background in doubt.
    """
    votes = mean_vote(masks.round(), rated)  # who stands in for a rater votes as they most likely would
    logits = torch.where(votes == 1, logits.clamp(min=CLEAR), logits)
    return torch.where((votes == 0) & rated.any(1)[..., None, None], logits.clamp(max=-CLEAR), logits)


def fuse_share(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], weights: Float[Tensor, "#B R C #H #W"]
) -> Float[Tensor, "B C H W"]:
    """Log-odds of the share of votes for the structure, each vote weighing its log-odds."""
    return torch.logit(weighted_share(masks, rated, weights), eps=1e-6)


def fuse_ratio(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], confidence: Float[Tensor, "#B R C #H #W"]
) -> Float[Tensor, "B C H W"]:
    """Log-odds of the mean mask weighted by each rater's share of the confidence, as in the released code."""
    return log_odds(weighted_share(masks, rated, confidence))


def weighted_share(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], weights: Float[Tensor, "#B R C #H #W"]
) -> Float[Tensor, "B C H W"]:
    """Σ w z / Σ w over those who rated."""
    present = weights * rated[..., None, None]
    return (present * masks).sum(1) / present.sum(1).clamp(min=1e-6)


def fuse_verbatim(
    masks: Float[Tensor, "B R C H W"], rated: Bool[Tensor, "B R C"], raters: Float[Tensor, "B R C H W"]
) -> Float[Tensor, "B C H W"]:
    """Eq. 4 as printed: softmax over structure and background of Σ log z̃ · z, from DivP's logits.

    It inverts the vote (DESIGN): kept so that the paper's own cell can be run.
    """
    marked = (masks * rated[..., None, None] * F.logsigmoid(raters)).sum(1)
    unmarked = ((1 - masks) * rated[..., None, None] * F.logsigmoid(-raters)).sum(1)
    return marked - unmarked


def _grid(size: Sequence[int], largest: int) -> tuple[int, int]:
    return min(size[0], largest), min(size[1], largest)


def _fit(x: Float[Tensor, "B c h w"], size: Sequence[int]) -> Float[Tensor, "B c H W"]:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _pooled(x: Float[Tensor, "B c h w"], size: Sequence[int]) -> Float[Tensor, "B c H W"]:
    if x.shape[-1] == 1:
        return x.expand(*x.shape[:2], *size)
    return F.adaptive_avg_pool2d(x, (size[0], size[1]))


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
