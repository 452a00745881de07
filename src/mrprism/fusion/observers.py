"""Raters as observers of one hidden outline: how far each draws outside it, and how steadily.

Where rater r draws, the signed distance to their outline is ``d_r = d + b_r + e_r``: the distance to the
hidden outline, a bias of their own (positive: too large), and an error whose spread is their own. Both are
found by going round: the hidden distance, given biases and spreads; then, given it, each rater's mean
displacement and scatter. Errors have heavy tails twice, at a pixel (a rater went astray there) and over a
whole mask (a bad day), so that neither a stray stroke nor a failed mask moves anything far.

What nothing in the masks can tell is a shift of all biases together. It is settled by where the raters, the
steady ones before the others, agree best (`common_bias`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from mrprism.core.patterns import ABSENT
from mrprism.fusion.drawing import Drawing
from mrprism.fusion.em import expectation_maximisation
from mrprism.fusion.pairs import profiles, share_of_first
from mrprism.fusion.robust import LEAST_LEFT, Bundle, locate, shrunk, tightest_bundle, weighted_median

SAMPLE = 256  # pixels of each image that are looked at
BAND = 0.3  # they lie within so many radii of the median outline
NEAR = 0.1  # and count by how near they lie to the hidden one, in radii
ROUNDS = {True: 15, False: 6}  # at most, of persons and of masks alone
SORTED = 4  # rounds that begin anew from a weighted median
SETTLED = 1e-2  # of the largest variance of a mask: nothing moves any more
TAIL = 4.0  # degrees of freedom of errors at a pixel, while raters are rated
FUSE_TAIL = 20.0  # the same when the masks of one image are fused
MASK_TAIL = {True: 5.0, False: 2.0}  # and of the errors of whole masks, of persons and of masks alone
STRETCHES = {True: 5.0, False: 10.0}  # as many independent errors are read from one outline
EXACT = 0.4  # pixels; nobody can be more exact on a grid
FEW = 1.0  # a rater's spread is estimated as if so many masks of usual spread had been seen as well
PIECES = np.array([[4.0, 1.0], [1.0, 4.0]])  # pieces seen before any, [there, marked]
DOUBT = 3.0  # how far a rater moves from image to image is estimated as if so many usual images had been seen, too
APART = 1.5  # times another's spread: clearly less steady
UNSEEN = 0.15  # spread in radii before anything is seen
JUDGES = 4  # masks of an image, at least, of which some can lie close together and not by chance
JUDGED = (8, 40)  # images, at least and at most, on which the model is held against one without persons
STEADINESS = {True: 2.0, False: 10.0}  # degrees of freedom of whole masks: good days and bad, or not


@dataclass(frozen=True)
class Observers:
    """How each rater draws one structure.

    Biases and spreads are in radii of a structure of usual size, ``size``. ``power`` says how they grow: as
    ``radius ** power``, so that 1 means a share of the radius and 0 the same length on every image.
    """

    bias: Float[np.ndarray, " R"]  # positive: draws outside
    spread: Float[np.ndarray, " R"]  # standard deviation of the error, whole mask and waves together
    size: float  # radius of a structure of usual size, in pixels or mm
    power: float
    presence: Float[np.ndarray, "R 2 2"]  # P(marked | there) of a piece, indices [there, marked]
    pieces: float  # share of the pieces that are there
    linked: Bool[np.ndarray, " R"]  # whether the rater ever met another one; else bias and spread are guesses
    erratic: bool = False  # who draws well changes from image to image: every mask shows it in its own image

    @property
    def told_apart(self) -> bool:
        """Whether some of the raters who were compared seem clearly steadier than others."""
        spread = self.spread[self.linked]
        return len(spread) > 1 and float(spread.max()) > APART * float(spread.min())

    def unit(self, radius: float) -> float:
        """Length of one radius as biases are told in it, in an image whose structure has this radius."""
        return float(radius**self.power * self.size ** (1 - self.power))

    def reach(self, radius: float) -> float:
        """How far outside of everything marked the hidden outline may lie, in pixels or mm."""
        return float(max(0.0, -self.bias.min())) * self.unit(radius)


def strangers(raters: int, size: float) -> Observers:
    """Raters of whom nothing is known."""
    presence = np.broadcast_to(PIECES / PIECES.sum(1, keepdims=True), (raters, 2, 2))
    unbiased, unsteady = np.zeros(raters), np.full(raters, UNSEEN)
    return Observers(unbiased, unsteady, size, 1.0, presence, 0.5, np.zeros(raters, bool))


class Sight(NamedTuple):
    """What is kept of one image's drawing: a few hundred pixels near its outlines, and its pieces."""

    drew: Int[np.ndarray, " K"]
    empty: Int[np.ndarray, " E"]
    distance: Float[np.ndarray, "K sample"]  # in pixels or mm
    seen: Bool[np.ndarray, "K sample"]  # whether the rater marked something of that piece
    marked: Bool[np.ndarray, "K P"]
    pixel: float
    radius: float
    profiles: Float[np.ndarray, "2 direction"] | None  # of two masks; else not needed


def sample(drawing: Drawing, most: int | None = SAMPLE) -> Sight:
    """Pixels of the box evenly chosen near where the median of the raters has its outline.

    Args:
        most: How many. None: all that anybody marked, so that it does not matter how the axes lie.
    """
    middle = np.abs(np.median(drawing.distance, axis=0))
    close = middle <= max(1.5 * drawing.pixel, BAND * drawing.radius)
    if most is None:
        close &= (drawing.distance > 0).any(axis=0)
    near = np.flatnonzero(close)
    if not len(near):
        near = middle.argsort(axis=None, kind="stable")[:1]
    at = near if most is None else near[np.linspace(0, len(near) - 1, most).round().astype(np.int64)]
    return Sight(
        drew=drawing.drew,
        empty=drawing.empty,
        distance=drawing.distance.reshape(len(drawing.drew), -1)[:, at],
        seen=drawing.has(np.unravel_index(at, drawing.distance.shape[1:])),
        marked=drawing.marked,
        pixel=drawing.pixel,
        radius=drawing.radius,
        profiles=profiles(drawing) if len(drawing.drew) == 2 else None,
    )


def observe(sights: Sequence[Sight], raters: int, *, persons: bool = True) -> Observers:
    """Estimate bias, spread and presence of every rater from all images together.

    Args:
        sights: Of one structure, one for each image in which anybody marked it.
        persons: The raters are the same from image to image. If not, nobody has a bias of their own, and
            all have one spread; how steady a mask is shows in its own image (`mask_variance`).
    """
    if not sights:
        return strangers(raters, 1.0)
    met = [sight for sight in sights if len(sight.drew) > 1]
    size = float(np.median([sight.radius for sight in sights]))
    found = strangers(raters, size)
    if met:
        powers = (1.0, 0.0) if persons else (1.0,)
        trials = [_go_round(_Sights(met, raters, size, power), persons) for power in powers]
        found = max(trials, key=lambda trial: trial[1])[0]
    if not persons:
        return found
    found = _held_against_bundles(met, found)
    presence, pieces = _presence(sights, raters)
    return replace(found, presence=presence, pieces=pieces)


def bundle(
    distance: Float[np.ndarray, "K n"],
    seen: Bool[np.ndarray, "K n"],
    pixel: float,
    radius: float,
    drew: Int[np.ndarray, " K"],
    raters: Observers,
    steadiness: float = STEADINESS[True],
) -> Bundle:
    """The masks of one image that lie close together once each rater's bias is off."""
    unit = raters.unit(radius)
    least = (EXACT * pixel / unit) ** 2
    return tightest_bundle(
        distance / unit - raters.bias[drew][:, None],
        seen,
        np.maximum(raters.spread[drew] ** 2, least),
        least=least,
        near=max(NEAR * radius, pixel) / unit,
        pixel_tail=FUSE_TAIL,
        mask_tail=steadiness,
        stretches=STRETCHES[False],
    )


def _held_against_bundles(sights: Sequence[Sight], found: Observers) -> Observers:
    """Biases have their zero where bundles of masks lie, or are given up where they explain nothing.

    Raters that lie close together in an image, whoever they are, know where the outline is. That is a zero that
    depends on nobody's steadiness over all images. And where who draws well changes from image to image, as
    likelihood says, persons have no style to be corrected, and each image is told by its own bundle.
    """
    least, most = JUDGED
    some = [sight for sight in sights if len(sight.drew) >= JUDGES]
    if len(some) < least:
        return found
    some = [some[n] for n in np.unique(np.linspace(0, len(some) - 1, most).round().astype(int))]
    plain = replace(found, bias=np.zeros_like(found.bias))

    def bundles(raters: Observers, steadiness: float) -> list[Bundle]:
        return [bundle(s.distance, s.seen, s.pixel, s.radius, s.drew, raters, steadiness) for s in some]

    nobody, steady = bundles(plain, STEADINESS[True]), bundles(found, STEADINESS[False])
    if sum(one.likely for one in nobody) > sum(one.likely for one in steady):
        return replace(plain, erratic=True)
    apart = []
    for sight, free, bound in zip(some, nobody, steady, strict=True):
        far = 1.2 * sight.pixel / found.unit(sight.radius)
        near = (np.abs(free.hidden) < far) | (np.abs(bound.hidden) < far)
        if near.any():
            apart.append(float(np.clip(free.hidden - bound.hidden, -1, 1)[near].mean()))
    return replace(found, bias=found.bias - _beyond_chance(np.array(apart or [0.0])))


def _beyond_chance(values: Float[np.ndarray, " N"]) -> float:
    """The median, less what chance alone may have made of it."""
    middle = float(np.median(values))
    error = 1.25 * 1.48 * float(np.median(np.abs(values - middle))) / np.sqrt(len(values))
    return shrunk(middle, error)


class _Sights:
    """All images side by side, each in units of its own."""

    def __init__(self, sights: Sequence[Sight], raters: int, size: float, power: float) -> None:
        most = max(len(sight.drew) for sight in sights)
        self.raters, self.size, self.power = raters, size, power
        self.who = np.zeros((len(sights), most), np.int64)
        self.there = np.zeros((len(sights), most), bool)
        self.distance = np.zeros((len(sights), most, sights[0].distance.shape[1]), np.float32)
        self.seen = np.zeros(self.distance.shape, bool)
        radius = np.array([sight.radius for sight in sights])
        self.unit = radius**power * size ** (1 - power)
        self.pixel = np.array([sight.pixel for sight in sights]) / self.unit
        self.least = (EXACT * self.pixel) ** 2
        self.near = np.maximum(NEAR * radius / self.unit, self.pixel)
        self.profiles = {n: s.profiles for n, s in enumerate(sights) if s.profiles is not None}
        for n, sight in enumerate(sights):
            count = len(sight.drew)
            self.who[n, :count], self.there[n, :count] = sight.drew, True
            self.distance[n, :count] = sight.distance / self.unit[n]
            self.seen[n, :count] = sight.seen

    def share(self, rater: int) -> float:
        """Of the variance of two raters who met nobody else, that of the first."""
        at = [n for n, who in enumerate(self.who) if n in self.profiles and who[0] == rater]
        if len(at) < JUDGED[0]:
            return 0.5
        both = np.stack([self.profiles[n] for n in at])
        return share_of_first(
            both, self.unit[at], relative=self.power == 1, least=float(np.median(self.least))
        )


def _go_round(sights: _Sights, persons: bool) -> tuple[Observers, float]:
    """Biases and spreads that stand still, about, and how likely the masks are with them."""
    raters, who, there = sights.raters, sights.who, sights.there
    everyone = np.bincount(who[there], minlength=raters)
    linked = everyone > 0
    groups = _who_met_whom(who, there, raters)
    shares = [(group, sights.share(int(group[0]))) for group in groups if len(group) == 2]
    bias, variance = np.zeros(raters), np.full(raters, UNSEEN**2)
    own = np.where(there, variance[who], 1.0)  # variance of each mask
    likely = -np.inf
    tail_of_masks, stretches = MASK_TAIL[persons], STRETCHES[persons]
    hidden: NDArray[np.floating] = np.zeros(0)
    for round in range(ROUNDS[persons]):
        before = own
        straight = sights.distance - bias[who][..., None]
        weight = there[..., None] * sights.seen / own[..., None]
        if round < SORTED:  # afterwards the middle only creeps
            hidden = weighted_median(straight, weight, axis=1)
        hidden, pull = locate(straight, weight, own[..., None], TAIL, hidden, axis=1)
        total = pull.sum(axis=1, keepdims=True)
        share = np.divide(pull, total, out=np.zeros_like(pull), where=total > 0)
        off = straight - hidden[:, None]
        near = np.exp(-0.5 * (hidden / sights.near[:, None]) ** 2) + 1e-6
        near = near[:, None] * sights.seen
        near = near / np.maximum(near.sum(axis=2, keepdims=True), 1e-12)
        left = np.maximum(1 - share, LEAST_LEFT)
        # against the others alone, for a rater's own mask has drawn the hidden outline their way
        displaced = (off / left * near).sum(axis=2) + bias[who]
        tail = (TAIL + 1) / (TAIL + off**2 / own[..., None])
        scatter = (tail * off**2 / left * near).sum(axis=2)
        steady = (tail_of_masks + stretches) / (tail_of_masks + stretches * scatter / variance[who])
        sums = np.bincount(who[there], (steady * scatter)[there], raters)
        usual = sums.sum() / max(everyone.sum(), 1)
        new = np.maximum((sums + FEW * usual) / (everyone + FEW), np.median(sights.least))
        variance = _of_pairs(new, shares) if persons else np.full(raters, max(usual, np.median(sights.least)))
        own = mask_variance(variance[who], scatter, sights.least[:, None], persons)
        own[~there] = 1.0
        settled = np.abs(own - before).max() <= SETTLED * own.max()
        if persons:
            each = [displaced[there & (who == r)] for r in range(raters)]
            bias = np.array([_middle(some) if len(some) else 0.0 for some in each])
            doubt = _doubt(each, bias, variance)
            for group in groups:
                spread = np.sqrt(variance[group])
                bias[group] -= common_bias(bias[group], spread, EXACT / 2 * float(np.median(sights.pixel)))
                bias[group] *= _believed(bias[group], doubt[group])
        likely = _likelihood(sights, scatter, own)
        if settled:
            break
    found = strangers(raters, sights.size)
    spread = np.sqrt(np.where(linked, variance, max(usual, UNSEEN**2)))
    return replace(found, bias=bias, spread=spread, power=sights.power, linked=linked), likely


def mask_variance(
    usual: NDArray[np.floating],
    scatter: NDArray[np.floating],
    least: NDArray[np.floating] | float,
    persons: bool,
) -> NDArray[np.floating]:
    """The variance of one mask: its rater's usual one, corrected by what this image shows."""
    tail, stretches = MASK_TAIL[persons], STRETCHES[persons]
    return np.asarray(np.maximum((tail * usual + stretches * scatter) / (tail + stretches), least))


def common_bias(bias: Float[np.ndarray, " R"], spread: Float[np.ndarray, " R"], least: float) -> float:
    """The bias that raters share: the middle of the place where most of them agree.

    A rater's bias is believed to lie near the common one, more so the steadier they are, but never within less
    than what sets raters apart anyhow. So neither a majority that is unsteady as well as biased nor one rater,
    however steady, decides alone.
    """
    weight = 1 / spread**2
    middle = weighted_median(bias, weight)
    apart = max(1.48 * float(weighted_median(np.abs(bias - middle), weight)), 0.02, least)
    variance = apart**2 + spread**2

    def disbelief(place: float) -> float:
        return float(np.log1p((bias - place) ** 2 / (2 * variance)).sum())

    places = [
        *np.linspace(bias.min(), bias.max(), 81).tolist(),
        float(middle),
        float(weight @ bias / weight.sum()),
    ]
    best: float = min(places, key=disbelief)
    for _ in range(20):
        pull = 1 / (2 * variance + (bias - best) ** 2)
        best = float(pull @ bias / pull.sum())
    return best


def _believed(bias: Float[np.ndarray, " R"], doubt: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R"]:
    """What share of each bias to believe, by how far raters differ and in how much doubt each one's bias is.

    Of a rater seen on three images little is known; somebody with hundreds is believed.
    """
    differ = max(float(np.mean(bias**2 - doubt)), 0.0)
    return np.asarray(differ / (differ + doubt)) if differ > 0 else np.zeros(len(bias))


def _doubt(
    displaced: Sequence[NDArray[np.floating]],
    bias: Float[np.ndarray, " R"],
    variance: Float[np.ndarray, " R"],
) -> Float[np.ndarray, " R"]:
    """Variance of the error of each rater's bias, by how much it changes from image to image.

    Where an image has few raters, most of that is not the rater's own but that of the others they are held against.
    """
    usual = [np.minimum((some - bias[r]) ** 2, 1.0) for r, some in enumerate(displaced)]
    count = np.array([len(some) for some in displaced])
    sums = np.array([some.sum() for some in usual])
    free = np.maximum(count - 1, 0)
    pooled = sums.sum() / max(free.sum(), 1)
    own = (sums + DOUBT * pooled) / (free + DOUBT)
    return np.asarray(np.maximum(own, variance) / np.maximum(count, 1))


def _middle(values: NDArray[np.floating]) -> float:
    """A robust mean: Student-t with the spread of the values themselves."""
    middle = float(np.median(values))
    scale = max(1.48 * float(np.median(np.abs(values - middle))), 1e-3)
    for _ in range(5):
        pull = 1 / (4 * scale**2 + (values - middle) ** 2)
        middle = float(pull @ values / pull.sum())
    return middle


def _who_met_whom(
    who: Int[np.ndarray, "N K"], there: Bool[np.ndarray, "N K"], raters: int
) -> list[NDArray[np.int64]]:
    """Groups of raters who are linked by images they share; only within a group can biases be compared."""
    from scipy.sparse.csgraph import connected_components

    meets = np.zeros((raters, raters), bool)
    for row, some in zip(who, there, strict=True):
        meets[np.ix_(row[some], row[some])] = True
    count, label = connected_components(meets, directed=False)
    groups = [np.flatnonzero((label == n) & meets.any(axis=1)) for n in range(count)]
    return [group for group in groups if len(group)]


def _of_pairs(
    variance: Float[np.ndarray, " R"], pairs: Sequence[tuple[NDArray[np.int64], float]]
) -> Float[np.ndarray, " R"]:
    """Of two raters who met nobody else only the sum of their variances shows beside each other."""
    for pair, share in pairs:
        variance[pair] = 2 * variance[pair].mean() * np.array([share, 1 - share])
    return variance


def _likelihood(sights: _Sights, scatter: NDArray[np.floating], own: NDArray[np.floating]) -> float:
    """Log-likelihood of the displacements in pixels or mm, up to a constant, to compare powers."""
    width = own * sights.unit[:, None] ** 2
    each = -0.5 * np.log(width) - 0.5 * scatter / own
    return float(each[sights.there].mean())


def _presence(sights: Sequence[Sight], raters: int) -> tuple[Float[np.ndarray, "R 2 2"], float]:
    """How often each rater marks a piece that is there, and one that is not; and how many are there."""
    votes = []
    for sight in sights:
        rows = np.full((sight.marked.shape[1], raters), ABSENT, np.int64)
        rows[:, sight.empty] = 0
        rows[:, sight.drew] = sight.marked.T
        votes.append(rows)
    patterns, counts = np.unique(np.concatenate(votes), axis=0, return_counts=True)
    found = expectation_maximisation(patterns, counts, 2, pseudo=PIECES, learn_prior=True, tolerance=1e-4)
    return found.confusion, float(np.clip(found.prior[0, 1], 0.01, 0.99))
