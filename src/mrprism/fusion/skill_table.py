"""Each rater's skill over a data set, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mrprism.core.rows import Rows

BLOCK = 1 << 20  # numbers of a bootstrap in memory at a time


@dataclass(frozen=True)
class SkillRow:
    """How far one rater can be trusted on one structure; None where nothing is known."""

    structure: str
    rater: str
    cases: int
    sensitivity: float | None
    sensitivity_low: float | None
    sensitivity_high: float | None
    specificity: float | None
    specificity_low: float | None
    specificity_high: float | None
    dice: float | None  # expected Dice with the consensus, pixels of all cases together
    dice_low: float | None
    dice_high: float | None
    interval: str  # how low and high (95 %) were found


def skill_table(
    counts: Float[np.ndarray, "N R C 2 2"],
    raters: Sequence[str],
    structures: Sequence[str],
    groups: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Rows[SkillRow]:
    """Each rater's skill over a data set with 95 % intervals.

    Intervals are percentiles of a bootstrap over patients. A rater seen on one patient only gets
    Jeffreys' Beta interval over pixels instead, which takes neighbouring pixels for independent and is
    therefore too narrow; the row says so.

    Where only one rater drew, the consensus is their own mask and says nothing about them: that is not counted.

    Args:
        counts: ``skill_counts`` of each case.
        groups: The patient of each case.
    """
    present = np.asarray(counts.any(axis=(-2, -1)))
    counts = counts * (present.sum(axis=1, keepdims=True) > 1)[..., None, None]
    names = sorted(set(groups))
    place = {name: number for number, name in enumerate(names)}
    by_group = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(by_group, [place[group] for group in groups], counts)
    rows: Rows[SkillRow] = Rows()
    for c, resampled in _resampled(by_group, resamples, seed):
        for r, rater in enumerate(raters):
            mine = by_group[:, r, c]
            seen = mine.any(axis=(1, 2))
            total = mine.sum(axis=0)
            if seen.sum() > 1:
                bounds = [_percentiles(values) for values in _scores(resampled[:, r])]
                how = f"bootstrap over {len(names)} patients"
            else:
                bounds = [_beta(total[1, 1], total[1, 0]), _beta(total[0, 0], total[0, 1]), (None, None)]
                how = (
                    "beta over pixels, too narrow: one patient" if seen.any() else _why_none(present[:, r, c])
                )
            sensitivity, specificity, dice = (_known(value) for value in _scores(total))
            rows.append(
                SkillRow(
                    structures[c],
                    rater,
                    int(counts[:, r, c].any(axis=(1, 2)).sum()),
                    sensitivity,
                    *bounds[0],
                    specificity,
                    *bounds[1],
                    dice,
                    *bounds[2],
                    how,
                )
            )
    return rows


def _resampled(
    by_group: Float[np.ndarray, "P R C 2 2"], resamples: int, seed: int
) -> Iterator[tuple[int, Float[np.ndarray, "B R 2 2"]]]:
    """Each structure's number, and its counts in every resample of the patients.

    The draws, resamples × patients of them, are made anew for each block of structures and never kept: memory
    is bounded by blocks of both, whatever the number of patients.
    """
    patients, raters, structures = by_group.shape[:3]
    some = max(1, BLOCK // (resamples * raters * 4))
    few = max(1, BLOCK // patients)
    for first in range(0, structures, some):
        block = by_group[:, :, first : first + some]
        flat = block.reshape(patients, -1)
        draw = np.random.default_rng(seed)
        drawn = [
            draw.multinomial(patients, np.full(patients, 1 / patients), min(few, resamples - done)).astype(
                float
            )
            @ flat
            for done in range(0, resamples, few)
        ]
        sums = np.concatenate(drawn).reshape(resamples, *block.shape[1:])
        for c in range(block.shape[2]):
            yield first + c, sums[:, :, c]


def _why_none(present: Bool[np.ndarray, " N"]) -> str:
    return "none: always alone" if present.any() else "none: did not rate"


def _scores(counts: Float[np.ndarray, "*draws 2 2"]) -> tuple[Float[np.ndarray, "*draws"], ...]:
    """Sensitivity, specificity, Dice; NaN where undefined."""
    hit, miss = counts[..., 1, 1], counts[..., 1, 0]
    clear, extra = counts[..., 0, 0], counts[..., 0, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.asarray(hit / (hit + miss)),
            np.asarray(clear / (clear + extra)),
            np.asarray(2 * hit / (2 * hit + miss + extra)),
        )


def _percentiles(values: Float[np.ndarray, " B"]) -> tuple[float | None, float | None]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None, None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _beta(right: float, wrong: float) -> tuple[float | None, float | None]:
    from scipy.special import betaincinv

    if right + wrong <= 0:
        return None, None
    low, high = (float(betaincinv(right + 0.5, wrong + 0.5, p)) for p in (0.025, 0.975))
    return low, high


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
