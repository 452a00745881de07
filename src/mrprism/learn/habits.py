"""How each rater draws beside a network, and where the outline then lies.

An observer's outline lies where the hidden one does, moved by a bias of their own, by an offset that changes
from image to image, and by a ripple that changes along the outline.

With one mask an image no rater can be compared with another. Each can be compared with the network, which has
seen images of all raters: whoever is steady beside it is steady, and what the steadiest still show is the
network's own unsteadiness. Two masks of one image say that better: what they show alike is the network's.
docs/concepts/mrprism.md says what was measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import ndtr

from mrprism.learn.outlines import FARTHEST, OFTEN, Seen

USUAL = 1.0  # images of a usual rater that stand beside what a rater's own images show
OWN_SHARE = 0.5  # of what the steadiest raters show beside the network; the rest is theirs
TOLD = 20.0  # images with pairs that say as much of the network as the steadiest raters do
MOST_OPTIMISM = 10.0
STEADIEST = 0.1  # the share of raters who are the steadiest
GAUGE = 1.5  # power of the precision with which raters say where zero lies
PIECES = 4.0  # of an outline that ripples by themselves
DOUBT = 4.0  # pieces of a usual image that stand beside what one mask shows
AXES = 8  # of what the network makes of images, at most
STRENGTHS = (np.inf, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)  # of ridge regression; the first is no dependence
LEAST = 1e-4  # a variance no outline on a grid of pixels falls below


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


def optimism(
    seen: Sequence[Seen], held: Bool[np.ndarray, " N"], *, persons: bool = True
) -> Float[np.ndarray, "2 C"]:
    """How much larger the network's variances, offset and ripple, are on images that it has not learned from.

    At least 1: a network that follows the masks it was shown must not be thought to know better for it.
    """
    inside, outside = (estimate(seen, persons=persons, told_by=some) for some in (~held, held))
    there = np.stack([outside.network_offset, outside.network_ripple])
    here = np.stack([inside.network_offset, inside.network_ripple])
    larger: np.ndarray = np.clip(there / here, 1, MOST_OPTIMISM)
    return larger


def estimate(
    seen: Sequence[Seen],
    features: Float[np.ndarray, "N F"] | None = None,
    *,
    persons: bool = True,
    told_by: Bool[np.ndarray, " N"] | None = None,
    hidden: Float[np.ndarray, "2 C"] | float = 1.0,
) -> Observers:
    """How each rater draws, and the network, from all training images.

    Args:
        features: What the network makes of each image, for raters whose skill depends on it.
        persons: False: raters are slots, so nobody has a bias and all are alike.
        told_by: The images whose pairs of masks tell the network's variances; None: all.
        hidden: The network's variances are larger by this (`optimism`).
    """
    offset, ripple = np.stack([one.offset for one in seen]), np.stack([one.ripple for one in seen])
    marked, answered = np.stack([one.marked for one in seen]), np.stack([one.answered for one in seen])
    presence = _presence(marked, answered)
    raters = offset.shape[1]
    if not np.isfinite(offset).any():
        return replace(Observers.unknown(raters, len(presence)), presence=presence)
    pairs, hidden = Pairs.of(seen, told_by), np.broadcast_to(hidden, (2, len(presence)))
    if persons:
        images = None if features is None else depend(features, np.log(np.maximum(ripple, LEAST)))
        return _estimate(offset, ripple, presence, pairs, hidden, images, features)
    alike = (-1, 1, len(presence))
    pooled = _estimate(offset.reshape(alike), ripple.reshape(alike), presence, pairs, hidden)
    return replace(
        pooled,
        bias=np.repeat(pooled.bias, raters, 0),
        offset=np.repeat(pooled.offset, raters, 0),
        ripple=np.repeat(pooled.ripple, raters, 0),
    )


class Pairs(NamedTuple):
    """All pairs of all images. A mask is called by its place among all masks, image by image and rater by rater."""

    structure: Integer[np.ndarray, " P"]
    one: Integer[np.ndarray, " P"]
    other: Integer[np.ndarray, " P"]
    shape: Float[np.ndarray, " P"]
    images: Integer[np.ndarray, " C"]  # that have pairs

    @classmethod
    def of(cls, seen: Sequence[Seen], some: Bool[np.ndarray, " N"] | None = None) -> Pairs:
        """Of some images, or of all."""
        raters, structures = seen[0].offset.shape
        images, rows = np.zeros(structures, int), []
        for n in range(len(seen)) if some is None else np.flatnonzero(some).tolist():
            pairs = seen[n].pairs
            images[sorted({pair.structure for pair in pairs})] += 1
            rows += [(p.structure, n * raters + p.one, n * raters + p.other, p.shape) for p in pairs]
        table = np.array(rows, float).reshape(-1, 4)
        structure, one, other = table[:, :3].T.astype(int)
        return cls(structure, one, other, table[:, 3], images)

    def shared(
        self,
        products: Float[np.ndarray, " P"],
        variance: Float[np.ndarray, "N R C"],
        before: Float[np.ndarray, " C"],
    ) -> Float[np.ndarray, " C"]:
        """The network's variance: the mean product of what two masks of an image show, the steady counting more.

        Errors of two raters do not depend on each other, and the network's is in both. Where few images have pairs
        it is drawn towards what was thought before.

        Args:
            variance: Of each mask beside the network.
            before: The network's variance as the steadiest raters bound it.
        """
        each = variance.reshape(-1, len(before))
        weight = 1 / (each[self.one, self.structure] * each[self.other, self.structure])
        found = np.array(before)
        for c, images in enumerate(self.images):
            of = self.structure == c
            if of.any():
                mean = float(np.average(products[of], weights=weight[of]))
                mean = max(mean, 0.25 * before[c], LEAST)
                found[c] = np.exp((images * np.log(mean) + TOLD * np.log(before[c])) / (images + TOLD))
        return found


def _estimate(
    offset: Float[np.ndarray, "N R C"],
    ripple: Float[np.ndarray, "N R C"],
    presence: Float[np.ndarray, "C 5"],
    pairs: Pairs,
    hidden: Float[np.ndarray, "2 C"],
    images: Dependence | None = None,
    features: Float[np.ndarray, "N F"] | None = None,
) -> Observers:
    """Bias and variances.

    Variances are pooled as logarithms, with USUAL images of the median rater beside each rater's own. A rater is
    as steady in one structure as in another, relative to the other raters; where the network's noise hides who
    is steady, the other structure says it. Biases are known but for one number, the network's own: the zero
    that the steady raters have on average. How much of what a mask shows is the network's, pairs of masks of one
    image say; where there are none, at most a share of what the steadiest raters show.
    """
    count = np.isfinite(offset).sum(0)
    harder = np.ones(offset.shape[:2])
    if images is not None and features is not None:
        harder = np.exp(images.of(features))
    easiest = np.quantile(harder[np.isfinite(offset).any(-1)], STEADIEST)
    zero = _over(np.nanmedian, offset, (0, 1))
    steadiest = _over(partial(np.nanquantile, q=STEADIEST), ripple, (0, 1))
    bounded_ripple = np.maximum(OWN_SHARE * steadiest, LEAST)
    for _ in range(3):
        weight = np.isfinite(offset) / harder[..., None]
        total = weight.sum(0)
        bias = (np.nansum(offset * weight, 0) + USUAL * zero) / (total + USUAL)
        moved = np.minimum((offset - bias) ** 2, OFTEN**2) / harder[..., None]
        own_offset = _pooled(np.nansum(moved, 0) / np.maximum(count - 1, 1), np.maximum(count - 1, 0), USUAL)
        evened = np.nansum(ripple / harder[..., None], 0)
        own_ripple = _pooled(evened / np.maximum(count, 1), count, USUAL / PIECES)
        network_offset = np.maximum(_steadiest(own_offset, count) * easiest, LEAST)
        apart = np.clip(offset - bias, -FARTHEST[0], FARTHEST[0]).reshape(-1, len(presence))
        products = apart[pairs.one, pairs.structure] * apart[pairs.other, pairs.structure]
        network_offset = hidden[0] * pairs.shared(products, own_offset * harder[..., None], network_offset)
        network_ripple = hidden[1] * pairs.shared(pairs.shape, own_ripple * harder[..., None], bounded_ripple)
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
    """What marks and empty masks say of whether a structure is there.

    For the truth stands that most of several masks mark it, or that the network sees it: a network that has not
    yet learned a structure says nothing against masks.
    """
    yes, no = marked == 1, marked == 0
    there = answered | ((yes.sum(1) > no.sum(1)) & (yes.sum(1) > 1))

    def counted(of: Bool[np.ndarray, "N C"]) -> Float[np.ndarray, "2 2 C"]:
        """Marks and empty masks, where it holds and where not."""
        each = of[:, None].repeat(marked.shape[1], 1)
        return np.array([[(who & what).sum((0, 1)) for what in (each, ~each)] for who in (yes, no)]) + 1.0

    given_truth = counted(there)
    given_truth /= given_truth.sum(0)  # of raters: [marks, empty] given there, not there
    given_rater = counted(answered)
    given_rater /= given_rater.sum(1, keepdims=True)  # of the network: [marks, empty] x [sees, does not]
    prior = np.log((there.sum(0) + 1.0) / ((~there).sum(0) + 1.0))
    rater = np.log(given_truth[:, 0] / given_truth[:, 1])
    network = np.log(given_rater[0] / given_rater[1])
    return np.stack([prior, rater[0], rater[1], network[0], network[1]], -1)


def locate(
    seen: Seen, observers: Observers, *, network: bool = True
) -> tuple[Float[np.ndarray, "C H W"], Float[np.ndarray, " C"]]:
    """Where the hidden outlines lie: distances in pixels, and the standard deviation of their error.

    Offset and ripple are weighed apart: a rater may be sure of the shape and not of the size. A mask that lies
    further from the network than its rater's usual counts less.

    Args:
        network: Whether the network is one of the observers. If not, it still tells how the raters draw. The error
            is then infinite where a structure is there and nobody drew it.
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
        move, sure_of_move = 0.0, 1 / observers.network_offset[c] if network else 0.0
        shape, sure_of_shape = (
            np.zeros_like(seen.network[c]),
            1 / observers.network_ripple[c] if network else 0.0,
        )
        for r, apart, own_offset, own_ripple in _beside(seen, observers, c):
            move += apart / own_offset
            sure_of_move += 1 / own_offset
            shape += (seen.drawn[r, c] - seen.network[c] - seen.offset[r, c]) / own_ripple
            sure_of_shape += 1 / own_ripple
        if not sure_of_move:
            error[c] = np.inf
            continue
        place = seen.network[c] - observers.network_bias[c] + move / sure_of_move + shape / sure_of_shape
        distance[c] = place * seen.radius[c]
        error[c] = np.sqrt(1 / sure_of_move + 1 / sure_of_shape) * seen.radius[c]
    return distance, error


def _beside(seen: Seen, observers: Observers, c: int) -> Iterator[tuple[int, float, float, float]]:
    """Each rater who drew a structure: how far outside, bias off, and the variances of offset and ripple on this image."""
    for r in np.flatnonzero(np.isfinite(seen.offset[:, c])).tolist():
        own_offset, own_ripple = observers.offset[r, c], observers.ripple[r, c]
        apart = seen.offset[r, c] - observers.bias[r, c] + observers.network_bias[c]
        found = apart**2 / (own_offset + observers.network_offset[c])
        found += PIECES * seen.ripple[r, c] / (own_ripple + observers.network_ripple[c])
        unusual = max((found + DOUBT) / (1 + PIECES + DOUBT), 0.5)
        yield r, apart, own_offset * unusual, own_ripple * unusual


def worth(seen: Seen, observers: Observers) -> Float[np.ndarray, " C"]:
    """How much the network should learn from what the masks of an image say: one over the variance it will find.

    That is their error and its own. Without a mask to learn an outline from: NaN.
    """
    found = np.full(len(seen.radius), np.nan)
    for c, own in enumerate(observers.network_offset + observers.network_ripple):
        each = [(1 / offset, 1 / ripple) for _, _, offset, ripple in _beside(seen, observers, c)]
        if each:
            found[c] = 1 / (own + (1 / np.sum(each, axis=0)).sum())
    return found


def drawn_by(
    distance: Float[np.ndarray, "C H W"], radius: Float[np.ndarray, " C"], observers: Observers
) -> Float[np.ndarray, "R C H W"]:
    """The chance that each rater marks a pixel, from its distance (pixels) to the outline."""
    unit = radius[:, None, None]
    spread = np.sqrt(observers.offset + observers.ripple)[..., None, None]
    chance: np.ndarray = ndtr((distance / unit + observers.bias[..., None, None]) / spread)
    return chance


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
