"""Losses against soft targets: pure functions whose minimum lies at the target."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mrprism.learn.space import axes

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean binary cross-entropy of logits against probabilities."""
    return F.binary_cross_entropy_with_logits(logits, target)


def ssim(logits: Float[Tensor, "B C *space"], target: Float[Tensor, "B C *space"]) -> Float[Tensor, ""]:
    """One minus the structural similarity of probabilities (not of logits: see DESIGN, "L_rec form").

    Source: Wang et al., "Image quality assessment", IEEE TIP 13(4), 2004; MONAI's implementation.
    """
    from monai.losses import SSIMLoss

    window = min(11, *logits.shape[2:])
    loss: Tensor = SSIMLoss(spatial_dims=logits.ndim - 2, data_range=1.0, win_size=window - (window + 1) % 2)(
        logits.sigmoid(), target
    )
    return loss


def dice(logits: Float[Tensor, "B C *space"], target: Float[Tensor, "B C *space"]) -> Float[Tensor, ""]:
    """One minus the Dice of probabilities, in the form that is smallest at a soft target.

    Source: Wang et al., "Dice semimetric losses", MICCAI 2023: 1 - (|p| + |t| - |p - t|) / (|p| + |t|).
    """
    return dice_apart(logits.sigmoid(), target)


def dice_apart(
    probability: Float[Tensor, "B C *space"], target: Float[Tensor, "B C *space"]
) -> Float[Tensor, ""]:
    """The same of probabilities, for networks whose classes are no sigmoids."""
    space = axes(probability, 2)
    total = (probability + target).sum(space)
    apart = (probability - target).abs().sum(space)
    return (apart / total.clamp(min=1.0)).mean()


def bce_and_dice(
    logits: Float[Tensor, "B C *space"], target: Float[Tensor, "B C *space"]
) -> Float[Tensor, ""]:
    """Their sum: the one is calibrated, the other quick to find small structures.

    Source: Isensee et al., "nnU-Net", Nature Methods 18, 2021.
    """
    return bce(logits, target) + dice(logits, target)


LossName = Literal["bce", "ssim", "dice", "bce+dice"]
LOSSES: dict[LossName, Loss] = {"bce": bce, "ssim": ssim, "dice": dice, "bce+dice": bce_and_dice}


def rated_bce(
    logits: Float[Tensor, "B R C *space"], masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy over what was rated; an absent rater's logits get no gradient."""
    each = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    each = each.mean(axes(each, 3))
    return torch.where(rated, each, 0.0).sum() / rated.sum().clamp(min=1)
