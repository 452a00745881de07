"""Label sampling: one rater's mask, drawn anew each time (called UECNN in the MrPrism paper).

Source: Jensen et al., "Improving uncertainty estimation in convolutional neural networks using inter-rater
agreement", MICCAI 2019.

Departures: whole masks are drawn, one rater per case and structure, for the paper labels single images.
"""

from __future__ import annotations

from pathlib import Path

from mrprism.core.sample import Task
from mrprism.learn.methods.fused_label import FusedLabel


class LabelSampling(FusedLabel):
    """`FusedLabel` on one random rater's mask with cross-entropy, under which that is the soft vote in expectation."""

    needs = frozenset({"two raters"})

    def __init__(
        self, task: Task, *, backbone: str = "resnet34", encoder_weights: Path | None = None
    ) -> None:
        super().__init__(
            task, label="label-sampling", loss="bce", backbone=backbone, encoder_weights=encoder_weights
        )
