"""Agreement corrected for chance, from a table of vote patterns: Fleiss, Cohen, Gwet, Krippendorff.

Every statistic is a ratio of sums over pixels. The sums of one case are a `Tally`; tallies add up,
so a data set, or one bootstrap resample of it, is a weighted sum of its cases' tallies and no
pixel is visited twice.

0/0 (nobody drew anything, or everybody drew everything, so that chance explains all) is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from mrprism.agreement.ratio import ratio
from mrprism.core.patterns import PatternTable


class Tally(NamedTuple):
    """Sums over the pixels of a table; leading axes stand for cases or resamples, K for labels."""

    rated: np.ndarray  # (...) pixels with at least one rater
    paired: np.ndarray  # (...) pixels with at least two
    agreeing: np.ndarray  # (...) share of the rater pairs that agree, summed over paired pixels
    shares: np.ndarray  # (..., K) share of a pixel's raters who say K, summed over rated pixels
    pairable: np.ndarray  # (..., K) times K was said on paired pixels
    coinciding: np.ndarray  # (..., K) Krippendorff's coincidences of K with itself

    def weighted(self, weights: Float[np.ndarray, "resample case"]) -> Tally:
        """The tallies of resamples: weighted sums over the cases."""
        return Tally(*(np.tensordot(weights, field, 1) for field in self))


def tally(table: PatternTable) -> Tally:
    """Sum what the statistics of this file need over the patterns of a table."""
    counts = table.counts.astype(float)  # exact below 2^53 pixels
    said = table.votes().astype(float)  # (P, K)
    raters = said.sum(axis=1)
    paired = raters >= 2
    same = said * (said - 1)
    others = np.where(paired, raters - 1, 1)
    return Tally(
        rated=counts[raters >= 1].sum(),
        paired=counts[paired].sum(),
        agreeing=(counts * paired * same.sum(axis=1) / (np.maximum(raters, 1) * others)).sum(),
        shares=counts @ (said / np.maximum(raters, 1)[:, None]),
        pairable=(counts * paired) @ said,
        coinciding=(counts * paired / others) @ same,
    )


def stack(tallies: Sequence[Tally]) -> Tally:
    """Tallies of several cases with a case axis in front."""
    return Tally(*(np.stack(fields) for fields in zip(*tallies, strict=True)))


def fleiss_of(sums: Tally) -> np.ndarray:
    """Fleiss' kappa of tallies, see `fleiss_kappa`."""
    observed = ratio(sums.agreeing, sums.paired)
    chance = (ratio(sums.shares, sums.rated[..., None]) ** 2).sum(axis=-1)
    return ratio(observed - chance, 1 - chance)


def gwet_of(sums: Tally) -> np.ndarray:
    """Gwet's AC1 of tallies, see `gwet_ac1`."""
    observed = ratio(sums.agreeing, sums.paired)
    share = ratio(sums.shares, sums.rated[..., None])
    chance = (share * (1 - share)).sum(axis=-1) / max(share.shape[-1] - 1, 1)
    return ratio(observed - chance, 1 - chance)


def krippendorff_of(sums: Tally) -> np.ndarray:
    """Krippendorff's alpha of tallies, see `krippendorff_alpha`."""
    said = sums.pairable.sum(axis=-1)
    disagreeing = said - sums.coinciding.sum(axis=-1)
    # Σ over pairs of different labels; n² − Σ n_c² would lose digits where one label is rare
    expected = (sums.pairable * (said[..., None] - sums.pairable)).sum(axis=-1)
    return np.where(expected > 0, 1 - (said - 1) * ratio(disagreeing, expected), np.nan)


def fleiss_kappa(table: PatternTable) -> float:
    """Fleiss' kappa of all raters, also where some are missing on some pixels.

    A pixel with fewer than two raters says nothing about agreement and is left out of it; the
    frequency of a label is the mean over pixels of the share of that pixel's raters who gave it.

    Source: Fleiss, "Measuring nominal scale agreement among many raters", Psychological Bulletin
    76(5), 1971; missing ratings as in Gwet, "Handbook of Inter-Rater Reliability", 2014.
    """
    return float(fleiss_of(tally(table)))


def gwet_ac1(table: PatternTable) -> float:
    """Gwet's AC1, which stays meaningful when nearly all pixels carry the same label.

    A rater could choose from `table.labels`, so a mask has two labels even where one never occurs.

    Source: Gwet, "Computing inter-rater reliability and its variance in the presence of high
    agreement", British J. Math. Stat. Psychology 61, 2008.
    """
    return float(gwet_of(tally(table)))


def krippendorff_alpha(table: PatternTable) -> float:
    """Krippendorff's alpha for nominal labels, with missing raters.

    Source: Krippendorff, "Content Analysis", 4th ed., 2019, chapter 12.
    """
    return float(krippendorff_of(tally(table)))


def kappa_interval(
    table: PatternTable, kind: Literal["fleiss", "gwet", "krippendorff"]
) -> tuple[float, float, float]:
    """Standard error and 95 % interval of a kappa, AC1 or alpha, each pixel a subject.

    For ratings of subjects that are independent of each other, such as one label a case; pixels of a mask are
    not, and `agree` takes patients for subjects. How far each subject moves the statistic says its standard
    error; the interval is Student's, cut at -1 and 1. NaN where the statistic is undefined.

    Source: Gwet, "Computing inter-rater reliability and its variance in the presence of high agreement",
    British J. Math. Stat. Psychology 61, 2008; alpha: Gwet, "On Krippendorff's alpha coefficient", 2011.
    """
    said = table.votes().astype(float)  # (P, K)
    raters = said.sum(axis=1)
    kept = raters >= (2 if kind == "krippendorff" else 1)
    said, raters, counts = said[kept], raters[kept], table.counts[kept].astype(float)
    n, two = counts.sum(), raters >= 2
    if n < 2 or not two.any():
        return np.nan, np.nan, np.nan
    same = (said * (said - 1)).sum(axis=1)
    usual = counts @ raters / n if kind == "krippendorff" else raters  # alpha: pixels weigh as many as rated
    share = counts @ (said / (usual if np.ndim(usual) == 0 else raters[:, None])) / n
    agreed = same / (usual * np.maximum(raters - 1, 1))
    least = max(said.shape[1] - 1, 1)
    chance_of = said @ (1 - share) / usual / least if kind == "gwet" else said @ share / usual
    chance = float((share * (1 - share)).sum() / least if kind == "gwet" else (share**2).sum())
    if kind == "krippendorff":
        heavier = raters / usual - 1
        once = 1 / (counts @ raters)  # alpha counts a rating as agreeing with itself once
        mean = (1 - once) * (counts @ agreed / n) + once
        agreed, chance_of = agreed - mean * heavier, chance_of - chance * heavier
    if chance == 1:
        return np.nan, np.nan, np.nan
    own = n / counts[two].sum() * np.where(two, agreed - chance, 0.0) / (1 - chance)
    kappa = float(counts @ own / n)
    moves = own - kappa - 2 * (1 - kappa) * (chance_of - chance) / (1 - chance)
    error = float(np.sqrt(counts @ moves**2 / (n * (n - 1))))
    from scipy.special import stdtrit

    value = float({"fleiss": fleiss_of, "gwet": gwet_of, "krippendorff": krippendorff_of}[kind](tally(table)))
    half = float(stdtrit(n - 1, 0.975)) * error
    return error, max(value - half, -1.0), min(value + half, 1.0)


def cohen_kappa(confusion: Integer[np.ndarray, "*batch K K"] | Float[np.ndarray, "*batch K K"]) -> np.ndarray:
    """Cohen's kappa of two raters, from how many pixels got label i from one and j from the other.

    Source: Cohen, "A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20, 1960.
    """
    table = np.asarray(confusion, float)
    total = table.sum(axis=(-2, -1))
    observed = ratio(np.trace(table, axis1=-2, axis2=-1), total)
    marginal = table.sum(axis=-1) * table.sum(axis=-2)
    chance = ratio(marginal.sum(axis=-1), total * total)
    return ratio(observed - chance, 1 - chance)
