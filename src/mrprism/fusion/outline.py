"""Fusion by the outline model: the bias-corrected, precision-weighted mean of the raters' distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated
from mrprism.fusion.by_pattern import MARGIN, each_structure, rates, skill_counts
from mrprism.fusion.drawing import Drawing, look
from mrprism.fusion.observers import (
    EXACT,
    FUSE_TAIL,
    JUDGES,
    NEAR,
    Observers,
    bundle,
    mask_variance,
    observe,
    sample,
)
from mrprism.fusion.robust import LEAST_LEFT, locate, weighted_median

AGAIN = 2  # times that masks of strangers are weighed: once more after those that stray count less
_SAME = 1e-6  # what probabilities of one half may differ by


def outline(
    masks: Masks,
    rated: Rated,
    *,
    spacing_mm: Sequence[float] | None = None,
    margin: int | None = MARGIN,
    observers: Sequence[Observers] | None = None,
) -> Prediction:
    """Where the hidden outline lies that all raters observed, each with an error of their own.

    Without ``observers`` every image speaks for itself: nobody has a bias, and a mask counts by how near it
    lies to the others. Pixels on which all raters agree stay as they drew them. With ``observers``, found on
    many images (`mrprism.fusion.observers.observe`), each rater's bias is taken off, and the steady count more.

    Args:
        spacing_mm: Pixel size along each axis. None: square pixels.
        margin: Pixels around all marks in which the confusion is measured; None: the whole field.
        observers: How each rater draws, for each structure.

    Returns:
        ``probability`` that the hidden outline encloses the pixel, by the spread of the errors left. ``ties``:
        where the masks leave it even.

    Source: this package (docs/concepts/outline.md). With equal raters it is the mean of signed distances of
    Rohlfing, Maurer, "Shape-based averaging", IEEE TIP 16(1), 2007, doi:10.1109/TIP.2006.884936.
    """
    probability = np.zeros(masks.shape[1:], np.float32)
    ties = np.zeros(masks.shape[1:], bool)
    displaced = np.full((*rated.shape, 2), np.nan)
    pieces = np.zeros((*rated.shape, 2, 2))
    for c, drawn, present in each_structure(masks, rated):
        known = None if observers is None else observers[c]
        drawing = look(drawn, present, spacing_mm=spacing_mm, reach=None if known is None else known.reach)
        if drawing is None:
            continue
        raters = known or observe([sample(drawing, None)], len(masks), persons=False)
        found = enclosed(drawing, raters, persons=known is not None)
        probability[c][drawing.box] = found.inside
        ties[c][drawing.box] = np.abs(found.inside - 0.5) <= _SAME
        displaced[drawing.drew, c] = found.displaced
        pieces[:, c] = found.pieces
    confusion = rates(skill_counts(masks, rated, probability, margin=margin))
    confusion[~rated] = 0.5
    return Prediction(
        probability=probability, confusion=confusion, ties=ties, displaced=displaced, pieces=pieces
    )


class Enclosed(NamedTuple):
    """One structure of one image, fused."""

    inside: Float[np.ndarray, "*box"]  # probability that the hidden outline encloses the pixel
    displaced: Float[
        np.ndarray, "K 2"
    ]  # how far outside the others each rater drew, and the spread of the rest
    pieces: Float[np.ndarray, "R 2 2"]  # expected pieces of each rater, [there, marked]


def enclosed(drawing: Drawing, raters: Observers, *, persons: bool) -> Enclosed:
    """Fuse one structure of one image, in its box.

    Args:
        persons: Raters have biases and spreads of their own. If not, what all of them agree on stands.
    """
    from scipy.special import ndtr

    enclosed_by_all = np.asarray((drawing.distance > 0).all(axis=0))  # who drew; others may have seen nothing
    asked = _asked(drawing, raters, persons)
    sighting = sight(drawing, raters, asked, persons)
    there = pieces_there(drawing, raters)
    of_piece = there[0] if drawing.piece is None else there[drawing.piece]
    inside: NDArray[np.float32] = np.asarray(enclosed_by_all * of_piece, np.float32)
    chance = ndtr(sighting.hidden / sighting.spread)
    inside[asked] = chance * (of_piece if drawing.piece is None else of_piece[asked])
    if not persons:
        if not len(drawing.empty):
            inside[enclosed_by_all] = 1
        inside[(drawing.distance < 0).all(axis=0)] = 0
    displaced = np.stack([sighting.displaced, sighting.rest], axis=1) * raters.unit(drawing.radius)
    return Enclosed(inside, displaced, _expected(drawing, there, len(raters.bias)))


def _expected(drawing: Drawing, there: Float[np.ndarray, " P"], raters: int) -> Float[np.ndarray, "R 2 2"]:
    """Pieces by whether they are there and whether each rater marked anything of them, expected."""
    pieces = np.zeros((raters, 2, 2))
    for marks, chance in ((drawing.marked, there), (~drawing.marked, there)):
        answer = int(marks is drawing.marked)
        pieces[drawing.drew, 1, answer] = marks @ chance
        pieces[drawing.drew, 0, answer] = marks @ (1 - chance)
    pieces[drawing.empty, 1, 0], pieces[drawing.empty, 0, 0] = there.sum(), (1 - there).sum()
    return pieces


def _asked(drawing: Drawing, raters: Observers, persons: bool) -> NDArray[np.bool_]:
    """The pixels whose side is in question, and those along the outlines, which tell how steady raters are."""
    lowest, highest = drawing.distance.min(axis=0), drawing.distance.max(axis=0)
    if len(drawing.empty) and not persons:
        lowest = np.minimum(lowest, -drawing.pixel)
    unit = raters.unit(drawing.radius)
    far = 1.5 * drawing.pixel
    if persons:
        bias = raters.bias[drawing.drew] * unit
        far += 4 * float(raters.spread[drawing.drew].max()) * unit + float(np.abs(bias).max())
        return np.asarray((highest >= -far) & (lowest <= far))
    return np.asarray((highest > 0) & (lowest <= far))


class Sighting(NamedTuple):
    """The hidden outline as seen at some pixels, in the image's unit, and each rater beside it."""

    hidden: Float[np.ndarray, " n"]  # distance, positive inside
    spread: Float[np.ndarray, " n"]  # standard deviation of its error
    displaced: Float[np.ndarray, " K"]  # how far outside the others' outline each rater drew; NaN if alone
    rest: Float[np.ndarray, " K"]  # standard deviation of the rest of the error; NaN if alone


def sight(drawing: Drawing, raters: Observers, at: NDArray[np.bool_], persons: bool) -> Sighting:
    """Where the hidden outline lies, given how each rater draws."""
    unit = raters.unit(drawing.radius)
    bias = raters.bias[drawing.drew][:, None]
    seen = drawing.has(at)
    straight = drawing.distance[:, at] / unit - bias
    least = (EXACT * drawing.pixel / unit) ** 2
    usual = np.maximum(raters.spread[drawing.drew] ** 2, least)
    own = usual[:, None]
    hidden = weighted_median(straight, np.asarray(seen / own))
    erratic = persons and raters.erratic and len(drawing.drew) >= JUDGES
    if erratic:
        far = drawing.distance[:, at]
        hidden, variance, _ = bundle(far, seen, drawing.pixel, drawing.radius, drawing.drew, raters)
        own = variance[:, None]
    for _ in range(1 if persons else AGAIN):
        hidden, weight = locate(straight, seen / own, own, FUSE_TAIL, hidden)
        near = np.exp(-0.5 * (hidden / (max(NEAR * drawing.radius, drawing.pixel) / unit)) ** 2) * seen + 1e-9
        near /= near.sum(axis=1, keepdims=True)
        total = weight.sum(axis=0)
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        left = np.maximum(1 - share, LEAST_LEFT)
        off = straight - hidden
        tail = (FUSE_TAIL + 1) / (FUSE_TAIL + off**2 / own)
        scatter = (tail * off**2 / left * near).sum(axis=1)
        mean = (off / left * near).sum(axis=1)
        rest = np.sqrt((tail * (off - mean[:, None]) ** 2 / left * near).sum(axis=1))
        if not erratic:  # a bundle knows them already
            own = mask_variance(usual, scatter, least, persons)[:, None]
    hidden, _ = locate(straight, seen / own, own, FUSE_TAIL, hidden, steps=1)
    total = (seen / own).sum(axis=0)
    spread = np.sqrt(1 / np.maximum(total, 1e-12))
    displaced = mean + bias[:, 0]
    if len(drawing.drew) < 2:
        displaced, rest = np.full(1, np.nan), np.full(1, np.nan)
    return Sighting(hidden, spread, displaced, rest)


def pieces_there(drawing: Drawing, raters: Observers) -> Float[np.ndarray, " P"]:
    """Probability that each piece is there at all, by who marked anything of it and who did not."""
    from scipy.special import expit

    chance = np.log(raters.presence)  # [there, marked]
    weight = np.log(raters.pieces) - np.log1p(-raters.pieces)
    yes, no = (chance[:, 1, answer] - chance[:, 0, answer] for answer in (1, 0))
    odds = weight + np.where(drawing.marked, yes[drawing.drew][:, None], no[drawing.drew][:, None]).sum(
        axis=0
    )
    odds = odds + no[drawing.empty].sum()
    # what everybody marked is there
    return np.where(drawing.marked.all(axis=0) & (not len(drawing.empty)), 1.0, expit(odds))
