"""What may be stated: exact for few patients, and seldom wrong where nothing differs."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from mrprism.metrics import paired_difference
from mrprism.metrics.claims import ENOUGH, all_pairs, apart_from_zero, stated, suffice, too_few


def names(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def test_six_patients_are_the_fewest_that_can_show_anything() -> None:
    assert ENOUGH == 6
    assert not suffice(5)
    assert "2 patients" in too_few(2)
    assert "1 patient:" in too_few(1)


@pytest.mark.parametrize(("low", "high", "patients", "expected"), [
    (0.1, 0.2, 6, True), (-0.2, -0.1, 6, True), (-0.1, 0.2, 100, False), (0.1, 0.2, 5, False),
    (math.nan, math.nan, 100, False),
])  # fmt: skip
def test_an_interval_that_leaves_out_zero_needs_patients_too(
    low: float, high: float, patients: int, expected: bool
) -> None:
    assert stated(low, high, patients) is expected


def test_few_patients_are_counted_exactly() -> None:
    change = np.array([0.3, -0.1, 0.2, 0.25, 0.4, 0.05, 0.15])
    sums = [
        abs(sum(s * d for s, d in zip(signs, change, strict=True))) for signs in product((1, -1), repeat=7)
    ]
    by_hand = np.mean(np.array(sums) >= abs(change.sum()) - 1e-12)
    assert apart_from_zero(change[:, None])[0] == pytest.approx(by_hand)
    theirs = stats.permutation_test((change,), np.mean, permutation_type="samples").pvalue
    assert by_hand == pytest.approx(theirs)


def test_many_patients_are_drawn_and_near_the_t_test() -> None:
    change = np.random.default_rng(0).normal(0.2, 1, 80)
    assert apart_from_zero(change[:, None])[0] == pytest.approx(stats.ttest_1samp(change, 0).pvalue, abs=0.03)


def test_a_patient_nothing_is_known_of_counts_for_nothing() -> None:
    amounts = np.array([[1.0, 1.0]] * 8)
    amounts[3:, 1] = np.nan
    p = apart_from_zero(amounts)
    assert p[0] == 2.0**-7
    assert p[1] >= 0.25  # three patients
    assert np.isnan(apart_from_zero(np.full((8, 1), np.nan))).all()


def test_nothing_differs_where_all_are_equal() -> None:
    assert np.nanmin(all_pairs(np.ones((9, 4)), names(9))) == 1


def test_of_fourteen_equal_methods_one_is_called_different_in_one_table_of_twenty() -> None:
    # picking the best and holding the others against it at 5 % each, or after Holm for 13, did so in 23 %
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        hard = rng.gamma(2, 0.05, (25, 1))
        scores = 0.9 - hard + rng.normal(0, 0.02, (25, 14)) * (1 + 5 * hard)
        wrong += np.nanmin(all_pairs(scores, names(25), exchanges=1000)) < 0.05
    assert wrong <= 18  # 10 expected; more than 18 in 0.3 % of such simulations


def test_a_method_that_is_better_on_every_patient_is_told_apart() -> None:
    scores = np.random.default_rng(2).normal(0.8, 0.02, (30, 14))
    scores[:, 5] += 0.05
    p = all_pairs(scores, names(30))
    assert (np.delete(p[5], 5) < 0.05).all()
    assert np.isnan(p[5, 5])


def test_cases_of_a_patient_go_together() -> None:
    scores = np.random.default_rng(3).normal(0, 1, (8, 2))
    once = all_pairs(scores, names(8))[0, 1]
    assert all_pairs(np.tile(scores, (3, 1)), names(8) * 3)[0, 1] == once


def test_with_few_patients_the_interval_is_students() -> None:
    first = np.array([0.8, 0.7, 0.9, 0.6])
    second = np.array([0.7, 0.65, 0.85, 0.65])
    found = paired_difference(first, second, names(4))
    low, high = stats.ttest_rel(first, second).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert not found.significant  # four patients show nothing
