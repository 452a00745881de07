"""Exclusive classes for methods that need them, from structures that may nest or overlap, and back.

Methods built on confusion matrices want one label per pixel. Up to three structures are read jointly: a
pixel's class is the combination of structures it lies in, so disc ⊇ cup gives {neither, rim, cup} and the
fourth combination, which does not occur, is closed. More structures are read each by itself, as
{outside, inside}, for 2^C classes would be too many. Both are one layout: G groups of K classes.

R rater · G group · K class · confusions are P(drawn | true), indices [true, drawn].
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.learn.networks.unet import RAREST
from mrprism.learn.space import aside, axes, picked

Grouping = Literal["auto", "joint", "separate"]

MOST_JOINT = 3  # structures read jointly unless asked otherwise
MOST_TOGETHER = 10  # structures that can be read jointly at all: 1024 classes
RARE = 1e-3  # a combination with a smaller share of what is marked is read as its nearest neighbour
CLOSED = -1e4  # logit of a class that does not occur


class Classes(nn.Module):
    """Which combinations of structures occur, and the way between masks and classes.

    A rater who did only some of a group's structures is not read for that group.
    """

    contains: Tensor  # (K, structures of a group) bool
    read_as: Tensor  # (G, K) the class that each combination is read as
    share: Tensor  # (G, K) how often the raters of the training set drew each class; 0: closed

    def __init__(self, structures: int, grouping: Grouping = "auto") -> None:
        super().__init__()
        if grouping not in ("auto", "joint", "separate"):
            raise InputError(f"grouping must be 'auto', 'joint' or 'separate', not '{grouping}'")
        joint = grouping == "joint" or (grouping == "auto" and structures <= MOST_JOINT)
        self.groups = 1 if joint else structures
        self.in_group = structures // self.groups
        if self.in_group > MOST_TOGETHER:
            raise InputError(
                f"{self.in_group} structures cannot be read jointly, at most {MOST_TOGETHER}: their combinations would "
                "be classes; set grouping=separate"
            )
        self.size = 2**self.in_group
        bits = torch.arange(self.size)[:, None] >> torch.arange(self.in_group) & 1
        self.register_buffer("contains", bits.bool(), persistent=False)
        self.register_buffer("read_as", torch.arange(self.size).repeat(self.groups, 1))
        self.register_buffer("share", torch.full((self.groups, self.size), 1 / self.size))

    def prepare(self, samples: Iterable[MultiRaterSample]) -> None:
        """Find the combinations that occur in the training masks.

        Raises:
            InputError: No rater did all structures of a group, so nothing can be read jointly.
        """
        counts = np.zeros((self.groups, self.size))
        weight = 1 << np.arange(self.in_group)
        for sample in samples:
            raters = len(sample.masks)
            grouped = sample.masks.reshape(raters, self.groups, self.in_group, -1)
            code = np.tensordot(grouped, weight, axes=(2, 0))
            rated = sample.rated.reshape(raters, self.groups, self.in_group).all(-1)
            for r, g in zip(*np.nonzero(rated), strict=True):
                counts[g] += np.bincount(code[r, g], minlength=self.size)
        if (counts.sum(1) == 0).any():
            raise InputError(
                "no rater did all structures, so they cannot be read jointly: set grouping=separate"
            )
        contains = self.contains.cpu().numpy()
        for g in range(self.groups):
            open_ = _open(counts[g], contains)
            distance = (contains[:, None] != contains[None]).sum(-1) - counts[g] / (counts[g].sum() + 1)
            distance[:, ~open_] = np.inf
            nearest = np.where(open_, np.arange(self.size), distance.argmin(1))
            share = np.bincount(nearest, counts[g], minlength=self.size) / counts[g].sum()
            self.read_as[g] = torch.from_numpy(nearest)
            self.share[g] = torch.from_numpy(np.where(open_, np.maximum(share, 1e-9), 0.0))

    def levels(self) -> Float[Tensor, " GK"]:
        """Logits of how often each class is drawn: where a network's outputs begin."""
        return self.share.clamp(min=RAREST).log().flatten()

    @property
    def occurs(self) -> Bool[Tensor, "G K"]:
        return self.share > 0

    def labels(
        self, masks: Float[Tensor, "B R C *space"], rated: Bool[Tensor, "B R C"]
    ) -> tuple[Int64[Tensor, "B R G *space"], Bool[Tensor, "B R G"]]:
        """The class each rater gave each pixel, and where there is one."""
        grouped = (masks > 0.5).unflatten(2, (self.groups, self.in_group))
        code = sum(grouped[:, :, :, j].long() << j for j in range(self.in_group))
        assert isinstance(code, Tensor)
        group = aside(torch.arange(self.groups, device=masks.device)[None, None], masks)
        return self.read_as[group, code], rated.unflatten(2, (self.groups, self.in_group)).all(-1)

    def log_probability(self, logits: Float[Tensor, "B GK *space"]) -> Float[Tensor, "B G K *space"]:
        """Log-softmax over the classes of each group, those that do not occur left out."""
        return self.close(logits.float().unflatten(1, (self.groups, self.size)), 2).log_softmax(2)

    def close(self, logits: Float[Tensor, "*shape"], axis: int) -> Float[Tensor, "*shape"]:
        """Logits with the classes that do not occur closed; G is axis 1 and K is `axis`."""
        shape = [1] * logits.ndim
        shape[axis] = self.size
        shape[1] = self.groups
        return logits.masked_fill(~self.occurs.view(shape), CLOSED)

    def structures(self, probability: Float[Tensor, "B ..."], at: int = 1) -> Float[Tensor, "B ..."]:
        """Probability of each structure: that of all classes lying in it.

        Args:
            probability: Of groups and classes, (B, G, K, *space), or of raters too, (B, R, G, K, *space).
            at: The axis of G.
        """
        each = [picked(probability, at + 1, [self.contains[:, j]]).sum(at + 1) for j in range(self.in_group)]
        return torch.stack(each, at + 1).flatten(at, at + 1).clamp(0, 1)

    def structure_confusion(self, confusion: Float[Tensor, "R G K K"]) -> Float[Tensor, "R C 2 2"]:
        """P(drawn | true) of each structure by itself, classes weighted by how often they are drawn."""
        joint = (confusion * self.share[:, :, None].to(confusion.dtype)).flatten(2)
        tables = []
        for j in range(self.in_group):
            inside = self.contains[:, j].long()
            cell = (2 * inside[:, None] + inside[None]).flatten()
            tables.append(joint.new_zeros(*joint.shape[:2], 4).index_add(2, cell, joint))
        stacked = torch.stack(tables, 2).flatten(1, 2)
        counts = stacked.view(*stacked.shape[:2], 2, 2)
        return counts / counts.sum(-1, keepdim=True).clamp(min=1e-12)

    def initial_confusion(self, diagonal: float = 0.9) -> Float[Tensor, "G K K"]:
        """A rater who is right with chance `diagonal`, errors spread over the other classes that occur."""
        others = (self.occurs.sum(1) - 1).clamp(min=1)[:, None, None]
        same = torch.eye(self.size, device=self.share.device)
        table = torch.where(same.bool(), diagonal, (1 - diagonal) / others)
        return table * self.occurs[:, None] + same * (~self.occurs[..., None])


def vote_share(
    labels: Int64[Tensor, "B R G *space"], rated: Bool[Tensor, "B R G"], size: int
) -> Float[Tensor, "B G K *space"]:
    """Share of the raters who gave each class; 0 everywhere where nobody rated."""
    present = aside(rated, labels)
    votes = torch.stack([((labels == k) & present).sum(1) for k in range(size)], 2)
    return votes / aside(rated.sum(1).clamp(min=1), votes)


def rated_nll(
    log_probability: Float[Tensor, "B R G K *space"],
    labels: Int64[Tensor, "B R G *space"],
    rated: Bool[Tensor, "B R G"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy over what was rated."""
    each = -log_probability.gather(3, labels[:, :, :, None])[:, :, :, 0]
    each = each.mean(axes(each, 3))
    return torch.where(rated, each, 0.0).sum() / rated.sum().clamp(min=1)


def through(
    probability: Float[Tensor, "B G K *space"], confusion: Float[Tensor, "#B R G K K *#space"]
) -> Float[Tensor, "B R G K *space"]:
    """What each rater would draw: P(drawn) = Σ_true P(true) P(drawn | true)."""
    drawn = probability[:, None, :, 0, None] * confusion[:, :, :, 0]
    for k in range(1, probability.shape[2]):
        drawn = drawn + probability[:, None, :, k, None] * confusion[:, :, :, k]
    return drawn


def evidence(
    table: Float[Tensor, "R G K L"], labels: Int64[Tensor, "B R G *space"], rated: Bool[Tensor, "B R G"]
) -> Float[Tensor, "B G K *space"]:
    """Sum over the raters present of ``table[rater, group, k, label]``: what labels say of classes."""
    group = aside(torch.arange(table.shape[1], device=table.device)[None], labels[:, 0])
    total: Tensor | None = None
    for r in range(len(table)):
        said = table[r].transpose(1, 2)[group, labels[:, r]].movedim(-1, 2)
        said = said.masked_fill(~aside(rated[:, r], said), 0.0)
        total = said if total is None else total + said
    assert total is not None
    return total


def confusion_counts(
    consensus: Float[Tensor, "B G K *space"],
    labels: Int64[Tensor, "B R G *space"],
    rated: Bool[Tensor, "B R G"],
    region: Bool[Tensor, "B *space"] | None = None,
) -> Float[Tensor, "R G K K"]:
    """Expected pixels by consensus and drawing, [true, drawn], for each rater."""
    if region is not None:
        consensus = consensus * region[:, None, None]
    drawn = range(consensus.shape[2])
    rows = []
    for r in range(labels.shape[1]):
        weight = consensus * aside(rated[:, r], consensus)
        counts = [(weight * (labels[:, r] == k)[:, :, None]).sum((0, *axes(weight, 3))) for k in drawn]
        rows.append(torch.stack(counts, -1))
    return torch.stack(rows)


def rows_to_one(
    counts: Float[Tensor, "R G K K"], occurs: Bool[Tensor, "G K"], smoothing: float
) -> Float[Tensor, "R G K K"]:
    """Counts as P(drawn | true), `smoothing` added to classes that occur; closed rows are the identity."""
    smoothed = (counts + smoothing) * occurs[:, None]
    rates = smoothed / smoothed.sum(-1, keepdim=True).clamp(min=1e-12)
    identity = torch.eye(counts.shape[-1], device=counts.device, dtype=counts.dtype)
    return torch.where(occurs[..., None], rates, identity)


def _open(counts: np.ndarray, contains: np.ndarray) -> np.ndarray:
    """Classes to keep: background, what is not rare, and each structure's most frequent combination."""
    marked = counts[1:].sum()
    keep: np.ndarray = counts >= RARE * max(marked, 1)
    keep[0] = True
    for j in range(contains.shape[1]):
        inside = np.nonzero(contains[:, j])[0]
        keep[inside[counts[inside].argmax()]] = True
    return keep
