"""Controls for methods that draw: what the raters' masks of the very case give, without image and network.

Of whatever is meant to spread as raters do, these say what a score is worth. They know the answer, so they stand
among the fusions and are nobody's rivals.

- "raters": the raters' own masks as draws. GED 0 and HM-IoU 1: the score of a perfect sampler.
- "consensus": their majority, again and again: the GED of a perfect network that always says the same.
- "noise": each pixel by itself marked with the chance of the soft vote. Calibrated to the last digit, and no
  outline that anybody would draw: a measure that likes it sees no shapes (on phantoms GED is one, HM-IoU none).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, Reads, mean_of_raters
from mrprism.learn.bounds import Done
from mrprism.learn.draws import uniform
from mrprism.learn.methods.method import Method
from mrprism.learn.space import aside


class Control(Method):
    """Draws made of the masks at hand; nothing to train."""

    reads: ClassVar[Reads] = "masks"
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        of: Literal["raters", "consensus", "noise"] = "raters",
        draws: Done = 16,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            of: What is drawn; see above.
            draws: How many, but for "raters", where it is one for each rater.
            backbone, encoder_weights: Not used; every method takes them.
        """
        super().__init__(task)
        if draws < 1:
            raise InputError(f"draws must be at least 1, not {draws}")
        self.of, self.draws = of, None if of == "raters" else draws

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        return iter(())

    def predict(self, batch: Batch) -> Prediction:
        assert batch.masks is not None and batch.rated is not None
        share = mean_of_raters(batch).nan_to_num(0.0)
        if self.of == "raters":
            return Prediction(
                probability=share,
                draws=batch.masks * aside(batch.rated, batch.masks),
                draw_weights=batch.rated / batch.rated.sum(1, keepdim=True).clamp(min=1),
            )
        assert self.draws is not None
        if self.of == "consensus":
            draws = (share > 0.5 + 1e-6).float()[:, None].expand(-1, self.draws, *share.shape[1:])
        else:
            draws = (uniform(batch, self.draws, share.shape[1:], "noise") < share[:, None]).float()
        return Prediction(probability=share, draws=draws)
