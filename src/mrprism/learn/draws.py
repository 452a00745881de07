"""The noise that outlines are drawn with: a function of the case and the number of the draw, of nothing else.

So the same case gets the same draws whatever stands beside it in a batch, on a CPU as on a GPU, and the first
16 of 100 draws are the 16 of a call that asks for 16.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mrprism.core.seeds import seed_of
from mrprism.learn.batch import Batch


def noise(batch: Batch, count: int, shape: Sequence[int], purpose: str) -> Float[Tensor, "B N ..."]:
    """Standard normal, `count` of `shape` for each case of the batch.

    Args:
        purpose: "latent" and what begins so is shared by the slices of a volume, so that a draw is one
            outline through all of them; anything else differs from slice to slice.
    """
    return _drawn(torch.randn, batch, count, shape, purpose)


def noise_by_draw(batch: Batch, shape: Sequence[int], purpose: str) -> Iterator[Float[Tensor, "B ..."]]:
    """As `noise`, but one draw after the other without end, so that never more than one is held."""
    rows = [_row(torch.randn, name, shape, purpose) for name in _names(batch)]
    place = _place(batch)
    for draw in zip(*rows, strict=True):
        yield torch.stack(draw).to(place.device)


def uniform(batch: Batch, count: int, shape: Sequence[int], purpose: str) -> Float[Tensor, "B N ..."]:
    """As `noise`, evenly in [0, 1)."""
    return _drawn(torch.rand, batch, count, shape, purpose)


def chosen(batch: Batch, chances: Float[Tensor, "B K"], count: int) -> Int64[Tensor, "B N"]:
    """`count` numbers from 0 to K - 1 for each case, drawn with these chances; as "latent" for volumes."""
    above = chances.float().cumsum(1)
    found = torch.searchsorted(above, uniform(batch, count, (), "latent choice") * above[:, -1:], right=True)
    return found.clamp(max=chances.shape[1] - 1)


def _drawn(
    draw: Callable[..., Tensor], batch: Batch, count: int, shape: Sequence[int], purpose: str
) -> Tensor:
    rows = (_row(draw, name, shape, purpose) for name in _names(batch))
    return torch.stack([torch.stack(list(islice(row, count))) for row in rows]).to(_place(batch).device)


def _row(draw: Callable[..., Tensor], name: str, shape: Sequence[int], purpose: str) -> Iterator[Tensor]:
    """The draws of a case, one after the other: a longer row begins as a shorter one does."""
    generator = torch.Generator().manual_seed(seed_of(0, f"{purpose}: {_case(name, purpose)}"))
    while True:
        yield draw(tuple(shape), generator=generator)


def _place(batch: Batch) -> Tensor:
    place = batch.image if batch.image is not None else batch.masks
    assert place is not None
    return place


def _names(batch: Batch) -> Sequence[str]:
    return batch.names or ("",) * len(_place(batch))


def _case(name: str, purpose: str) -> str:
    """What a case is called, as a file too: without folder and suffix."""
    stem, comma, slice_ = name.partition(", slice ")
    stem = re.sub(r"(\.nii\.gz|\.[A-Za-z]\w*)$", "", stem.replace("\\", "/").rpartition("/")[2])
    return stem if purpose.startswith("latent") else stem + comma + slice_
