"""A fusion alone: no image, no network, nothing to train.

It reads the masks of the very cases it is asked about, so its scores are a ceiling or a floor for the
networks and never a rival; tables keep it apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.errors import unknown
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.fusion import FUSIONS
from mrprism.fusion.by_pattern import MARGIN
from mrprism.fusion.pooling import Pooled
from mrprism.learn.batch import Batch, Reads
from mrprism.learn.methods.method import Method


class Fuse(Method):
    """One of `mrprism.fusion.FUSIONS` in the place of a network."""

    reads: ClassVar[Reads] = "masks"
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        fusion: str = "majority",
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            backbone, encoder_weights: Not used; every method takes them.
        """
        super().__init__(task)
        if fusion not in FUSIONS:
            raise unknown("fusion", fusion, FUSIONS)
        self.fusion = fusion

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        yield from ()

    def predict(self, batch: Batch) -> Prediction:
        assert batch.masks is not None and batch.rated is not None
        probability, _, confusion = fuse_batch(self.fusion, batch.masks, batch.rated)
        return Prediction(probability=probability, confusion=confusion)


def fuse_batch(
    name: str,
    masks: Float[Tensor, "B R C *space"],
    rated: Bool[Tensor, "B R C"],
    skill: Pooled | None = None,
    margin: int | None = MARGIN,
) -> tuple[Float[Tensor, "B C *space"], Bool[Tensor, "B C"], Float[Tensor, "B R C 2 2"]]:
    """Each case's consensus (0 where nobody rated the structure), where there is one, and P(drawn | true).

    Args:
        skill: Found over many cases, in the place of the fusion's own estimate; ``margin`` is for it alone.
    """
    drawn, present = (masks > 0.5).cpu().numpy(), rated.cpu().numpy()
    known = rated.any(1)
    fusion: Any = None if skill is not None else FUSIONS[name]
    fused = np.zeros(drawn[:, 0].shape, np.float32)
    confusion = np.full((*present.shape, 2, 2), 0.5, np.float32)
    for case, some in enumerate(known.cpu().numpy()):
        if some.any():
            given = present[case][:, some]
            marked = drawn[case][:, some] & given[(..., *(None,) * (masks.ndim - 3))]
            if skill is None:
                prediction = fusion(marked, given)
            else:
                case_skill = skill.of(None, np.flatnonzero(some).tolist())
                blank = np.zeros((1, *marked.shape[2:]), np.float32)
                prediction = case_skill.fuse(MultiRaterSample("", blank, marked, given), margin)
            fused[case, some] = prediction.probability
            if prediction.confusion is not None:
                confusion[case][:, some] = prediction.confusion
    return torch.from_numpy(fused).to(masks.device), known, torch.from_numpy(confusion).to(masks.device)
