"""Deep ensemble: several networks from several starts, averaged.

Source: Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation using deep
ensembles", NeurIPS 2017.

Departures: all members see the same batches in the same order; they differ in their first weights (and, with
`label="label-sampling"`, in the raters drawn). No adversarial examples. It takes `members` times the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.bounds import Kept
from mrprism.learn.methods.fused_label import FusedLabel
from mrprism.learn.methods.method import Method


class DeepEnsemble(Method):
    """Several `FusedLabel` networks that share nothing."""

    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        members: Kept = 5,
        label: str = "soft-vote",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        super().__init__(task)
        if members < 1:
            raise InputError(f"members must be at least 1, not {members}")
        self.members = nn.ModuleList(
            FusedLabel(task, label=label, backbone=backbone, encoder_weights=encoder_weights)
            for _ in range(members)
        )

    def prepare(self, samples: Sequence[MultiRaterSample]) -> None:
        super().prepare(samples)
        first: FusedLabel = self.members[0]  # type: ignore[assignment]
        first.check_label(samples)
        if first.two_steps:
            skill = first.estimate_skill(samples)  # the same for all
            for member in self.members:
                member.skill = skill  # type: ignore[assignment]

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """One step for each member."""
        for member in self.members:
            yield from member.losses(batch)  # type: ignore[operator]

    def predict(self, batch: Batch) -> Prediction:
        each = [member.predict(batch).probability for member in self.members]  # type: ignore[operator]
        draws = torch.stack(each, 1)
        return Prediction(probability=draws.mean(1), draws=draws)
