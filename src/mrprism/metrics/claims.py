"""When a comparison may be stated: one rule for every page, table and sentence.

A difference is stated only if there are enough patients for any difference to show, and if a test that
knows how many comparisons were looked at bears it out. The test exchanges signs patient by patient: where
nothing differs, a patient's differences are as likely to have the one sign as the other, whatever their
distribution's width. Of several comparisons the largest of each exchange counts, so that the chance of
stating anything where nothing differs is the level, not the level times the number of comparisons.

Source: Westfall, Young, "Resampling-based multiple testing", 1993 (the largest statistic of each exchange);
the exchange of signs is Fisher's, "The design of experiments", 1935.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float

LEVEL = 0.05  # chance of stating any difference where there is none
EXCHANGES = 4000
_AT_ONCE = 1 << 20  # signs that are multiplied at a time
EXACT = 12  # patients up to which every exchange of signs is counted, 2048 of them at most


def suffice(patients: int) -> bool:
    """Whether any difference could show: with n patients no p is below 2^(1 − n)."""
    return 2.0 ** (1 - patients) < LEVEL


ENOUGH = next(patients for patients in range(1, 99) if suffice(patients))


def stated(low: float, high: float, patients: int, *, beside: float = 0.0) -> bool:
    """Whether an interval bears out that its quantity differs from `beside`; NaN bears out nothing."""
    return suffice(patients) and (low > beside or high < beside)


def too_few(patients: int) -> str:
    """Why nothing is compared."""
    return (
        f"{patients} patient{'' if patients == 1 else 's'}: too few to compare anything (at least {ENOUGH})"
    )


def apart_from_zero(
    amounts: Float[np.ndarray, "patient k"], *, seed: int = 0, exchanges: int = EXCHANGES
) -> Float[np.ndarray, "k"]:
    """p-values of k sums over patients being zero, corrected for their number; NaN where nothing is known.

    The statistic of a sum is its size over the root of the sum of squares, which orders exchanges as
    Student's t does. The correction holds also where some of the sums are not zero.

    Args:
        amounts: What each patient adds; NaN: nothing is known of them there.
    """
    known = ~np.isnan(amounts)
    amounts = np.where(known, amounts, 0.0)
    length = np.sqrt((amounts**2).sum(axis=0))
    scaled = amounts / np.where(length > 0, length, 1.0)
    seen = np.abs(scaled.sum(axis=0))
    signs = _signs(len(amounts), exchanges, seed)
    largest = np.concatenate([np.abs(some @ scaled).max(axis=1) for some in _blocks(signs)])
    as_large = (largest[:, None] >= seen - 1e-9).sum(axis=0)  # the data as they are among them
    p = as_large / len(signs)
    p = np.maximum(p, 2.0 ** (1 - known.sum(axis=0, dtype=float)))
    return np.where(known.any(axis=0), np.minimum(p, 1.0), np.nan)


def all_pairs(
    scores: Float[np.ndarray, "case k"], groups: Sequence[str], *, seed: int = 0, exchanges: int = EXCHANGES
) -> Float[np.ndarray, "k k"]:
    """p-values of the mean differences of every two columns, corrected for all the pairs there are.

    Whoever is picked because of these very scores, the best or the worst, may be compared to all others.
    Differences are over the cases both have, summed by patient; NaN where they share none.

    Args:
        scores: NaN: not defined.
        groups: The patient of each case.
    """
    first, second = np.triu_indices(scores.shape[1], 1)
    names, patient = np.unique(np.asarray(groups, str), return_inverse=True)
    found = np.full((scores.shape[1],) * 2, np.nan)
    if not len(first) or not len(names):
        return found
    change = scores[:, first] - scores[:, second]
    sums, counts = np.zeros((2, len(names), len(first)))
    np.add.at(sums, patient, np.nan_to_num(change))
    np.add.at(counts, patient, ~np.isnan(change))
    p = apart_from_zero(np.where(counts > 0, sums, np.nan), seed=seed, exchanges=exchanges)
    found[first, second] = found[second, first] = p
    return found


@lru_cache(maxsize=2)  # a byte for each patient and exchange
def _signs(patients: int, exchanges: int, seed: int) -> np.ndarray:
    """Rows of signs, the first all plus; all there are, up to a common sign, where they are few."""
    if patients <= EXACT:
        rows = np.arange(2 ** max(patients - 1, 0))[:, None] >> np.arange(max(patients, 1)) & 1
        return np.asarray(1 - 2 * rows[:, :patients], np.int8)
    drawn = np.random.default_rng(seed).integers(0, 2, (exchanges, patients), np.int8)
    drawn[0] = 0
    drawn *= -2
    drawn += 1
    return drawn


def _blocks(signs: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _AT_ONCE // max(1, signs.shape[1]))
    return (signs[start : start + step].astype(float) for start in range(0, len(signs), step))
