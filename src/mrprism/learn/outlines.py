"""Outlines as signed distances; raters and a network as observers of one hidden outline.

An observer's outline lies where the hidden one does, moved by a bias of their own, by an offset that changes
from image to image, and by a ripple that changes along the outline. Distances are positive inside and in units
of the structure's radius, sqrt(area / pi), so that large and small structures count alike.

With one mask an image no rater can be compared with another. Each can be compared with the network, which has
seen images of all raters: whoever is steady beside it is steady, and what the steadiest still show is the
network's own unsteadiness. docs/concepts/mrprism.md says what was measured.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage
from scipy.special import ndtr

from mrprism.fusion.drawing import signed_distance

REACH = 1.0  # distances beyond one radius tell nothing more
NEAR = 1.2  # pixels from an outline at which observers are compared
OFTEN = 0.6  # no offset is taken for larger than this, no ripple for more than its square
FINE = 2  # a probability is read between its pixels, so many times finer
USUAL = 1.0  # images of a usual rater that stand beside what a rater's own images show
OWN_SHARE = 0.5  # of what the steadiest raters show beside the network; the rest is theirs
STEADIEST = 0.1  # the share of raters who are the steadiest
GAUGE = 1.5  # power of the precision with which raters say where zero lies
PIECES = 4.0  # of an outline that ripples by themselves
DOUBT = 4.0  # pieces of a usual image that stand beside what one mask shows
AXES = 8  # of what the network makes of images, at most
STRENGTHS = (np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)  # of ridge regression; the first is no dependence
LEAST = 1e-4  # a variance no outline on a grid of pixels falls below
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


@dataclass(frozen=True)
class Observers:
    """How raters and network draw; variances of raters are their own, without the network's."""

    bias: Float[np.ndarray, "R C"]  # outwards
    offset: Float[np.ndarray, "R C"]  # variance from image to image
    ripple: Float[np.ndarray, "R C"]  # variance along an outline
    network_bias: Float[np.ndarray, " C"]
    network_offset: Float[np.ndarray, " C"]
    network_ripple: Float[np.ndarray, " C"]
    presence: Float[
        np.ndarray, "C 5"
    ]  # log-odds that a structure is there: before anything is seen, and what a
    # rater's marks, a rater's empty mask, the network's and its empty answer add
    images: Dependence | None = None  # how variances depend on the image

    def on(self, features: Float[np.ndarray, " F"] | None) -> Observers:
        """The raters on one image."""
        if self.images is None or features is None:
            return self
        harder = np.exp(self.images.of(features[None])[0])[:, None]
        return replace(self, offset=self.offset * harder, ripple=self.ripple * harder)

    @classmethod
    def unknown(cls, raters: int, structures: int) -> Observers:
        """Before anything is known: all alike, and nobody has a bias."""
        each, one = np.full((raters, structures), 0.01), np.full(structures, 0.01)
        presence = np.tile([0.0, 1.0, -1.0, 0.1, -0.1], (structures, 1))
        return cls(0 * each, each, each, 0 * one, one, one, presence)


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
    return Seen(radius, network, answered, marked, drawn, offset, ripple)


def _around(mask: Bool[np.ndarray, "H W"], margin: int) -> tuple[slice, slice]:
    """The box of what is marked, grown."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def estimate(
    seen: Sequence[Seen], features: Float[np.ndarray, "N F"] | None = None, *, persons: bool = True
) -> Observers:
    """How each rater draws, and the network, from all training images.

    Args:
        features: What the network makes of each image, for raters whose skill depends on it.
        persons: False: raters are slots, so nobody has a bias and all are alike.
    """
    offset, ripple = np.stack([one.offset for one in seen]), np.stack([one.ripple for one in seen])
    marked, answered = np.stack([one.marked for one in seen]), np.stack([one.answered for one in seen])
    presence = _presence(marked, answered)
    raters = offset.shape[1]
    if not np.isfinite(offset).any():
        return replace(Observers.unknown(raters, len(presence)), presence=presence)
    if persons:
        images = None if features is None else depend(features, np.log(np.maximum(ripple, LEAST)))
        return _estimate(offset, ripple, presence, images, features)
    alike = (-1, 1, len(presence))
    pooled = _estimate(offset.reshape(alike), ripple.reshape(alike), presence)
    return replace(
        pooled,
        bias=np.repeat(pooled.bias, raters, 0),
        offset=np.repeat(pooled.offset, raters, 0),
        ripple=np.repeat(pooled.ripple, raters, 0),
    )


def _estimate(
    offset: Float[np.ndarray, "N R C"],
    ripple: Float[np.ndarray, "N R C"],
    presence: Float[np.ndarray, "C 5"],
    images: Dependence | None = None,
    features: Float[np.ndarray, "N F"] | None = None,
) -> Observers:
    """Bias and variances.

    Variances are pooled as logarithms, with USUAL images of the median rater beside each rater's own. A rater is
    as steady in one structure as in another, relative to the other raters; where the network's noise hides who
    is steady, the other structure says it. Biases are known but for one number, the network's own: the zero
    that the steady raters have on average.
    """
    count = np.isfinite(offset).sum(0)
    harder = np.ones(offset.shape[:2])
    if images is not None and features is not None:
        harder = np.exp(images.of(features))
    easiest = np.quantile(harder[np.isfinite(offset).any(-1)], STEADIEST)
    zero = _over(np.nanmedian, offset, (0, 1))
    steadiest = _over(partial(np.nanquantile, q=STEADIEST), ripple, (0, 1))
    network_ripple = np.maximum(OWN_SHARE * steadiest, LEAST)
    for _ in range(3):
        weight = np.isfinite(offset) / harder[..., None]
        total = weight.sum(0)
        bias = (np.nansum(offset * weight, 0) + USUAL * zero) / (total + USUAL)
        moved = np.minimum((offset - bias) ** 2, OFTEN**2) / harder[..., None]
        own_offset = _pooled(np.nansum(moved, 0) / np.maximum(count - 1, 1), np.maximum(count - 1, 0), USUAL)
        evened = np.nansum(ripple / harder[..., None], 0)
        own_ripple = _pooled(evened / np.maximum(count, 1), count, USUAL / PIECES)
        network_offset = np.maximum(_steadiest(own_offset, count) * easiest, LEAST)
        own_offset = np.maximum(own_offset - network_offset, 0.1 * network_offset)
        own_ripple = np.maximum(own_ripple - network_ripple, 0.1 * network_ripple)
        usual_offset, usual_ripple = np.median(own_offset, 0), np.median(own_ripple, 0)
        clear_offset = np.maximum(usual_offset / network_offset - 1, 0.1) ** 2 / PIECES
        clear_ripple = np.maximum(usual_ripple / network_ripple - 1, 0.1) ** 2
        relative = _relative([own_offset, own_ripple], [clear_offset, clear_ripple])[:, None]
        own_offset, own_ripple = usual_offset * relative, usual_ripple * relative
        trust = total * (own_offset + own_ripple) ** -GAUGE
        zero = (trust * bias).sum(0) / np.maximum(trust.sum(0), 1e-12)
    return Observers(
        bias - zero, own_offset, own_ripple, -zero, network_offset, network_ripple, presence, images
    )


@dataclass(frozen=True)
class Dependence:
    """How the logarithm of each rater's variance depends on what the network makes of an image."""

    centre: Float[np.ndarray, " F"]
    axes: Float[np.ndarray, "F K"]  # principal axes of the features, scaled to unit variance
    slopes: Float[np.ndarray, "R K"]  # 0: it does not
    gained: float  # the share of the variance that images explain of cases left out, in [0, 1)

    def of(self, features: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N R"]:
        """Beside the rater's usual."""
        found: np.ndarray = np.clip((features - self.centre) @ self.axes @ self.slopes.T, -3, 3)
        return found


def depend(features: Float[np.ndarray, "N F"], logs: Float[np.ndarray, "N R C"]) -> Dependence:
    """Ridge regression for each rater, as strong as cases left out bear; mostly that is not at all.

    The exact leave-one-out error of every strength is known without fitting again (Golub, Heath, Wahba,
    "Generalized cross-validation", Technometrics 21(2), 1979, eq. 1.4). No dependence is the rival, and is given
    up only for an error a tenth smaller.
    """
    centre = features.mean(0)
    _, sizes, right = np.linalg.svd(features - centre, full_matrices=False)
    kept = min(AXES, int((sizes > 1e-6 * max(sizes[0], 1e-12)).sum()))
    axes = (right[:kept].T / np.maximum(sizes[:kept], 1e-12)) * np.sqrt(len(features))
    x = (features - centre) @ axes
    known = np.isfinite(logs)
    per_structure = logs - _over(np.nanmean, logs, (0, 1))
    y = np.where(known, per_structure, 0).sum(-1) / np.maximum(known.sum(-1), 1)  # N R
    there = known.any(-1)
    best, slopes, alone = np.inf, np.zeros((logs.shape[1], kept)), 0.0
    for strength in STRENGTHS:
        error, found = 0.0, np.zeros_like(slopes)
        for r in range(logs.shape[1]):
            rows = np.flatnonzero(there[:, r])
            if len(rows) < 3:
                continue
            xr, yr = x[rows] - x[rows].mean(0), y[rows, r] - y[rows, r].mean()
            inverse = (
                np.linalg.inv(xr.T @ xr + strength * np.eye(kept))
                if np.isfinite(strength)
                else 0 * np.eye(kept)
            )
            hat = np.einsum("nk,kl,nl->n", xr, inverse, xr) + 1 / len(rows)
            found[r] = inverse @ xr.T @ yr
            error += float((((yr - xr @ found[r]) / (1 - hat)) ** 2).sum())
        if not np.isfinite(strength):
            best = alone = error
        elif error < min(best, 0.9 * alone):
            best, slopes = error, found
    return Dependence(centre, axes, slopes, max(0.0, 1 - best / alone) if alone > 0 else 0.0)


def _presence(
    marked: Float[np.ndarray, "N R C"], answered: Bool[np.ndarray, "N C"]
) -> Float[np.ndarray, "C 5"]:
    """What marks and empty masks say of whether a structure is there, the network standing for the truth."""
    sees = answered[:, None].repeat(marked.shape[1], 1)
    yes, no = marked == 1, marked == 0
    count = np.array([[(who & what).sum((0, 1)) for what in (sees, ~sees)] for who in (yes, no)]) + 1.0
    given_truth = count / count.sum(0)  # of raters: [marks, empty] given there, not there
    given_rater = count / count.sum(1, keepdims=True)  # of the network: [marks, empty] x [sees, does not]
    prior = np.log(count[0].sum(0) / count[1].sum(0))
    rater = np.log(given_truth[:, 0] / given_truth[:, 1])
    network = np.log(given_rater[0] / given_rater[1])
    return np.stack([prior, rater[0], rater[1], network[0], network[1]], -1)


def locate(seen: Seen, observers: Observers) -> tuple[Float[np.ndarray, "C H W"], Float[np.ndarray, " C"]]:
    """Where the hidden outlines lie: distances in pixels, and the standard deviation of their error.

    Offset and ripple are weighed apart: a rater may be sure of the shape and not of the size. A mask that lies
    further from the network than its rater's usual counts less.
    """
    distance = np.full(seen.network.shape, -np.inf, np.float32)
    error = np.ones(len(seen.radius))
    for c, (prior, marks, empty, sees, blind) in enumerate(observers.presence):
        raters = [r for r, structure in seen.drawn if structure == c]
        votes = marks * len(raters) + empty * (seen.marked[:, c] == 0).sum()
        if prior + votes + (sees if seen.answered[c] else blind) < 0 or not (raters or seen.answered[c]):
            continue  # the structure is not there
        if not seen.answered[c]:
            # nothing to hold the masks against: their precision-weighted mean
            trust = 1 / (observers.offset[raters, c] + observers.ripple[raters, c])
            places = [seen.drawn[r, c] - observers.bias[r, c] for r in raters]
            distance[c] = np.average(places, axis=0, weights=trust) * seen.radius[c]
            error[c] = np.sqrt(1 / trust.sum()) * seen.radius[c]
            continue
        network_offset, network_ripple = observers.network_offset[c], observers.network_ripple[c]
        move, sure_of_move = 0.0, 1 / network_offset
        shape, sure_of_shape = np.zeros_like(seen.network[c]), 1 / network_ripple
        for r in raters:
            own_offset, own_ripple = observers.offset[r, c], observers.ripple[r, c]
            if np.isfinite(seen.offset[r, c]):
                apart = seen.offset[r, c] - observers.bias[r, c] + observers.network_bias[c]
                found = apart**2 / (own_offset + network_offset)
                found += PIECES * seen.ripple[r, c] / (own_ripple + network_ripple)
                unusual = max((found + DOUBT) / (1 + PIECES + DOUBT), 0.5)
                own_offset, own_ripple = own_offset * unusual, own_ripple * unusual
                move += apart / own_offset
                sure_of_move += 1 / own_offset
                shape += (seen.drawn[r, c] - seen.network[c] - seen.offset[r, c]) / own_ripple
                sure_of_shape += 1 / own_ripple
        place = seen.network[c] - observers.network_bias[c] + move / sure_of_move + shape / sure_of_shape
        distance[c] = place * seen.radius[c]
        error[c] = np.sqrt(1 / sure_of_move + 1 / sure_of_shape) * seen.radius[c]
    return distance, error


def drawn_by(
    distance: Float[np.ndarray, "C H W"], radius: Float[np.ndarray, " C"], observers: Observers
) -> Float[np.ndarray, "R C H W"]:
    """The chance that each rater marks a pixel, from its distance (pixels) to the outline."""
    unit = radius[:, None, None]
    spread = np.sqrt(observers.offset + observers.ripple)[..., None, None]
    chance: np.ndarray = ndtr((distance / unit + observers.bias[..., None, None]) / spread)
    return chance


def _clipped(distance: Float[np.ndarray, "H W"], radius: float) -> Float[np.ndarray, "H W"]:
    return np.clip(distance / radius, -REACH, REACH).astype(np.float32)


def _over(
    mean: Callable[..., np.ndarray], values: Float[np.ndarray, "*shape"], axis: tuple[int, ...]
) -> Float[np.ndarray, " C"]:
    """NaN left out; 0 where nothing else is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: np.ndarray = np.nan_to_num(mean(values, axis=axis))
    return found


def _pooled(
    variance: Float[np.ndarray, "R C"], count: Integer[np.ndarray, "R C"], usual: float
) -> Float[np.ndarray, "R C"]:
    """Variances, each drawn towards the median rater's by so many images."""
    logs = np.log(np.maximum(variance, 1e-5))
    median = _over(np.nanmedian, np.where(count > 0, logs, np.nan), (0,))
    pooled: np.ndarray = np.exp((logs * count + usual * median) / (count + usual))
    return pooled


def _steadiest(
    variance: Float[np.ndarray, "R C"], count: Integer[np.ndarray, "R C"]
) -> Float[np.ndarray, " C"]:
    """The network's share of what the steadiest raters show beside it."""
    lowest = np.array(
        [
            np.quantile(v[n > 0] if (n > 0).any() else v, STEADIEST)
            for v, n in zip(variance.T, count.T, strict=True)
        ]
    )
    share: np.ndarray = OWN_SHARE * lowest
    return share


def _relative(
    variances: Sequence[Float[np.ndarray, "R C"]], clarity: Sequence[Float[np.ndarray, " C"]]
) -> Float[np.ndarray, " R"]:
    """Each rater's variance beside the median rater's, over all structures, weighed by how clearly they tell."""
    logs = sum(
        ((np.log(v / np.median(v, 0)) * w).sum(1) for v, w in zip(variances, clarity, strict=True)),
        np.zeros(len(variances[0])),
    )
    relative: np.ndarray = np.exp(logs / sum(w.sum() for w in clarity))
    return relative
