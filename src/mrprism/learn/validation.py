"""How good a network is on the validation cases while it trains, and whether it has collapsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.learn.batch import Batch, mean_of_raters
from mrprism.learn.batches import plain_batches
from mrprism.learn.cases import Cases
from mrprism.learn.methods.method import Method
from mrprism.learn.space import axes

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
Target = Literal["mean of raters", "own consensus", "reference"]


@dataclass(frozen=True)
class Validation:
    """Scores in [0, 1], and what is wrong with the answers as a whole.

    Against the reference and the method's own consensus the score is Dice at 0.5; against the mean of raters it
    is soft Dice.
    """

    score: float  # mean over structures of their mean over cases; NaN if no case has a target
    structures: dict[str, float]
    recurrences: tuple[float, ...]  # the same score for each recurrence
    collapse: tuple[str, ...]  # one sentence each; empty: none


def validate(
    method: Method,
    cases: Cases,
    target: Target,
    *,
    batch_size: int,
    device: torch.device | str,
    autocast: AbstractContextManager[object],
) -> Validation:
    """Predict the cases, unchanged and at training size, as `predict` would, and score them."""
    was_training = method.training
    method.eval()
    scores: list[Tensor] = []
    steps: list[list[Tensor]] = []
    watch = _CollapseWatch(method.task.structures)
    with torch.inference_mode(), autocast:
        for batch in plain_batches(cases, batch_size, device):
            prediction = method.predict(batch.only(method.reads))
            probability = prediction.probability.float()
            _refuse_not_finite(prediction, batch)
            if target == "own consensus":  # takes the place of the reference
                batch = replace(batch, reference=method.consensus_of(batch).float())
            scores.append(_score(probability, batch, target))
            steps.append([_score(step.float(), batch, target) for step in prediction.steps])
            watch.see(prediction, mean_of_raters(batch))
    method.train(was_training)
    structures = torch.cat(scores).nanmean(0).tolist()
    recurrences = [torch.cat(step).nanmean(0).nanmean().item() for step in zip(*steps, strict=True)]
    return Validation(
        score=_mean(structures),
        structures=dict(zip(method.task.structures, structures, strict=True)),
        recurrences=tuple(recurrences),
        collapse=watch.sentences(),
    )


def _refuse_not_finite(prediction: Prediction, batch: Batch) -> None:
    """NaN is neither above nor below any threshold: it would score as an empty mask."""
    maps = [prediction.probability, *prediction.steps]
    maps += [each for each in (prediction.raters, prediction.confidence) if each is not None]
    if not all(bool(each.isfinite().all()) for each in maps):
        raise InputError(
            f"the network answers NaN or infinite values on the validation cases {', '.join(batch.names)}: "
            "start anew with a lower learning rate"
        )


def _score(probability: Tensor, batch: Batch, target: Target) -> Float[Tensor, "B C"]:
    if target != "mean of raters":
        assert batch.reference is not None
        absent = batch.reference.isnan().flatten(2).any(-1)
        return _dice(probability > 0.5, batch.reference > 0.5).masked_fill(absent, math.nan)
    share = mean_of_raters(batch)
    absent = share.isnan().flatten(2).any(-1)
    # 1e-6: three of ten are not more than 0.3, whatever a float says
    parts = [_dice(probability > t, share > t + 1e-6) for t in THRESHOLDS]
    return torch.stack(parts).mean(0).masked_fill(absent, math.nan)


def _dice(predicted: Bool[Tensor, "B C *space"], target: Bool[Tensor, "B C *space"]) -> Float[Tensor, "B C"]:
    space = axes(target, 2)
    both = (predicted & target).sum(space).float()
    sizes = (predicted.sum(space) + target.sum(space)).float()
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), torch.ones_like(both))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


@dataclass
class _CollapseWatch:
    """Remembers extremes over all cases, from which a constant answer is told."""

    structures: Sequence[str]
    spread: Tensor | None = None  # (C,) largest standard deviation within one image
    highest: Tensor | None = None  # (C,) probability
    negated_lowest: Tensor | None = None
    drawn: Tensor | None = None  # (C,) 1: some pixel is marked by more than half
    bare: Tensor | None = None  # (C,) 1: some pixel is not
    away_from_half: float | None = None  # largest |agreement - 0.5|

    def see(self, prediction: Prediction, share: Float[Tensor, "B C *space"]) -> None:
        pixels = prediction.probability.float().flatten(2)
        self.spread = _largest(self.spread, pixels.std(-1).amax(0))
        self.highest = _largest(self.highest, pixels.amax((0, 2)))
        self.negated_lowest = _largest(self.negated_lowest, -pixels.amin((0, 2)))
        self.drawn = _largest(self.drawn, (share > 0.5).float().flatten(2).amax((0, 2)))
        self.bare = _largest(self.bare, (share <= 0.5).float().flatten(2).amax((0, 2)))
        if prediction.confidence is not None:
            away = float((prediction.confidence.float() - 0.5).abs().max())
            self.away_from_half = max(away, self.away_from_half or 0.0)

    def sentences(self) -> tuple[str, ...]:
        found = []
        extremes = (self.spread, self.highest, self.negated_lowest, self.drawn, self.bare)
        rows = zip(self.structures, *([] if e is None else e.tolist() for e in extremes), strict=True)
        for name, spread, highest, negated_lowest, drawn, bare in rows:
            if drawn and bare and spread < 1e-3:
                found.append(f"{name}: the probability is constant in every case")
            elif drawn and highest <= 0.5:
                found.append(f"{name}: no pixel of any case is above 0.5, though most raters drew some")
            elif bare and -negated_lowest > 0.5:
                found.append(f"{name}: every pixel of every case is above 0.5, though most raters left some")
        if self.away_from_half is not None and self.away_from_half < 0.01:
            found.append("the agreement of every rater is 0.5 everywhere: nothing was learned about them")
        return tuple(found)


def _largest(before: Tensor | None, now: Tensor) -> Tensor:
    return now if before is None else torch.maximum(before, now)
