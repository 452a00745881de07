"""What an outline model sees of one structure in one image: each rater's signed distance to their outline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int
from numpy.typing import NDArray
from scipy import ndimage

from mrprism.core.patterns import Region, grow, survey

RING = 2  # pixels around everything marked that are looked at as well


@dataclass(frozen=True)
class Drawing:
    """The outlines that the raters of one image drew of one structure, as distances.

    A piece is a connected part of what anybody marked. A rater who marked nothing of a piece says that it is
    not there; how far off their outline is, they do not say.
    """

    box: Region  # where in the image `distance` lies
    drew: Int[np.ndarray, " K"]  # the raters who marked something
    empty: Int[np.ndarray, " E"]  # the raters who looked and marked nothing
    distance: Float32[np.ndarray, "K *box"]  # to the rater's outline, positive inside; in pixels, or in mm
    piece: NDArray[np.int32] | None  # (*box) which piece is nearest, from 0; None: there is one only
    marked: Bool[np.ndarray, "K P"]  # whether the rater marked anything of the piece
    spacing: tuple[float, ...]  # of pixels along each axis, in pixels or mm
    radius: float  # of a disc (ball) as large as what half of them marked

    @property
    def pixel(self) -> float:
        """The shortest side of a pixel, in pixels or mm."""
        return float(min(self.spacing))

    @property
    def pieces(self) -> int:
        return int(self.marked.shape[1])

    def has(self, at: Any = ...) -> NDArray[np.bool_]:
        """Whether each rater (K, ...) marked anything of the piece nearest to some pixels of the box."""
        if self.piece is None:
            flat = np.ones(self.distance.shape[1:], bool)[at]
            return np.broadcast_to(flat, (len(self.drew), *flat.shape))
        found: NDArray[np.bool_] = self.marked[:, self.piece[at]]
        return found


def look(
    masks: Bool[np.ndarray, "R *space"],
    present: Bool[np.ndarray, " R"],
    *,
    spacing_mm: Sequence[float] | None = None,
    reach: Callable[[float], float] | None = None,
) -> Drawing | None:
    """Measure one structure of one image; None where nobody marked anything.

    Args:
        spacing_mm: Pixel size along each axis. None: square pixels, and distances are in pixels.
        reach: How far outside of everything marked the hidden outline may lie, by the structure's radius.
    """
    _, tight = survey(masks, present)
    if tight is None:
        return None
    spacing = tuple(spacing_mm or (1.0,) * (masks.ndim - 1))
    there = np.flatnonzero(present)
    some = np.array([masks[r][tight].any() for r in there], bool)
    drew = there[some]
    drawn = np.stack([masks[r][tight] for r in drew])
    # half of them marked it; where no pixel has that many, as much as one of them usually marked
    half = int((2 * drawn.sum(axis=0) >= len(drew)).sum())
    size = half or int(np.median(drawn.reshape(len(drew), -1).sum(axis=1)))
    radius = _radius(max(size, 1) * math.prod(spacing), len(spacing))
    ring = RING + (0 if reach is None else math.ceil(min(reach(radius), radius) / min(spacing)))
    box = grow(tight, ring, masks.shape[1:])
    drawn = np.stack([masks[r][box] for r in drew])
    distance = np.stack([signed_distance(mask, spacing_mm) for mask in drawn])
    finite = np.isfinite(distance)  # a full mask has no outline: it lies as far away as the furthest of any
    furthest = float(np.abs(distance[finite]).max(initial=1.0))
    distance[~finite] = furthest
    piece, count = _pieces(np.asarray(drawn.any(axis=0)))
    marked = np.ones((len(drew), 1), bool)
    if piece is not None:
        marked = np.stack([np.bincount(piece[mask], minlength=count) > 0 for mask in drawn])
    return Drawing(
        box=box,
        drew=drew,
        empty=there[~some],
        distance=distance,
        piece=piece,
        marked=marked,
        spacing=spacing,
        radius=radius,
    )


def signed_distance(
    mask: Bool[np.ndarray, "*space"], spacing_mm: Sequence[float] | None = None
) -> Float32[np.ndarray, "*space"]:
    """Distance of each pixel's centre to the outline between pixels, positive inside.

    The outline is taken to run half a pixel from the nearest pixel of the other side. Infinite without an
    outline: positive for a full mask, negative for an empty one.

    Args:
        spacing_mm: Pixel size along each axis. None: one each.
    """
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf if mask.all() else -np.inf, np.float32)
    if spacing_mm is None or max(spacing_mm) <= 1.001 * min(spacing_mm):
        half = 0.5 * (1.0 if spacing_mm is None else spacing_mm[0])
        inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
        outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
        return np.asarray(np.where(mask, inside - half, half - outside), np.float32)
    # where pixels are long, half a pixel depends on the way to the other side
    signed: NDArray[np.float32] = np.where(mask, _to_edge(mask, spacing_mm), -_to_edge(~mask, spacing_mm))
    return signed


def _to_edge(mask: Bool[np.ndarray, "*space"], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Distance from each pixel's centre to the nearest pixel, as a box, outside the mask."""
    nearest = ndimage.distance_transform_edt(
        mask, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    total = np.zeros(mask.shape, np.float32)
    for axis, spacing in enumerate(spacing_mm):
        index = np.arange(mask.shape[axis]).reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
        total += (spacing * np.maximum(np.abs(nearest[axis] - index) - 0.5, 0)).astype(np.float32) ** 2
    found: NDArray[np.float32] = np.sqrt(total)
    return found


def _pieces(union: Bool[np.ndarray, "*space"]) -> tuple[NDArray[np.int32] | None, int]:
    """Which connected part of what anybody marked is nearest to each pixel; None where there is one only."""
    labels, count = ndimage.label(union, np.ones((3,) * union.ndim))
    if count == 1:
        return None, 1
    nearest = ndimage.distance_transform_edt(~union, return_distances=False, return_indices=True)
    piece: NDArray[np.int32] = (labels[tuple(nearest)] - 1).astype(np.int32)
    return piece, int(count)


def _radius(size: float, axes: int) -> float:
    """Of a disc of some area, or a ball of some volume."""
    if axes == 2:
        return math.sqrt(size / math.pi)
    return float((3 * size / (4 * math.pi)) ** (1 / 3))
