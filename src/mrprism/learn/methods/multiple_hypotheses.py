"""Multiple hypotheses: several heads, of which the best is pulled hardest (called LUW in the MrPrism paper).

Source: Rupprecht et al., "Learning in an uncertain world: representing ambiguity through multiple
hypotheses", ICCV 2017.

Departures:
- the target is one rater's mask, drawn anew for each case; as many hypotheses as raters by default;
- the best hypothesis is chosen per image: chosen per pixel, heads become pixel-wise minima and maxima;
- their plain mean is the consensus, which weighs hypotheses alike however often they win.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch, rated_cases
from mrprism.learn.bounds import Kept
from mrprism.learn.methods.method import Method
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import UNet
from mrprism.learn.space import axes


class MultipleHypotheses(Method):
    """A U-Net with several heads, each a possible answer."""

    needs = frozenset({"two raters"})
    dims = (2, 3)

    def __init__(
        self,
        task: Task,
        *,
        hypotheses: Kept | None = None,
        epsilon: float = 0.05,
        dropped: float = 0.01,
        backbone: str = "resnet34",
        encoder_weights: Path | None = None,
    ) -> None:
        """
        Args:
            hypotheses: Heads; None: as many as raters.
            epsilon: Share of the loss that the heads other than the best divide among themselves.
            dropped: Chance that a hypothesis sits out for an image, so that none dies.
        """
        super().__init__(task)
        self.hypotheses = len(task.raters) if hypotheses is None else hypotheses
        if self.hypotheses < 2:
            raise InputError(f"hypotheses must be at least 2, not {self.hypotheses}")
        self.epsilon, self.dropped = epsilon, dropped
        outputs = self.hypotheses * len(task.structures)
        self.unet = UNet(
            task.channels, outputs, backbone, encoder_weights=encoder_weights, grid=Grid.of(task)
        )

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        cases = rated_cases(batch)
        if cases is None:
            return
        image, masks, rated = cases
        drawn, known = one_rater(masks, rated)
        heads = self.heads(image)
        each = F.binary_cross_entropy_with_logits(heads, drawn[:, None].expand_as(heads), reduction="none")
        each = each.mean(axes(each, 3))
        per_image = (each * known[:, None]).sum(2) / known.sum(1, keepdim=True)
        awake = torch.rand_like(per_image) >= self.dropped
        yield {"hypotheses": pulled(per_image, awake, self.epsilon)}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        draws = self.heads(batch.image).sigmoid()
        return Prediction(probability=draws.mean(1), draws=draws)

    def heads(self, image: Float[Tensor, "B channel *space"]) -> Float[Tensor, "B S C *space"]:
        each: Tensor = self.unet(image).unflatten(1, (self.hypotheses, -1))
        return each


def one_rater(
    masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
) -> tuple[Float[Tensor, "B C *space"], Bool[Tensor, "B C"]]:
    """One of the raters present for each case, drawn at random: the mask, and what of it was rated."""
    chosen = torch.multinomial(rated.any(2).float(), 1)[:, 0]
    case = torch.arange(len(masks), device=masks.device)
    return masks[case, chosen], rated[case, chosen]


def pulled(losses: Float[Tensor, "B S"], awake: Bool[Tensor, "B S"], epsilon: float) -> Float[Tensor, ""]:
    """Σ_j δ_j ℓ_j with δ = 1 − ε for the best hypothesis of each image and ε shared by the others.

    Hypotheses that are not awake neither win nor are pulled; if none is, all are.
    """
    awake = awake | ~awake.any(1, keepdim=True)
    best = losses.detach().masked_fill(~awake, torch.inf).argmin(1)
    winner = F.one_hot(best, losses.shape[1]).bool()
    others = awake & ~winner
    weight = (1 - epsilon) * winner + epsilon * others / others.sum(1, keepdim=True).clamp(min=1)
    return (weight * losses).sum(1).mean()
