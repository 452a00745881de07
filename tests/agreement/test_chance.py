"""Kappas and alpha against statsmodels, krippendorff, and answers worked by hand."""

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import cohens_kappa as sm_cohen
from statsmodels.stats.inter_rater import fleiss_kappa as sm_fleiss

from mrprism.agreement import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from mrprism.core.patterns import PatternTable, count_patterns, merge

ALL = (fleiss_kappa, gwet_ac1, krippendorff_alpha)


def readings(
    seed: int, raters: int = 5, pixels: int = 400, labels: int = 3, missing: float = 0.0
) -> np.ndarray:
    """(R, pixels) labels that agree better than chance; -1 where missing."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=pixels)
    slips = rng.random((raters, pixels)) < 0.3
    said = np.where(slips, rng.integers(labels, size=(raters, pixels)), truth)
    return np.where(rng.random((raters, pixels)) < missing, -1, said)


@pytest.mark.parametrize("labels", [2, 3, 6])
def test_fleiss_equals_statsmodels(labels):
    said = readings(labels, labels=labels)
    expected = sm_fleiss(aggregate_raters(said.T)[0])
    assert fleiss_kappa(count_patterns(said)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("labels", [2, 5])
def test_alpha_equals_krippendorff(labels, missing):
    said = readings(1, labels=labels, missing=missing)
    expected = krippendorff.alpha(np.where(said < 0, np.nan, said), level_of_measurement="nominal")
    assert krippendorff_alpha(count_patterns(said)) == pytest.approx(expected, abs=1e-12)


def test_alpha_of_the_textbook():
    # Krippendorff, "Computing Krippendorff's alpha-reliability", 2011, example C: alpha 0.743
    nothing = -1
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nothing, nothing, nothing],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nothing, 3],
        [nothing, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nothing],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nothing],
    ]
    assert krippendorff_alpha(count_patterns(np.array(observers))) == pytest.approx(0.743, abs=5e-4)


def test_cohen_equals_statsmodels():
    first, second = readings(3, raters=2)
    joint = count_patterns(np.stack([first, second])).pairs()[0, 1]
    assert cohen_kappa(joint) == pytest.approx(sm_cohen(joint, return_results=False), abs=1e-12)


def test_gwet_by_hand():
    # 125 subjects, two raters: 118 and 1 agreed, 5 and 1 disagreed. pi = (118 + 119.5...)/125 as below
    joint = {(1, 1): 118, (1, 0): 5, (0, 1): 1, (0, 0): 1}
    table = PatternTable(np.array(list(joint), np.int32), np.array(list(joint.values())), (0, 1))
    pi = (123 + 119) / 250
    chance = 2 * pi * (1 - pi)
    assert gwet_ac1(table) == pytest.approx((119 / 125 - chance) / (1 - chance), abs=1e-15)


def test_fleiss_with_missing_raters_by_hand():
    # pixels: 1 1 0 | 1 1 - | 0 - - | 0 0 0: the third says nothing about agreement, but votes
    said = np.array([[1, 1, 0, 0], [1, 1, -1, 0], [0, -1, -1, 0]])
    observed = (1 / 3 + 1 + 1) / 3
    share = (2 / 3 + 1 + 0 + 0) / 4
    chance = share**2 + (1 - share) ** 2
    expected = (observed - chance) / (1 - chance)
    assert fleiss_kappa(count_patterns(said)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("value", [0, 1])
def test_nothing_but_one_label_is_undefined_and_not_a_crash(value):
    table = count_patterns(np.full((4, 50), value, bool))
    assert np.isnan(fleiss_kappa(table))
    assert np.isnan(krippendorff_alpha(table))
    assert np.isnan(cohen_kappa(table.pairs()[0, 1]))
    assert gwet_ac1(table) == 1  # chance agreement is nil: AC1 is made for this


def test_one_rater_only_is_undefined():
    table = count_patterns(np.array([[1, 0, 1]]))
    assert all(np.isnan(statistic(table)) for statistic in ALL)


def test_counts_past_two_to_the_31():
    said = readings(5, labels=2, missing=0.1)
    small = count_patterns(said)
    large = PatternTable(small.patterns, small.counts * 3_000_000_000, small.labels)
    assert large.pixels > 2**40
    assert fleiss_kappa(large) == pytest.approx(fleiss_kappa(small), abs=1e-12)
    assert gwet_ac1(large) == pytest.approx(gwet_ac1(small), abs=1e-12)
    n = (said >= 0)[:, (said >= 0).sum(axis=0) > 1].sum()  # alpha corrects for a small n
    small_alpha = 1 - (1 - krippendorff_alpha(small)) * n / (n - 1)
    assert krippendorff_alpha(large) == pytest.approx(small_alpha, abs=1e-12)


ratings = hnp.arrays(np.int8, st.tuples(st.integers(2, 5), st.integers(1, 30)), elements=st.integers(-1, 2))


def same(first: float, second: float) -> bool:
    return first == pytest.approx(second, abs=1e-10, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(ratings, st.randoms(use_true_random=False))
def test_order_names_and_absent_raters_do_not_matter(said, random):
    table = count_patterns(said)
    order = list(range(len(said)))
    random.shuffle(order)
    names = [0, 1, 2]
    random.shuffle(names)
    renamed = np.where(said < 0, -1, np.array(names)[said])
    absent = np.concatenate([said, np.full((1, said.shape[1]), -1, np.int8)])
    for statistic in ALL:
        assert same(statistic(table), statistic(count_patterns(said[order])))
        assert same(statistic(table), statistic(count_patterns(absent)))
    for statistic in (fleiss_kappa, krippendorff_alpha):  # AC1 also asks how many labels there are
        assert same(statistic(table), statistic(count_patterns(renamed)))


@settings(max_examples=60, deadline=None)
@given(ratings, st.integers(2, 4))
def test_duplicated_pixels_do_not_matter(said, times):
    table, more = count_patterns(said), count_patterns(np.tile(said, (1, times)))
    assert same(fleiss_kappa(table), fleiss_kappa(more))
    assert same(gwet_ac1(table), gwet_ac1(more))
    assert more.counts.tolist() == (table.counts * times).tolist()


@settings(max_examples=60, deadline=None)
@given(ratings)
def test_values_stay_in_range_or_are_undefined(said):
    for statistic in ALL:
        value = statistic(count_patterns(said))
        assert np.isnan(value) or -2 * said.size <= value <= 1 + 1e-12


def test_pooling_cases_equals_one_long_case():
    first, second = readings(1), readings(2)
    pooled = merge([count_patterns(first), count_patterns(second)])
    whole = count_patterns(np.concatenate([first, second], axis=1))
    for statistic in ALL:
        assert statistic(pooled) == pytest.approx(statistic(whole), abs=1e-14)
