"""Outlines as signed distances: where a network's lies, and where each mask's lies beside it.

Distances are positive inside and in units of the structure's radius, sqrt(area / pi), so that large and small
structures count alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mrprism.fusion.drawing import signed_distance
from mrprism.learn.survey import evenly

REACH = 1.0  # distances beyond one radius tell nothing more
NEAR = 1.2  # pixels from an outline at which observers are compared
OFTEN = 0.6  # no offset is taken for larger than this, no ripple for more than its square
FINE = 2  # a probability is read between its pixels, so many times finer
PAIRED = 8  # masks of an image of which pairs are looked at, at most
FARTHEST = (0.2, 0.3)  # what one mask of a pair shows, offset and ripple, is taken for no more than this
SMALLEST = 4  # pixels an outline must enclose to have a radius


class Seen(NamedTuple):
    """One image: where the network's outlines lie and how each mask lies beside them."""

    radius: Float[np.ndarray, " C"]  # pixels
    network: Float[np.ndarray, "C H W"]  # distances; -REACH where the network sees nothing
    answered: Bool[np.ndarray, " C"]  # whether the network sees something
    marked: Float[np.ndarray, "R C"]  # whether each rater marked something; NaN: absent
    drawn: dict[
        tuple[int, int], Float[np.ndarray, "H W"]
    ]  # by rater and structure; empty masks are not there
    offset: Float[np.ndarray, "R C"]  # mean distance from the network's outline, outwards; NaN: nothing drawn
    ripple: Float[np.ndarray, "R C"]  # variance along the outline
    pairs: tuple[Pair, ...] = ()  # of masks of one structure


class Pair(NamedTuple):
    """Two masks of an image: what they show alike beside the network is the network's own doing."""

    structure: int
    one: int
    other: int
    shape: float  # mean product of their distances from the network's outline along it, offsets taken off


def answered_distance(probability: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The same of a probability at one half, read between its pixels: a network is finer than they are."""
    height, width = probability.shape
    rows, columns = (np.clip((np.arange(FINE * n) + 0.5) / FINE - 0.5, 0, n - 1) for n in (height, width))
    finer = ndimage.map_coordinates(probability, np.meshgrid(rows, columns, indexing="ij"), order=1)
    distance = signed_distance(finer > 0.5) / FINE
    mean: np.ndarray = distance.reshape(height, FINE, width, FINE).mean((1, 3))
    return mean


def look(
    masks: Bool[np.ndarray, "R C H W"],
    rated: Bool[np.ndarray, "R C"],
    probability: Float[np.ndarray, "C H W"],
) -> Seen:
    """Measure every mask of an image beside the network's answer."""
    raters, structures, *size = masks.shape
    drawn: dict[tuple[int, int], np.ndarray] = {}
    radius, answered = np.ones(structures), np.zeros(structures, bool)
    network = np.full((structures, *size), -REACH, np.float32)
    offset, ripple = np.full((raters, structures), np.nan), np.full((raters, structures), np.nan)
    marked = np.where(rated, masks.any((-2, -1)), np.nan)
    for c in range(structures):
        marks: list[int] = np.flatnonzero(marked[:, c] == 1).tolist()
        area = float((probability[c] > 0.5).sum())
        answered[c] = area >= SMALLEST
        if not answered[c]:
            if not marks:
                continue
            area = float(np.median([masks[r, c].sum() for r in marks]))
        radius[c] = np.sqrt(max(area, SMALLEST) / np.pi)
        # further away than a radius from all that is marked no distance tells anything more
        box = _around((probability[c] > 0.5) | masks[marks, c].any(0), math.ceil(REACH * radius[c]) + 1)
        if answered[c]:
            network[c][box] = _clipped(answered_distance(probability[c][box]), radius[c])
        for r in marks:
            drawn[r, c] = np.full(size, -REACH, np.float32)
            drawn[r, c][box] = _clipped(signed_distance(masks[r, c][box]), radius[c])
            if answered[c]:
                close = NEAR / radius[c]
                near = (np.abs(drawn[r, c]) < close) | (np.abs(network[c]) < close)
                apart = (drawn[r, c] - network[c])[near]
                if apart.size:
                    offset[r, c] = np.clip(apart.mean(), -OFTEN, OFTEN)
                    ripple[r, c] = np.minimum((apart - offset[r, c]) ** 2, OFTEN**2).mean()
    pairs = [
        pair
        for c in np.flatnonzero(answered)
        for pair in _pairs(int(c), network[c], radius[c], drawn, offset)
    ]
    return Seen(radius, network, answered, marked, drawn, offset, ripple, tuple(pairs))


def _pairs(
    structure: int,
    network: Float[np.ndarray, "H W"],
    radius: float,
    drawn: Mapping[tuple[int, int], Float[np.ndarray, "H W"]],
    offset: Float[np.ndarray, "R C"],
) -> list[Pair]:
    """Of the masks of a structure, or of some of them evenly chosen."""
    who = [r for r, c in drawn if c == structure and np.isfinite(offset[r, c])]
    who = [who[n] for n in evenly(len(who), PAIRED)]
    near = np.abs(network) < NEAR / radius
    if len(who) < 2 or not near.any():
        return []
    shapes = np.stack([(drawn[r, structure] - network)[near] - offset[r, structure] for r in who])
    shapes = np.clip(shapes, -FARTHEST[1], FARTHEST[1])
    alike = shapes @ shapes.T / shapes.shape[1]
    return [
        Pair(structure, r, s, float(alike[i, j])) for i, r in enumerate(who) for j, s in enumerate(who[:i])
    ]


def _around(mask: Bool[np.ndarray, "H W"], margin: int) -> tuple[slice, slice]:
    """The box of what is marked, grown."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def _clipped(distance: Float[np.ndarray, "H W"], radius: float) -> Float[np.ndarray, "H W"]:
    return np.clip(distance / radius, -REACH, REACH).astype(np.float32)
