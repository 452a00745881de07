"""How well a set of predicted outlines spreads as the raters' outlines do.

`draws` are S predicted outlines of one structure (samples of a method that draws them, or one
outline for each rater a method imitates), `masks` those of the R raters who did the structure.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt64

from mrprism.metrics.bits import count, pack, shared
from mrprism.metrics.pieces import pieces

MOST_REPEATED = (
    600  # draws and raters, repeated to pair them: 600² numbers; of 97 draws and 100 raters there were 9700²
)


def generalised_energy_distance(
    draws: Bool[np.ndarray, "S *space"],
    masks: Bool[np.ndarray, "R *space"],
    *,
    sampled: bool = False,
    weights: Float[np.ndarray, " S"] | None = None,
) -> float:
    """Squared energy distance of two sets of outlines under 1 - IoU; 0 when they spread alike.

    Two empty masks have an IoU of 1. Lower is better.

    Args:
        sampled: The draws are some of the many there could be, and the distance of all of them is
            estimated, whatever their number: only pairs of different draws count (U-statistic), so a single
            case may come out a little below 0, and with one draw nothing is known (NaN). Otherwise the draws
            are all there are, and a mask with itself counts too (V-statistic, never negative).
        weights: The chance of each draw, which sum to 1, where they are not alike. Such draws are all there are.

    Source: Kohl et al., "A probabilistic U-Net for segmentation of ambiguous images",
    NeurIPS 2018, arXiv:1806.05034; the two statistics: Székely, Rizzo, "Energy statistics", Journal of
    Statistical Planning and Inference 143(8), 2013.
    """
    weight = np.full(len(draws), 1 / len(draws)) if weights is None else weights
    across = 1 - float((weight @ _iou_matrix(draws, masks)).mean())
    among_draws = 1 - float(weight @ _iou_matrix(draws, draws) @ weight)
    if sampled and weights is None:
        among_draws = among_draws * len(draws) / (len(draws) - 1) if len(draws) > 1 else np.nan
    return float(2 * across - among_draws - (1 - _iou_matrix(masks, masks).mean()))


def diversity_of_raters(masks: Bool[np.ndarray, "R *space"]) -> float:
    """Mean distance 1 - IoU between two raters' masks, a mask with itself too: what GED takes off for the raters.

    It says nothing of a method; without it no GED can be read. In [0, 1 - 1/R].
    """
    return float(1 - _iou_matrix(masks, masks).mean())


def hm_iou(
    draws: Bool[np.ndarray, "S *space"],
    masks: Bool[np.ndarray, "R *space"],
    *,
    weights: Float[np.ndarray, " S"] | None = None,
) -> float:
    """Mean IoU of draws and raters, each repeated to their least common multiple and paired one to one.

    Nobody stays unpaired, unlike in `dice_match`. In [0, 1], higher is better; it rises with the number of
    draws, which has to stand beside it.

    Args:
        weights: The chance of each draw, which sum to 1: then the pairing is the best transport of so much of each
            draw to raters who all weigh alike. With equal weights that is the same.

    Source: Kohl et al., "A hierarchical probabilistic U-Net for modeling multi-scale ambiguities", 2019,
    arXiv:1905.13077; repeated to the least common multiple as in Zbinden et al., "Stochastic segmentation with
    conditional categorical diffusion models", ICCV 2023, arXiv:2303.08888.
    """
    from scipy.optimize import linear_sum_assignment

    scores = _iou_matrix(draws, masks)
    if weights is not None:
        return _best_transport(scores, weights)
    common = math.lcm(*scores.shape)
    if (
        common > MOST_REPEATED
    ):  # the best transport of whole numbers is a pairing, so that the value is the same
        return _best_transport(scores, np.full(len(draws), 1 / len(draws)))
    repeated = scores.repeat(common // len(draws), axis=0).repeat(common // len(masks), axis=1)
    return float(repeated[linear_sum_assignment(repeated, maximize=True)].mean())


def _best_transport(scores: Float[np.ndarray, "S R"], weights: Float[np.ndarray, " S"]) -> float:
    """The largest sum of plan x score, where the rows of the plan sum to `weights`, its columns alike."""
    from scipy import sparse
    from scipy.optimize import linprog

    count, raters = scores.shape
    rows = sparse.kron(sparse.eye_array(count), np.ones((1, raters)))
    columns = sparse.kron(np.ones((1, count)), sparse.eye_array(raters))
    found = linprog(
        -scores.ravel(),
        A_eq=sparse.vstack([rows, columns]),
        b_eq=np.concatenate([weights / weights.sum(), np.full(raters, 1 / raters)]),
        method="highs",
    )
    return float(-found.fun)


def coverage(draws: Bool[np.ndarray, "S *space"], masks: Bool[np.ndarray, "R *space"]) -> float:
    """The share of the pixels on which raters disagree that draws disagree on as well; in [0, 1].

    1 where raters never disagree. It rises with the number of draws, and noise all over the image has 1: never to
    be read without GED.
    """
    rated, drawn = (_disputed(pack(each, each.ndim - 1)) for each in (masks, draws))
    disputed = int(count(rated))
    return int(count(rated & drawn)) / disputed if disputed else 1.0


def _disputed(words: UInt64[np.ndarray, "R word"]) -> UInt64[np.ndarray, " word"]:
    """Where some masks are set and others not."""
    return np.asarray(np.bitwise_or.reduce(words) & ~np.bitwise_and.reduce(words))


def dice_max(draws: Bool[np.ndarray, "S *space"], masks: Bool[np.ndarray, "R *space"]) -> float:
    """Mean of the best Dice each rater finds among the draws and each draw among the raters.

    Source: Wu et al., "Diversified and personalized multi-rater medical image segmentation",
    CVPR 2024, arXiv:2403.13417.
    """
    scores = _dice_matrix(masks, draws)
    return float((scores.max(axis=0).mean() + scores.max(axis=1).mean()) / 2)


def dice_match(draws: Bool[np.ndarray, "S *space"], masks: Bool[np.ndarray, "R *space"]) -> float:
    """Mean Dice of raters and draws paired one to one as favourably as possible (Hungarian).

    With unequal numbers the surplus stays unpaired. Source: as `dice_max`.
    """
    from scipy.optimize import linear_sum_assignment

    scores = _dice_matrix(masks, draws)
    return float(scores[linear_sum_assignment(scores, maximize=True)].mean())


def variance_correlation(
    draws: Float[np.ndarray, "S *space"], masks: Bool[np.ndarray, "R *space"], *, epsilon: float = 1e-8
) -> float:
    """Whether the draws vary at the pixels where they miss the raters: correlation in [-1, 1].

    Two maps are correlated over the pixels: the cross-entropy of the draws with their own mean,
    and the cross-entropy of the draws with one rater's mask; the mean over raters is returned.
    NaN when either map is constant, as it is when all draws are alike and sure.

    Args:
        draws: Probabilities in [0, 1].

    Source: Baumgartner et al., "PHiSeg: capturing uncertainty in medical image segmentation",
    MICCAI 2019, arXiv:1906.04045.
    """
    flat, drawn = draws.reshape(len(draws), -1), masks.reshape(len(masks), -1)
    pixels, parts = flat.shape[1], list(pieces(flat.shape[1]))

    @lru_cache(maxsize=1)  # an image is one part, and is not gone through twice
    def maps(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of the draws with their mean; with an empty mask, and how much more with a full one; the masks."""
        p = flat[:, parts[number]].astype(np.float64)
        inside = -np.log(p + epsilon).mean(axis=0)
        outside = -np.log(1 - p + epsilon).mean(axis=0)
        mean = p.mean(axis=0)
        more = inside - outside
        return outside + mean * more, outside, more, drawn[:, parts[number]].astype(np.float64)

    sums = np.zeros(2)
    for number in range(len(parts)):
        spread, outside, *_ = maps(number)
        sums += spread.sum(), outside.sum()
    centre, level = (
        sums / pixels
    )  # close to the means of the maps, so that little is lost when squares are summed
    own, with_empty, with_more = 0.0, np.zeros(3), np.zeros((len(drawn), 3))
    for number in range(len(parts)):
        spread, outside, more, marked = maps(number)
        a, b = spread - centre, outside - level
        own += float(a @ a)
        with_empty += b.sum(), a @ b, b @ b
        with_more += marked @ np.stack([more, a * more, (2 * b + more) * more], axis=1)
    miss, together, squares = (with_empty + with_more).T
    size = np.sqrt(own * np.maximum(squares - miss**2 / pixels, 0))
    correlation = np.divide(together, size, out=np.full(len(drawn), np.nan), where=size > 0)
    return float(np.mean(correlation))


def volume_crps(
    volumes: Float[np.ndarray, " S"],
    rated: Float[np.ndarray, " R"],
    *,
    sampled: bool = False,
    weights: Float[np.ndarray, " S"] | None = None,
) -> float:
    """Continuous ranked probability score of predicted volumes against the raters' volumes.

    The area between the two empirical distributions, their difference squared; in the unit of
    the volumes, 0 when they spread alike. With one rater it is the usual CRPS of an ensemble,
    with one draw and one rater the absolute difference.

    Args:
        sampled: The volumes are some of the many there could be, and the score of all of them is
            estimated, whatever their number; with one nothing is known (NaN).
        weights: The chance of each draw, as in `generalised_energy_distance`.

    Source: Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation",
    Journal of the American Statistical Association 102(477), 2007; of samples: Ferro, "Fair scores for
    ensemble forecasts", Quarterly Journal of the Royal Meteorological Society 140(683), 2014.
    """
    steps = np.sort(np.concatenate([volumes, rated]).astype(np.float64))
    if weights is None:
        predicted = np.searchsorted(np.sort(volumes), steps, side="right") / len(volumes)
    else:
        order = np.argsort(volumes)
        reached = np.concatenate([[0.0], np.cumsum(weights[order])])
        predicted = reached[np.searchsorted(volumes[order], steps, side="right")]
    drawn = np.searchsorted(np.sort(rated), steps, side="right") / len(rated)
    apart = (predicted - drawn)[:-1] ** 2
    if sampled and weights is None:
        if len(volumes) < 2:
            return float("nan")
        apart = apart - (predicted * (1 - predicted))[:-1] / (len(volumes) - 1)
    return float(np.sum(apart * np.diff(steps)))


def _shared(
    first: Bool[np.ndarray, "A *space"], second: Bool[np.ndarray, "Z *space"]
) -> Float[np.ndarray, "A Z"]:
    return shared(pack(first, first.ndim - 1), pack(second, second.ndim - 1)).astype(np.float64)


def _sizes(
    first: Bool[np.ndarray, "A *space"], second: Bool[np.ndarray, "Z *space"]
) -> Float[np.ndarray, "A Z"]:
    sizes = [[float(np.count_nonzero(mask)) for mask in masks] for masks in (first, second)]
    return np.asarray(np.add.outer(*sizes))


def _iou_matrix(
    first: Bool[np.ndarray, "A *space"], second: Bool[np.ndarray, "Z *space"]
) -> Float[np.ndarray, "A Z"]:
    shared = _shared(first, second)
    union = _sizes(first, second) - shared
    return np.where(union == 0, 1.0, shared / np.maximum(union, 1))


def _dice_matrix(
    first: Bool[np.ndarray, "A *space"], second: Bool[np.ndarray, "Z *space"]
) -> Float[np.ndarray, "A Z"]:
    sizes = _sizes(first, second)
    return np.where(sizes == 0, 1.0, 2 * _shared(first, second) / np.maximum(sizes, 1))
