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
    cases, k = weights.sum(axis=1), sizes.shape[1]
    if not len(sizes) or k < 2:
        return np.full((len(weights), len(ICC_KINDS)), np.nan)
    sizes = sizes - sizes.mean()  # the sums below cancel badly far from zero
    of_case, of_rater = sizes.mean(axis=1), ratio(weights @ sizes, cases[:, None])
    grand = of_rater.mean(axis=1)
    between = k * (weights @ of_case**2 - cases * grand**2)
    raters = cases * ((of_rater - grand[:, None]) ** 2).sum(axis=1)
    within = weights @ ((sizes - of_case[:, None]) ** 2).sum(axis=1)
    cases = np.where(cases > 1, cases, np.nan)
    msb, msw = between / (cases - 1), within / (cases * (k - 1))
    msr, mse = raters / (k - 1), np.maximum(within - raters, 0) / ((cases - 1) * (k - 1))
    kinds = [
        ratio(msb - msw, msb + (k - 1) * msw),
        ratio(msb - mse, msb + (k - 1) * mse + k * (msr - mse) / cases),
        ratio(msb - mse, msb + (k - 1) * mse),
        ratio(msb - msw, msb),
        ratio(msb - mse, msb + (msr - mse) / cases),
        ratio(msb - mse, msb),
    ]
    return np.stack(kinds, axis=1)


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
