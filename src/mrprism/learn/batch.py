"""Collated samples: what a method is given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mrprism.learn.space import aside

Reads = Literal["image", "masks", "both"]


@dataclass(frozen=True)
class Batch:
    """Images, or volumes, of one size stacked along B; what is unknown or hidden is None."""

    names: tuple[str, ...]
    image: Float[Tensor, "B channel *space"] | None = None
    masks: Float[Tensor, "B R C *space"] | None = None  # 0 or 1; 0 where not rated
    rated: Bool[Tensor, "B R C"] | None = None
    given: Float[Tensor, "B R C *small"] | None = None  # the masks at their own size, for those who fuse them
    reference: Float[Tensor, "B C *space"] | None = None  # NaN where a case has none
    diagnosis: Int64[Tensor, " B"] | None = None  # -1 where a case has none
    index: Int64[Tensor, " B"] | None = None  # position of each case in the training set
    as_taken: Float[Tensor, "B channel *space"] | None = None  # the image before its brightness was changed

    def only(self, reads: Reads) -> Batch:
        """Hide what a method may not look at, so that no network can see test masks."""
        hidden = replace(self, reference=None, diagnosis=None, index=None)
        if reads == "image":
            return replace(hidden, masks=None, rated=None, given=None)
        if reads == "masks":
            return replace(hidden, image=None, as_taken=None)
        return hidden


def rated_cases(
    batch: Batch,
) -> tuple[Float[Tensor, "b channel *space"], Float[Tensor, "b R C *space"], Bool[Tensor, "b R C"]] | None:
    """Image, masks and who rated what of those cases that anybody rated; None: nobody rated any."""
    image, masks, rated = batch.image, batch.masks, batch.rated
    assert image is not None and masks is not None and rated is not None
    some = rated.any(2).any(1)
    return (image[some], masks[some], rated[some]) if some.any() else None


def mean_of_raters(batch: Batch) -> Float[Tensor, "B C *space"]:
    """Share of those who rated that marked a pixel; NaN where nobody rated the structure."""
    assert batch.masks is not None
    assert batch.rated is not None
    rated = aside(batch.rated, batch.masks).float()
    return (batch.masks * rated).sum(1) / rated.sum(1)
