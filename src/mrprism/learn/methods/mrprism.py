"""Multi-rater Prism: a segmentation and the raters' confidence, each refining the other.

ConP segments the image given a confidence per rater, structure and pixel. DivP reads from that
segmentation what each rater would have drawn, which says how far to trust each. Run in turn they
calibrate each other. Equation numbers are the paper's. Where we depart from the paper, and why, is
listed in docs/concepts/mrprism.md.

Source: Wu et al., "Multi-rater Prism: Learning self-calibrated medical image segmentation from
multiple raters", arXiv:2212.00601; Science Bulletin 69(18), 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.bounds import Kept
from mrprism.learn.confidence import (
    EQUAL,
    agreement,
    calibrated,
    count_in,
    random_confidence,
    read_masks,
    skill,
    tally,
)
from mrprism.learn.losses import LOSSES, LossName, bce, rated_bce
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.conp import ConP, Integration
from mrprism.learn.networks.divp import DivP, interleave
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.grid import Grid
from mrprism.learn.resize import enlarged
from mrprism.learn.soft_fusion import (
    fuse_log_odds,
    fuse_ratio,
    fuse_share,
    fuse_verbatim,
    log_odds,
    settle,
)
from mrprism.learn.space import aside, cropped, picked

Fusion = Literal["log-odds", "share", "ratio", "verbatim"]
Trust = Literal["band", "pixel", "mask"]


class Recurrence(NamedTuple):
    """One round of ConP and DivP."""

    round: int
    logits: Float[Tensor, "B C *space"]  # ConP
    segmentation: Float[Tensor, "B C *space"]  # ỹ, its probability, detached
    phases: Float[Tensor, "B R C ..."]  # DivP: `raters` before its pixels are interleaved
    raters: Float[Tensor, "B R C *space"]  # logits of what each rater would mark, detached
    agreed: Float[Tensor, "B R C *space"]  # chance that each rater agrees with the segmentation, by DivP
    read: Float[Tensor, "B R C *small"]  # log-odds of the confidence DivP shows, for the image or each pixel
    confidence: Float[Tensor, "B R C *small"]  # that, calibrated: what ConP is told and masks are fused with


class MrPrism(Method):
    """Learns one calibrated segmentation, and each rater's mask and confidence, in recurrences."""

    needs = frozenset({"two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
        recurrences: Kept = 3,
        predict_recurrences: Kept | None = None,
        fusion: Fusion | None = None,
        target: Literal["fuse", "self"] = "fuse",
        integration: Integration = "attention",
        reconstruction: LossName = "bce+dice",
        multi_head: float = 1.0,
        divp_reconstruction: float = 0.0,
        initial: Literal["equal", "random"] = "equal",
        shuffle: float = 0.0,
        shuffles: Kept = 3,
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
                "band": one for the image, from where raters differ (`skill`), set right by counting
                (`count_in`). "mask": the same of each given mask, whoever drew it. None: "mask" when raters are
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
        grid = Grid.of(task)
        self.encoder = Encoder(task.channels, backbone, encoder_weights, grid)
        rounds = min(recurrences, 2)
        self.conp = ConP(self.encoder.widths, raters, structures, integration, rounds, grid)
        self.divp = DivP(raters, structures, grid=grid)
        self.counted: Tensor  # each rater's confidence from their real masks, a running mean in training
        self.read: Tensor  # the log-odds that DivP read for it, the same mean; both for each round by itself
        self.register_buffer("counted", torch.full((recurrences, raters, structures), EQUAL))
        self.register_buffer("read", torch.zeros(recurrences, raters, structures))

    def recur(
        self,
        image: Float[Tensor, "B channel *space"],
        confidence: Float[Tensor, "#B R C *small"],
        rounds: int,
    ) -> Iterator[Recurrence]:
        """ConP and DivP in turn; the encoder and its skips run once (Algorithm 1, lines 7-11)."""
        size = image.shape[2:]
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
            confidence = random_confidence(masks, each_pixel=self.trust == "pixel")
        target = self.fused_logits(masks, rated, confidence).sigmoid()  # y_0, eq. 15
        someone = aside(rated.any(1), target)
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
        self, step: Recurrence, masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
    ) -> dict[str, Tensor]:
        """DivP's terms, on one pixel of every 2 x 2 (or 2 x 2 x 2), which one is drawn anew each time.

        The estimate is unbiased and costs a quarter; maps over all raters are the largest tensors here.
        """
        steps = self.divp.step
        first = [
            draw % step for draw, step in zip(torch.randint(0, 2, (len(steps),)).tolist(), steps, strict=True)
        ]
        every: list[slice] = [slice(start, None, stride) for start, stride in zip(first, steps, strict=True)]
        masks, segmentation = picked(masks, 3, every), picked(step.segmentation, 2, every)
        raters = cropped(picked(step.phases, 3, first), masks.shape[3:])
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
            weights=one_number(last.confidence).clamp(min=self.floor) if self.trust == "band" else None,
        )

    def fuse_given(self, batch: Batch) -> Float[Tensor, "B C *space"]:
        """Probability of the consensus of given masks, trusted as DivP reads the image (Table 3).

        Masks at their own size (`given`) are fused there; the network only says how far each is trusted.
        """
        assert batch.image is not None and batch.masks is not None and batch.rated is not None
        *_, last = self.recur(batch.image, self.equal_confidence(batch.image), self.predict_recurrences)
        return self._fusion(last, batch.masks, batch.rated, batch.given).sigmoid()

    def under(self, batch: Batch, trust: Float[Tensor, "R C"]) -> Float[Tensor, "B C H W"]:
        """What ConP would answer in the last round if raters were trusted so, instead of as DivP reads the image.

        Args:
            trust: The chance of agreeing of each rater and structure, above 0 and below 1; one half says nothing.
        """
        assert batch.image is not None
        features = self.encoder(batch.image)
        skips, weight = self.conp.decoder.skips(features), log_odds(trust[None, :, :, None, None])
        round = self.predict_recurrences - 1
        logits: Tensor = self.conp(features, skips, weight, batch.image.shape[-2:], round)
        return logits.sigmoid()

    def fuse_said(
        self,
        masks: Float[Tensor, "B R C *space"],
        rated: Bool[Tensor, "B R C"],
        confidence: Float[Tensor, "B R C *_space"],
        raters: Float[Tensor, "B R C *space"],
        segmentation: Float[Tensor, "B C *space"],
    ) -> Float[Tensor, "B C *space"]:
        """Probability of the consensus of given masks, from what was said of the whole of a case that is seen in parts.

        Args:
            confidence: One for the case, or one for each pixel.
            raters: The chance that each rater marks a pixel, which stands for those who are absent.
        """
        known = rated | ((self.counted[-1] != EQUAL) & rated.any(1, keepdim=True))
        masks = torch.where(aside(rated, masks), masks, raters)
        logits = torch.logit(raters, eps=1e-6)
        return self.fused_logits(masks, known, confidence, logits, segmentation).sigmoid()

    def consensus_of(self, batch: Batch) -> Tensor:
        """The fusion of the given masks."""
        assert batch.rated is not None
        fused = self.fuse_given(batch)
        return fused.masked_fill(~aside(batch.rated.any(1), fused), float("nan"))

    def _read(
        self,
        agreed: Float[Tensor, "B R C *space"],
        raters: Float[Tensor, "B R C *space"],
        segmentation: Float[Tensor, "B C *space"],
    ) -> Float[Tensor, "B R C *small"]:
        """Log-odds of the confidence that DivP's maps show: at every pixel, or one for the image.

        Far from every outline all raters agree; at the outline itself nobody does better than chance. What
        tells raters apart is how they fare in the band between, so that is where they are judged.
        """
        if self.trust == "pixel":
            return log_odds(agreed)
        return aside(skill(*tally(raters, segmentation, raters.mean(1)), EQUAL), raters)

    def _corrected(self, read: Float[Tensor, "B R C *small"], round: int) -> Float[Tensor, "B R C *small"]:
        """Confidence from DivP's reading; each round has its own means, rounds beyond training the last one's.

        What Rec0 draws is nearer the vote than what later rounds draw, DivP cannot tell which of them it
        sees, and one mean for all makes rounds swing around the right answer.
        """
        if self.trust == "pixel":
            return read.sigmoid()
        round = min(round, self.recurrences - 1)
        return calibrated(read, self.counted[round], self.read[round])

    def _calibrate(
        self, step: Recurrence, masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
    ) -> None:
        """Move both running means towards what this batch shows."""
        means = self.counted[step.round], self.read[step.round]
        count_in(*means, one_number(step.read), masks, rated, step.segmentation)

    def _fusion(
        self,
        step: Recurrence,
        masks: Float[Tensor, "B R C *space"],
        rated: Bool[Tensor, "B R C"],
        given: Float[Tensor, "B R C *small"] | None = None,
    ) -> Float[Tensor, "B C *_small"]:
        """Log-odds of the masks' fusion as one recurrence sees it.

        For a rater who is absent stands what DivP says they would mark, once they have been counted on other
        images ("band"). Otherwise each image's consensus would lean the way of those who happen to be there.

        Args:
            given: The masks at another size than the network's, at which they are fused instead.
        """
        confidence = step.confidence
        if self.trust == "mask":
            confidence = read_masks(masks, rated, step.segmentation)
        counted = self.counted[min(step.round, self.recurrences - 1)] != EQUAL
        drawn = (step.raters > 0).float() if self.target == "self" else step.raters.sigmoid()
        present = rated
        rated = rated | (counted & rated.any(1, keepdim=True))
        if given is None or given.shape[3:] == masks.shape[3:]:
            masks = torch.where(aside(present, masks), masks, drawn)
            return self.fused_logits(masks, rated, confidence, step.raters, step.segmentation)
        fused = []
        for c in range(rated.shape[2]):  # one structure after the other: these are the largest maps there are
            one, size = slice(c, c + 1), given.shape[3:]
            large = given[:, :, one]
            if not bool(present[:, :, one].all()):
                large = torch.where(aside(present[:, :, one], large), large, enlarged(drawn[:, :, one], size))
            trust = confidence[:, :, one]
            fused.append(
                self.fused_logits(
                    large,
                    rated[:, :, one],
                    trust if trust.shape[3:].numel() == 1 else enlarged(trust, size),
                    enlarged(step.raters[:, :, one], size) if self.fusion == "verbatim" else None,
                    enlarged(step.segmentation[:, None, one], size)[:, 0] if self.prior else None,
                )
            )
        return torch.cat(fused, 1)

    def fused_logits(
        self,
        masks: Float[Tensor, "B R C *space"],
        rated: Bool[Tensor, "B R C"],
        confidence: Float[Tensor, "#B R C *small"],
        raters: Float[Tensor, "B R C *space"] | None = None,
        segmentation: Float[Tensor, "B C *space"] | None = None,
    ) -> Float[Tensor, "B C *space"]:
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

    def equal_confidence(self, image: Float[Tensor, "B channel *space"]) -> Float[Tensor, "1 R C *one"]:
        """Every rater trusted alike."""
        equal = image.new_full((1, len(self.task.raters), len(self.task.structures)), EQUAL)
        return equal[(..., *(None,) * (image.ndim - 2))]


def one_number(confidence: Float[Tensor, "B R C *one"]) -> Float[Tensor, "B R C"]:
    """Confidence that is the same for all pixels, without their axes."""
    return confidence.flatten(3)[..., 0]
