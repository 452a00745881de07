"""From cases to batches: in an order of each epoch's own, changed at random, collated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mrprism.core.sample import MultiRaterSample
from mrprism.core.seeds import generator_of
from mrprism.learn.augment import apply_changes, draw_change
from mrprism.learn.batch import Batch
from mrprism.learn.cases import Cases
from mrprism.learn.plan import Plan
from mrprism.learn.settings import Augment, steps_per_epoch
from mrprism.learn.space import aside


def training_batches(
    cases: Cases,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: Augment = "full",
    plan: Plan | None = None,
    first: int = 0,
    device: torch.device | str = "cpu",
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch from step `first` on, in an order drawn from (seed, epoch).

    What is left over after whole batches is left out this epoch; the next draws another order.
    With several processes each takes its own share of every step.

    Args:
        plan: Of the cases, if they are planned.
    """
    order = generator_of(seed, "order", epoch).permutation(len(cases))
    for step in range(first, steps_per_epoch(len(cases), batch_size, processes)):
        start = step * batch_size * processes
        together = order[start : start + batch_size * processes]
        mine = [int(i) for i in (together[process::processes] if len(together) > processes else together)]
        drawn = [cases.drawn(i, seed, epoch) for i in mine]
        batch = collate(drawn, index=[cases.place(i) for i in mine], device=device)
        if augment != "none":
            batch = apply_changes(batch, [draw_change(augment, seed, epoch, i, plan) for i in mine], plan)
        yield batch


def plain_batches(cases: Cases, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """All cases once, in order and unchanged; the last batch may be smaller."""
    for start in range(0, len(cases), batch_size):
        yield collate(cases[start : start + batch_size], device=device)


def collate(
    samples: Sequence[MultiRaterSample],
    *,
    index: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Stack samples of one size; masks travel to the device as bits of one byte and become floats there."""
    some_reference = any(sample.reference is not None for sample in samples)
    reference = None
    if some_reference:
        empty = np.zeros(samples[0].masks.shape[1:], bool)
        drawn = _stack([empty if s.reference is None else s.reference for s in samples], device).float()
        absent = torch.tensor([s.reference is None for s in samples], device=drawn.device)
        reference = drawn.masked_fill(aside(absent, drawn), math.nan)
    rated = _stack([s.rated for s in samples], device)
    masks = _stack([s.masks for s in samples], device).float()
    masks = masks * aside(rated, masks)
    diagnosis = [-1 if s.diagnosis is None else s.diagnosis for s in samples]
    return Batch(
        names=tuple(s.name for s in samples),
        image=_stack([s.picture for s in samples], device).float(),
        masks=masks,
        rated=rated,
        reference=reference,
        diagnosis=torch.tensor(diagnosis, dtype=torch.int64, device=device),
        index=None if index is None else torch.tensor(list(index), dtype=torch.int64, device=device),
    )


def _stack(arrays: Sequence[np.ndarray], device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)
