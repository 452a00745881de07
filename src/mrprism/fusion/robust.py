"""Where an outline lies that several people drew, some of them badly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

LEAST_LEFT = 0.1  # of the weight is left to the others, however steady one rater seems
ROUNDS = 6  # the tightest bundle stands still by then


def locate(
    values: NDArray[np.floating],
    weight: NDArray[np.floating],
    variance: NDArray[np.floating],
    tail: float,
    start: NDArray[np.floating],
    axis: int = 0,
    steps: int = 3,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The middle of observations with Student-t errors, and the weights of the last round.

    Args:
        weight: 1 over the variance, 0 for what is not there; broadcast against ``values``.
        tail: Degrees of freedom.
        start: Where to look first, such as the weighted median.
    """
    weight = np.broadcast_to(weight, values.shape)
    middle = start.astype(np.float64)
    robust = weight
    for _ in range(steps):
        off = (values - np.expand_dims(middle, axis)) ** 2 / variance
        robust = weight * (tail + 1) / (tail + off)
        total = robust.sum(axis=axis)
        middle = np.divide((robust * values).sum(axis=axis), total, out=middle, where=total > 0)
    return middle, robust


def weighted_median(
    values: NDArray[np.floating], weight: NDArray[np.floating], axis: int = 0
) -> NDArray[np.floating]:
    """Where half of the weight lies below; midway where exactly half does."""
    order = values.argsort(axis=axis, kind="stable")
    ranked = np.take_along_axis(values, order, axis)
    reached = np.take_along_axis(weight, order, axis).cumsum(axis=axis)
    total = np.take(reached, [-1], axis)
    low = (reached >= (0.5 - 1e-7) * total).argmax(axis=axis)
    high = (reached >= (0.5 + 1e-7) * total).argmax(axis=axis)
    ends = [np.take_along_axis(ranked, np.expand_dims(at, axis), axis) for at in (low, high)]
    return np.asarray(np.squeeze((ends[0] + ends[1]) / 2, axis))


def shrunk(value: float, error: float) -> float:
    """An estimate less what chance alone may have made of it."""
    return value * max(0.0, 1 - (error / value) ** 2) if value else 0.0


class Bundle(NamedTuple):
    """Masks of one image that lie close together, the others counting little."""

    hidden: Float[np.ndarray, " n"]  # distance to the outline they share
    variance: Float[np.ndarray, " K"]  # of each mask
    likely: float  # log-likelihood, up to a constant, of all masks


def tightest_bundle(
    distance: Float[np.ndarray, "K n"],
    seen: Bool[np.ndarray, "K n"],
    usual: Float[np.ndarray, " K"],
    *,
    least: float,
    near: float,
    pixel_tail: float,
    mask_tail: float,
    stretches: float,
) -> Bundle:
    """The outline with which the masks are most likely, if each mask has a precision of its own.

    A mask's variance follows an inverse gamma distribution about the usual one; integrated out, a mask far off
    costs only its logarithm. So a few that lie close together outweigh many that are scattered, and there can be
    several such places: the search begins at the median and at every mask.

    Args:
        distance: Of each mask's outline at some pixels, in radii.
        seen: Whether the mask says anything there.
        usual: Variance of a mask, as expected.
        least: Variance below which none can be.
        near: Pixels count by how near they lie to the outline, in radii.
        pixel_tail, mask_tail: Degrees of freedom of errors at a pixel and of whole masks.
        stretches: As many independent errors are read from one outline.
    """

    from scipy.special import gammaln

    def best_from(
        hidden: NDArray[np.floating], left: NDArray[np.floating], own: NDArray[np.floating]
    ) -> Bundle:

        scatter = usual
        for step in range(ROUNDS):
            if step:
                hidden, weight = locate(distance, seen / own[:, None], own[:, None], pixel_tail, hidden)
                total = weight.sum(axis=0)
                share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
                left = np.maximum(1 - share, LEAST_LEFT)
            close = np.exp(-0.5 * (hidden / near) ** 2) * seen + 1e-9
            close /= close.sum(axis=1, keepdims=True)
            off = (distance - hidden) ** 2
            tail = (pixel_tail + 1) / (pixel_tail + off / own[:, None])
            scatter = np.maximum((tail * off / left * close).sum(axis=1), least)
            own = np.maximum((mask_tail * usual + stretches * scatter) / (mask_tail + stretches), least)
        both = mask_tail + stretches
        each = mask_tail * np.log(mask_tail * usual) - both * np.log(mask_tail * usual + stretches * scatter)
        each = each / 2 + gammaln(both / 2) - gammaln(mask_tail / 2)
        # the outline itself is found from the masks: as many of its stretches are not free to disagree
        likely = float(each.sum() - stretches / 2 * np.log((1 / own).sum()))
        return Bundle(hidden, own, likely)

    everything = np.ones_like(distance)
    starts: Iterable[NDArray[np.floating]] = (
        weighted_median(distance, np.asarray(seen / usual[:, None])),
        *(distance[k] for k in range(len(distance)) if seen[k].all()),
    )
    return max((best_from(start, everything, usual) for start in starts), key=lambda found: found.likely)
