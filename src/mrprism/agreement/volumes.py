"""Do raters measure the same size? Intraclass correlation and Bland–Altman limits."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mrprism.agreement.ratio import ratio

ICC_KINDS = ("ICC1", "ICC2", "ICC3", "ICC1k", "ICC2k", "ICC3k")


def icc(sizes: Float[np.ndarray, "case R"]) -> dict[str, float]:
    """The six intraclass correlations of Shrout and Fleiss, under pingouin's names.

    `ICC1` needs no rater to be the same person from case to case; `ICC2` treats the raters as drawn
    from many; `ICC3` asks about these raters only, and their constant offsets do not lower it. With
    `k`: of the raters' mean. NaN where there are fewer than two cases or raters, or nothing varies.

    Source: Shrout, Fleiss, "Intraclass correlations: uses in assessing rater reliability",
    Psychological Bulletin 86(2), 1979.
    """
    values = icc_of(sizes, np.ones((1, len(sizes))))[0]
    return dict(zip(ICC_KINDS, values.tolist(), strict=True))


def icc_of(
    sizes: Float[np.ndarray, "case R"], weights: Float[np.ndarray, "resample case"]
) -> Float[np.ndarray, "resample 6"]:
    """`ICC_KINDS` of each resample; a case without every rater's size is left out (see `complete`)."""
    full = complete(sizes)
    sizes, weights = sizes[full], weights[:, full]
    k = sizes.shape[1]
    if not len(sizes) or k < 2:
        return np.full((len(weights), len(ICC_KINDS)), np.nan)
    cases, msb, msw, msr, mse = _mean_squares(sizes, weights)
    kinds = [
        ratio(msb - msw, msb + (k - 1) * msw),
        ratio(msb - mse, msb + (k - 1) * mse + k * (msr - mse) / cases),
        ratio(msb - mse, msb + (k - 1) * mse),
        ratio(msb - msw, msb),
        ratio(msb - mse, msb + (msr - mse) / cases),
        ratio(msb - mse, msb),
    ]
    return np.stack(kinds, axis=1)


def _mean_squares(
    sizes: Float[np.ndarray, "case R"], weights: Float[np.ndarray, "resample case"]
) -> tuple[np.ndarray, ...]:
    """Cases, and the mean squares between cases, within them, between raters, and of the rest."""
    cases, k = weights.sum(axis=1), sizes.shape[1]
    sizes = sizes - sizes.mean()  # the sums below cancel badly far from zero
    of_case, of_rater = sizes.mean(axis=1), ratio(weights @ sizes, cases[:, None])
    grand = of_rater.mean(axis=1)
    between = k * (weights @ of_case**2 - cases * grand**2)
    raters = cases * ((of_rater - grand[:, None]) ** 2).sum(axis=1)
    within = weights @ ((sizes - of_case[:, None]) ** 2).sum(axis=1)
    nothing = 1e-12 * (weights @ (sizes**2).sum(axis=1))  # what is left of sums that cancel is no variation
    between = np.where(between > nothing, between, 0.0)
    rest = np.where(within - raters > nothing, within - raters, 0.0)
    cases = np.where(cases > 1, cases, np.nan)
    return (
        cases,
        between / (cases - 1),
        within / (cases * (k - 1)),
        raters / (k - 1),
        rest / ((cases - 1) * (k - 1)),
    )


def icc_intervals(sizes: Float[np.ndarray, "case R"]) -> dict[str, tuple[float, float]]:
    """The classical 95 % interval of each of `icc`, from the F distribution.

    It takes cases for independent and sizes for normal; a case without every rater's size is left out. Ends
    are cut at -1. NaN where the ICC is undefined.

    Source: McGraw, Wong, "Forming inferences about some intraclass correlation coefficients",
    Psychological Methods 1(1), 1996, with its corrections; ICC1 and ICC3 as Shrout and Fleiss 1979.
    """
    unknown = dict.fromkeys(ICC_KINDS, (np.nan, np.nan))
    sizes = sizes[complete(sizes)]
    n, k = sizes.shape
    if n < 2 or k < 2:
        return unknown
    _, msb, msw, msr, mse = (float(part[0]) for part in _mean_squares(sizes, np.ones((1, n))))
    if not (msb > 0 and msw > 0 and mse > 0):
        return unknown
    one = _of_f(msb / msw, n - 1, n * (k - 1))
    three = _of_f(msb / mse, n - 1, (n - 1) * (k - 1))
    two = _of_icc2(n, k, msb, msr, mse)
    single = [tuple((f - 1) / (f + k - 1) for f in ends) for ends in (one, three)]
    mean = [tuple(1 - 1 / f for f in ends) for ends in (one, three)]
    two_mean = tuple(_of_mean(end, k) for end in two)
    found = (single[0], two, single[1], mean[0], two_mean, mean[1])
    return {
        kind: (max(ends[0], -1.0), max(ends[1], -1.0)) for kind, ends in zip(ICC_KINDS, found, strict=True)
    }


def _of_mean(single: float, k: int) -> float:
    """From one rater's ICC to that of the mean of k (Spearman, Brown): no bound below where it has its pole."""
    pole = -1 / (k - 1)
    return k * single / (1 + (k - 1) * single) if single > pole else -np.inf


def _of_f(f: float, between: int, rest: int) -> tuple[float, float]:
    """The interval of a ratio of mean squares."""
    return f / _f_quantile(between, rest), f * _f_quantile(rest, between)


def _of_icc2(n: int, k: int, msb: float, msr: float, mse: float) -> tuple[float, float]:
    """Ends for ICC2, whose degrees of freedom are Satterthwaite's."""
    value = (msb - mse) / (msb + (k - 1) * mse + k * (msr - mse) / n)
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    freedom = (a * msr + b * mse) ** 2 / ((a * msr) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    lower, upper = _f_quantile(n - 1, freedom), _f_quantile(freedom, n - 1)
    others = k * msr + (k * n - k - n) * mse
    return n * (msb - lower * mse) / (lower * others + n * msb), n * (upper * msb - mse) / (
        others + n * upper * msb
    )


def _f_quantile(above: float | int, below: float | int) -> float:
    from scipy.special import fdtri

    return float(fdtri(above, below, 0.975))


def complete(sizes: Float[np.ndarray, "case R"]) -> np.ndarray:
    """Which cases every rater measured."""
    return np.asarray(~np.isnan(sizes).any(axis=1))


def bland_altman(first: Float[np.ndarray, "case"], second: Float[np.ndarray, "case"]) -> dict[str, float]:
    """Mean difference of two raters' sizes and its 95 % limits of agreement (mean ± 1.96 SD).

    Cases only one of them measured (NaN) are left out. The limits need two cases.

    Source: Bland, Altman, "Statistical methods for assessing agreement between two methods of
    clinical measurement", Lancet 327, 1986.
    """
    difference = (first - second)[:, None]
    bias, lower, upper = bland_altman_of(difference, np.ones((1, len(difference))))[0, 0]
    return {"bias": float(bias), "lower": float(lower), "upper": float(upper)}


def bland_altman_of(
    differences: Float[np.ndarray, "case pair"], weights: Float[np.ndarray, "resample case"]
) -> Float[np.ndarray, "resample pair 3"]:
    """Bias, lower and upper limit of agreement of each resample and pair of raters."""
    known = ~np.isnan(differences)
    values = np.where(known, differences, 0.0)
    centre = ratio(values.sum(axis=0), known.sum(axis=0))
    centred = np.where(known, values - np.nan_to_num(centre), 0.0)
    cases = weights @ known
    mean = ratio(weights @ centred, cases)
    squares = np.maximum(weights @ centred**2 - cases * mean**2, 0.0)
    half = 1.96 * np.sqrt(ratio(squares, np.where(cases > 1, cases - 1, 0)))
    bias = mean + centre
    return np.stack([bias, bias - half, bias + half], axis=-1)
