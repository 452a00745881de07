"""The paired bootstrap against SciPy's and against what grouping must do."""

import math

import numpy as np
import pytest
from scipy import stats

from mrprism.metrics import paired_difference

RNG = np.random.default_rng(0)


def test_as_scipy_when_each_case_is_a_patient() -> None:
    first = RNG.normal(0.9, 0.05, 60)
    second = first - RNG.normal(0.01, 0.02, 60)
    ours = paired_difference(first, second, [str(i) for i in range(60)], resamples=9999)
    theirs = stats.bootstrap((first - second,), np.mean, method="percentile", rng=1).confidence_interval
    assert ours.mean == pytest.approx(np.mean(first - second))
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=4e-4)
    assert ours.significant


def test_copies_of_a_case_within_a_patient_add_nothing() -> None:
    change = RNG.normal(0, 1, 20)
    groups = [str(i) for i in range(20)]
    once = paired_difference(change, change * 0, groups)
    thrice = paired_difference(np.tile(change, 3), np.zeros(60), groups * 3)
    np.testing.assert_allclose(once, thrice, atol=1e-12)


def test_unknown_cases_are_left_out() -> None:
    first, second = np.array([1.0, math.nan, 2.0]), np.array([0.0, 0.0, math.nan])
    result = paired_difference(first, second, ["a", "b", "c"])
    assert result.mean == 1
    assert math.isnan(result.low)
    assert not result.significant
    assert math.isnan(paired_difference(first[1:2], second[:1], ["a"]).mean)
