"""Multi-rater Prism: a segmentation and the raters' confidence, each refining the other.

ConP segments the image given a confidence per rater, structure and pixel. DivP reads from that
segmentation what each rater would have drawn, which says how far to trust each. Run in turn they
calibrate each other. Equation numbers are the paper's. Where we depart from the paper, and why, is
listed in docs/concepts/mrprism.md.

Long because the two ways to learn from the recurrences are read side by side, as the paper's one algorithm.

Source: Wu et al., "Multi-rater Prism: Learning self-calibrated medical image segmentation from
multiple raters", arXiv:2212.00601; Science Bulletin 69(18), 2024.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from mrprism.learn.networks.divp import DivP, apart, interleave
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.grid import Grid
from mrprism.learn.resize import enlarged
from mrprism.learn.soft_fusion import (
    fuse_log_odds,
    fuse_ratio,
    fuse_share,
    fuse_verbatim,
    log_odds,
    mean_vote,
    settle,
)
from mrprism.learn.space import aside, cropped, picked

Fusion = Literal["log-odds", "share", "ratio", "verbatim"]
Trust = Literal["band", "pixel", "mask"]
Learned = Literal["one", "all"]


class Recurrence(NamedTuple):
    """One round of ConP and DivP."""

    round: int
    logits: Float[Tensor, "B C *space"]  # ConP
    segmentation: Float[Tensor, "B C *space"]  # ỹ, its probability, detached
    phases: Float[Tensor, "B R C ..."]  # DivP: `raters` before its pixels are interleaved
    read: Float[Tensor, "B R C *small"]  # log-odds of the confidence DivP shows, for the image or each pixel
    confidence: Float[Tensor, "B R C *small"]  # that, calibrated: what ConP is told and masks are fused with

    @property
    def raters(self) -> Float[Tensor, "B R C *space"]:
        """Logits of what each rater would mark, detached; put together only when asked for."""
        return interleave(self.phases.detach(), self.segmentation.shape[2:])


class Seen(NamedTuple):
    """What all recurrences on an image share."""

    features: list[Tensor]
    skips: list[Tensor]
    size: Sequence[int]


class Drawn(NamedTuple):
    """What raters drew."""

    masks: Float[Tensor, "B R C *space"]
    rated: Bool[Tensor, "B R C"]
    votes: Float[Tensor, "B C *space"]  # the share of the masks


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
        learned: Learned = "all",
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
            learned: Which of a step's recurrences gradients go through. "one": in turn the first, the second, ... of
                them, weighing as much as all; those before it run without gradients, those after it not at all.
                "all": the sum over all, eq. 13, which takes twice the time.
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
        self.learned = learned
        self.turn = 0  # the training step, which says whose turn it is
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

    def begin_step(self, step: int) -> None:
        self.turn = step

    def recur(
        self,
        image: Float[Tensor, "B channel *space"],
        confidence: Float[Tensor, "#B R C *small"],
        rounds: int,
    ) -> Iterator[Recurrence]:
        """ConP and DivP in turn; the encoder and its skips run once (Algorithm 1, lines 7-11)."""
        yield from self._rounds(self._seen(image), confidence, rounds)

    def _seen(self, image: Float[Tensor, "B channel *space"]) -> Seen:
        features = self.encoder(image)
        return Seen(features, self.conp.decoder.skips(features), image.shape[2:])

    def _rounds(
        self, seen: Seen, confidence: Float[Tensor, "#B R C *small"], rounds: int
    ) -> Iterator[Recurrence]:
        for round in range(rounds):
            logits = self.conp(*seen[:2], log_odds(confidence), seen.size, round)
            segmentation = logits.detach().sigmoid()  # gradients stay inside a recurrence (after eq. 13)
            phases = self.divp(segmentation)
            read = self._read_phases(phases.detach(), segmentation)
            confidence = self._corrected(read, round)
            yield Recurrence(round, logits, segmentation, phases, read, confidence)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """One step on the sum over the recurrences (eq. 13), or on one of them, in turn."""
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        confidence = self.equal_confidence(image)
        if self.initial == "random":
            confidence = random_confidence(masks, each_pixel=self.trust == "pixel")
        drawn = Drawn(masks, rated, mean_vote(masks, rated))
        learn = self._learn_one if self.learned == "one" else self._learn_all
        yield learn(self._seen(image), drawn, confidence)

    def _learn_all(
        self, seen: Seen, drawn: Drawn, confidence: Float[Tensor, "#B R C *small"]
    ) -> dict[str, Tensor]:
        fused = self.fused_logits(drawn.masks, drawn.rated, confidence, votes=drawn.votes)  # y_0, eq. 15
        terms: dict[str, Tensor] = {}
        for step in self._rounds(seen, confidence, self.recurrences):
            losses = {"conp": self._conp_loss(step.logits, fused, drawn, step.segmentation)}
            losses |= self._divp_losses(step, drawn.masks, drawn.rated)
            for name, value in losses.items():
                terms[name] = terms[name] + value if name in terms else value
            if self.trust == "band":
                self._calibrate(step, *drawn)
            if step.round + 1 < self.recurrences:
                fused = self._target(step, drawn)
        return terms

    def _learn_one(
        self, seen: Seen, drawn: Drawn, confidence: Float[Tensor, "#B R C *small"]
    ) -> dict[str, Tensor]:
        """The recurrence whose turn it is, weighing as much as all: an estimate of their sum without bias.

        DivP learns from half of the cases, which epochs choose anew, at one pixel of every block.
        """
        round = self.turn % self.recurrences
        step: Recurrence | None = None
        with torch.no_grad():
            for step in self._rounds(seen, confidence, round):
                if self.trust == "band":
                    self._calibrate(step, *drawn)
            if step is None:
                fused = self.fused_logits(drawn.masks, drawn.rated, confidence, votes=drawn.votes)  # y_0
            else:
                fused, confidence = self._target(step, drawn), step.confidence
        logits = self.conp(*seen[:2], log_odds(confidence), seen.size, round)
        segmentation = logits.detach().sigmoid()
        terms = {"conp": self._conp_loss(logits, fused, drawn, segmentation)}
        some = slice((len(logits) + 1) // 2)
        half, known = segmentation[some], drawn.rated[some]
        first, every = self._first_pixel()
        pixels = self.divp(half, first)
        masks, there = picked(drawn.masks[some], 3, every), picked(half, 2, every)
        pixels = cropped(pixels, there.shape[2:])
        terms |= self._divp_losses_of(pixels, masks, known, there, round)
        if self.trust == "band":
            read = self._read(pixels.detach().sigmoid(), there, math.prod(self.divp.step))
            means = self.counted[round], self.read[round]
            count_in(*means, one_number(read), drawn.masks[some], known, half, drawn.votes[some])
        return {name: self.recurrences * value for name, value in terms.items()}

    def _conp_loss(
        self,
        logits: Float[Tensor, "B C *space"],
        fused: Float[Tensor, "B C *space"],
        drawn: Drawn,
        segmentation: Float[Tensor, "B C *space"],
    ) -> Float[Tensor, ""]:
        """Eq. 8, first term; nothing to learn where nobody rated."""
        someone = aside(drawn.rated.any(1), fused)
        return self.reconstruction(logits, torch.where(someone, fused.sigmoid(), segmentation))

    def _target(self, step: Recurrence, drawn: Drawn) -> Float[Tensor, "B C *space"]:
        """What the next recurrence learns, as log-odds."""
        masks = drawn.masks if self.target == "fuse" else (step.raters > 0).float()
        return self._fusion(step, masks, drawn.rated)

    def _first_pixel(self) -> tuple[list[int], list[slice]]:
        """Which pixel of every block is learned from, drawn anew each time: its place, and all of them in a map."""
        steps = self.divp.step
        drawn = torch.randint(0, 2, (len(steps),)).tolist()
        first = [draw % step for draw, step in zip(drawn, steps, strict=True)]
        return first, [slice(start, None, step) for start, step in zip(first, steps, strict=True)]

    def _divp_losses(
        self, step: Recurrence, masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
    ) -> dict[str, Tensor]:
        """DivP's terms, on one pixel of every 2 x 2 (or 2 x 2 x 2), which one is drawn anew each time.

        The estimate is unbiased and costs a quarter; maps over all raters are the largest tensors here.
        """
        first, every = self._first_pixel()
        masks, segmentation = picked(masks, 3, every), picked(step.segmentation, 2, every)
        raters = cropped(picked(step.phases, 3, first), masks.shape[3:])
        return self._divp_losses_of(raters, masks, rated, segmentation, step.round)

    def _divp_losses_of(
        self,
        raters: Float[Tensor, "B R C *space"],
        masks: Float[Tensor, "B R C *space"],
        rated: Bool[Tensor, "B R C"],
        segmentation: Float[Tensor, "B C *space"],
        round: int,
    ) -> dict[str, Tensor]:
        losses = {}
        if self.multi_head:
            losses["multi_head"] = self.multi_head * rated_bce(raters, masks, rated)  # eq. 9
        if not (self.divp_reconstruction or self.shuffle):
            return losses
        read = self._read(raters.sigmoid(), segmentation)
        confidence = self._corrected(read, round)
        own = (raters.detach() > 0).float()  # T_0.5 of DivP's own masks
        if self.divp_reconstruction:  # eq. 8, second term
            source = own if self.target == "self" else masks
            fused = self.fused_logits(source, rated, confidence, raters, segmentation)
            losses["divp"] = self.divp_reconstruction * self.reconstruction(fused, segmentation)
        if self.shuffle:  # eqs. 10-12: under any permutation of confidences both masks fuse alike
            total = raters.new_zeros(())
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
        raters = last.raters.sigmoid()
        confidence = self._corrected(log_odds(agreement(last.segmentation, raters)), last.round)
        return Prediction(
            probability=last.segmentation,
            raters=raters,
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
        raters: Float[Tensor, "B R C *space"],
        segmentation: Float[Tensor, "B C *space"],
        stands_for: int = 1,
    ) -> Float[Tensor, "B R C *small"]:
        """Log-odds of the confidence that DivP's maps show: at every pixel, or one for the image.

        Far from every outline all raters agree; at the outline itself nobody does better than chance. What
        tells raters apart is how they fare in the band between, so that is where they are judged.

        Args:
            stands_for: How many pixels of the image each of these is one of.
        """
        if self.trust == "pixel":
            return log_odds(agreement(segmentation, raters))
        hits, chances = tally(raters, segmentation, raters.mean(1))
        return aside(skill(stands_for * hits, stands_for * chances, EQUAL), raters)

    def _read_phases(
        self, phases: Float[Tensor, "B R C ..."], segmentation: Float[Tensor, "B C *space"]
    ) -> Float[Tensor, "B R C *small"]:
        """The same of maps whose pixels lie apart; what is counted for the image does not ask where they lie."""
        size = segmentation.shape[2:]
        if self.trust == "pixel" or any(n % step for n, step in zip(size, self.divp.step, strict=True)):
            return self._read(interleave(phases, size).sigmoid(), segmentation)
        read = self._read(phases.sigmoid().flatten(3), apart(segmentation, self.divp.step).flatten(2))
        return read[(..., *(None,) * (len(size) - 1))]

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
        self,
        step: Recurrence,
        masks: Float[Tensor, "B R C *space"],
        rated: Bool[Tensor, "B R C"],
        votes: Float[Tensor, "B C *space"] | None = None,
    ) -> None:
        """Move both running means towards what this batch shows."""
        means = self.counted[step.round], self.read[step.round]
        count_in(*means, one_number(step.read), masks, rated, step.segmentation, votes)

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
        present = rated
        rated = rated | (counted & rated.any(1, keepdim=True))
        everyone = bool(present.all())
        raters = None if everyone and self.fusion != "verbatim" else step.raters
        drawn = masks
        if raters is not None:
            drawn = (raters > 0).float() if self.target == "self" else raters.sigmoid()
        if given is None or given.shape[3:] == masks.shape[3:]:
            masks = masks if everyone else torch.where(aside(present, masks), masks, drawn)
            return self.fused_logits(masks, rated, confidence, raters, step.segmentation)
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
                    enlarged(raters[:, :, one], size)
                    if self.fusion == "verbatim" and raters is not None
                    else None,
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
        votes: Float[Tensor, "B C *space"] | None = None,
    ) -> Float[Tensor, "B C *space"]:
        """Log-odds of y_fuse (eq. 4), or of y_self (eq. 5) when the masks are DivP's own.

        Args:
            votes: The share of the masks, where it is known already.
        """
        if self.fusion == "verbatim" and raters is not None:
            return fuse_verbatim(masks, rated, raters)
        trusted = confidence.clamp(min=self.floor)
        if self.fusion == "ratio":
            return fuse_ratio(masks, rated, trusted)
        if self.fusion == "share":
            return fuse_share(masks, rated, log_odds(trusted))
        logits = fuse_log_odds(masks, rated, log_odds(trusted))
        if self.trust != "pixel":
            logits = settle(logits, masks, rated, votes)
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
