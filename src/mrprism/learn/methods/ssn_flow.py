"""SSN, then a short flow: draws of a stochastic segmentation network, carried to masks by a learned flow.

Source: Li et al., AAAI 2026, arXiv:2511.06857 ("ATFM").

Departures:
- both stages are trained in one run, the first half of the epochs each (`first`); the SSN rests in the second;
- the shared U-Net is the flow's network, reads [image ‖ s_t ‖ t] and has no blocks of its own for the time;
- the Dice term of the second stage is of the soft outline, so that it has a gradient. In the released script it is taken
  after a threshold and has none;
- draws are s at the end of the way, cut at 0 and 1; what is above half is marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.bounds import Done, Kept
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.ssn import SSN, deviations
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import Head, UNet
from mrprism.learn.space import aside, axes


class SSNFlow(Method):
    """An SSN, and a U-Net that says in which direction a draw has to change."""

    dims = SSN.dims

    def __init__(
        self,
        task: Task,
        *,
        rank: Kept = 10,
        samples: Done = 20,
        steps: Done = 25,
        dice: float = 1e-3,
        first: float = 0.5,
        draws: Done = 16,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            rank: Columns of the SSN's factor.
            samples: Draws in the SSN's loss, an even number.
            steps: Of the way from a draw of the SSN to a mask; each is a pass of the network.
            dice: Weight (α) of one minus the soft Dice at the extrapolated end of the way.
            first: Share of the epochs that trains the SSN.
            draws: Outlines drawn for a case.
        """
        super().__init__(task)
        if steps < 1 or draws < 1 or dice < 0 or not 0 < first < 1:
            raise InputError(
                f"steps and draws must be at least 1, dice not below 0 and first in (0, 1); they are {steps}, {draws}, "
                f"{dice} and {first}"
            )
        self.steps, self.dice, self.first = steps, dice, first
        self.draws: int = draws
        self.ssn = SSN(task, rank=rank, samples=samples, backbone=backbone, encoder_weights=encoder_weights)
        structures = len(task.structures)
        self.flow = UNet(task.channels + structures + 1, structures, backbone, grid=Grid.of(task))
        self.flow.head = Head(self.flow.decoder.width, structures, starts=False, grid=Grid.of(task))
        self.second: Tensor
        self.register_buffer("second", torch.tensor(False))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        until = max(1, round(self.first * epochs))
        self.second.fill_(epoch >= until)
        if epoch < until:
            self.ssn.begin_epoch(epoch, until)

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        if not self.second:
            yield from self.ssn.losses(batch)
            return
        image, masks, rated = batch.image, batch.masks, batch.rated
        assert image is not None and masks is not None and rated is not None
        case, rater = rated.any(2).nonzero(as_tuple=True)  # every rater of every case, a draw of the SSN each
        if not len(case):
            return
        start = self._starts(image)[case, rater]
        end, known = masks[case, rater], rated[case, rater]
        time = torch.rand(len(case), device=image.device)
        way = aside(time, end)
        state = (1 - way) * start + way * end
        direction = self.direction(image[case], state, time)
        missed = (direction - (end - start)).square().mean(axes(end, 2))
        overlap = soft_dice(state + (1 - way) * direction, end)
        yield {
            "flow": _over(missed, known),
            "dice": self.dice * _over(1 - overlap, known),
        }

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        draws = self.ssn.drawn(batch, self.draws)
        if self.second:
            draws = torch.stack([self._carried(batch.image, one) for one in draws.unbind(1)], 1)
        return Prediction(probability=draws.mean(1), draws=draws)

    @torch.no_grad()
    def _starts(self, image: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B R C *space"]:
        """A draw of the resting SSN for each rater."""
        learning = self.ssn.training
        self.ssn.eval()
        normal = self.ssn.distribution(image)
        self.ssn.train(learning)
        count = len(self.task.raters)
        shared = torch.randn(len(image), count, self.ssn.rank, device=image.device)
        alone = torch.randn(len(image), count, *normal.mean.shape[1:], device=image.device)
        return (normal.mean[:, None] + deviations(normal, shared, alone)).sigmoid()

    def _carried(
        self, image: Float[Tensor, "B channel *space"], state: Float[Tensor, "B C *space"]
    ) -> Float[Tensor, "B C *space"]:
        """Euler's steps from a draw of the SSN to the end."""
        for step in range(self.steps):
            time = torch.full((len(image),), step / self.steps, device=image.device)
            state = state + self.direction(image, state, time) / self.steps
        return state.clamp(0, 1)

    def direction(
        self,
        image: Float[Tensor, "B channel *space"],
        state: Float[Tensor, "B C *space"],
        time: Float[Tensor, " B"],
    ) -> Float[Tensor, "B C *space"]:
        """g(s_t, t | x)."""
        when = aside(time, image).expand(-1, 1, *image.shape[2:])
        found: Tensor = self.flow(torch.cat([image, state, when], 1)).float()
        return found


def soft_dice(
    outline: Float[Tensor, "B C *space"], drawn: Float[Tensor, "B C *space"]
) -> Float[Tensor, "B C"]:
    """Soft Dice, one added above and below; values outside [0, 1] are cut."""
    p = outline.clamp(0, 1)
    over = axes(drawn, 2)
    return (2 * (p * drawn).sum(over) + 1) / (p.sum(over) + drawn.sum(over) + 1)


def _over(values: Float[Tensor, "B C"], known: Bool[Tensor, "B C"]) -> Float[Tensor, ""]:
    """Mean over what was rated."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)
