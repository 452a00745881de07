"""Spread of sets of outlines, worked by hand and by slow loops."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import energy_distance

from mrprism.metrics import (
    coverage,
    dice,
    dice_match,
    dice_max,
    diversity_of_raters,
    generalised_energy_distance,
    hm_iou,
    iou,
    variance_correlation,
    volume_crps,
)

RNG = np.random.default_rng(0)
DRAWS, MASKS = RNG.random((5, 9, 7)) > 0.5, RNG.random((3, 9, 7)) > 0.4
NONE, LEFT, RIGHT = np.zeros(4, bool), np.array([1, 1, 0, 0], bool), np.array([0, 0, 1, 1], bool)


def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.mean([1 - iou(a, b) for a, b in itertools.product(first, second)]))


def test_energy_distance_by_loops() -> None:
    expected = 2 * mean_distance(DRAWS, MASKS) - mean_distance(DRAWS, DRAWS) - mean_distance(MASKS, MASKS)
    assert generalised_energy_distance(DRAWS, MASKS) == pytest.approx(expected)


def test_energy_distance_by_hand() -> None:
    # one sure draw against two disjoint raters: 2·½ − 0 − ½
    assert generalised_energy_distance(LEFT[None], np.stack([LEFT, RIGHT])) == pytest.approx(0.5)
    assert generalised_energy_distance(MASKS, MASKS) == pytest.approx(0)
    # both empty is no distance: a set with empty masks equals itself
    assert generalised_energy_distance(np.stack([NONE, LEFT]), np.stack([NONE, LEFT])) == pytest.approx(0)
    assert generalised_energy_distance(NONE[None], LEFT[None]) == pytest.approx(2)


def test_dice_matrix_by_loops() -> None:
    scores = np.array([[dice(mask, draw) for draw in DRAWS] for mask in MASKS])
    assert dice_max(DRAWS, MASKS) == pytest.approx((scores.max(0).mean() + scores.max(1).mean()) / 2)
    best = max(
        np.mean([scores[r, s] for r, s in enumerate(order)]) for order in itertools.permutations(range(5), 3)
    )
    assert dice_match(DRAWS, MASKS) == pytest.approx(best)


def test_matching_is_one_to_one() -> None:
    draws, masks = np.stack([LEFT, RIGHT]), np.stack([LEFT, LEFT])
    assert dice_match(draws, masks) == pytest.approx(0.5)
    assert dice_max(draws, masks) == pytest.approx((0.5 + 1) / 2)
    assert dice_match(np.stack([NONE, LEFT]), np.stack([LEFT, NONE])) == 1


def test_variance_correlation_by_numpy() -> None:
    draws = RNG.uniform(0.05, 0.95, (4, 9, 7))
    cross = lambda target, p: -target * np.log(p) - (1 - target) * np.log(1 - p)  # noqa: E731
    spread = np.mean([cross(draws.mean(0), draw) for draw in draws], axis=0)
    misses = [np.mean([cross(mask.astype(float), draw) for draw in draws], axis=0) for mask in MASKS]
    expected = np.mean([np.corrcoef(spread.ravel(), miss.ravel())[0, 1] for miss in misses])
    assert variance_correlation(draws, MASKS) == pytest.approx(expected, abs=1e-6)


def test_variance_correlation_of_constant_draws_is_unknown() -> None:
    assert math.isnan(variance_correlation(np.full((2, 4), 0.5), LEFT[None]))


def test_volume_crps_by_hand() -> None:
    assert volume_crps(np.array([7.0]), np.array([4.0])) == 3
    assert volume_crps(np.array([1.0, 5.0]), np.array([5.0, 1.0])) == 0
    # two draws around one rater: E|V − y| − ½E|V − V'| = 2 − ½·2
    assert volume_crps(np.array([1.0, 5.0]), np.array([3.0])) == pytest.approx(1)


def test_volume_crps_as_scipys_energy_distance() -> None:
    first, second = RNG.uniform(0, 100, 7), RNG.uniform(0, 80, 4)
    assert volume_crps(first, second) == pytest.approx(energy_distance(first, second) ** 2 / 2)


def test_volume_crps_as_the_energy_form() -> None:
    first, second = RNG.uniform(0, 100, 9), RNG.uniform(0, 80, 5)
    apart = lambda a, b: np.abs(a[:, None] - b[None]).mean()  # noqa: E731
    expected = apart(first, second) - apart(first, first) / 2 - apart(second, second) / 2
    assert volume_crps(first, second) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_perfect_sampler_has_zero_whatever_the_number_of_draws(count: int) -> None:
    """Draws of the raters' own masks, with replacement; the plain statistic has 0.1 with few of them."""
    rng = np.random.default_rng(count)
    masks = rng.random((4, 12, 12)) > 0.5
    sizes = masks.reshape(4, -1).sum(axis=1).astype(float)
    picked = rng.integers(0, 4, (4000, count))
    distances = [generalised_energy_distance(masks[p], masks, sampled=True) for p in picked[:1000]]
    assert np.mean(distances) == pytest.approx(0, abs=4 * np.std(distances) / np.sqrt(1000))
    scores = [volume_crps(sizes[p], sizes, sampled=True) for p in picked]
    assert np.mean(scores) == pytest.approx(0, abs=4 * np.std(scores) / np.sqrt(4000))
    assert np.mean([generalised_energy_distance(masks[p], masks) for p in picked[:200]]) > 0.1 / count


def test_estimates_from_draws_by_hand() -> None:
    draws, masks = np.stack([LEFT, RIGHT]), np.stack([LEFT, RIGHT])
    # across 1/2, among the two different draws 1, among the raters 1/2
    assert generalised_energy_distance(draws, masks, sampled=True) == pytest.approx(1 - 1 - 0.5)
    # E|V - y| - 1/2 of the mean over the two pairs of different draws
    assert volume_crps(np.array([1.0, 5.0]), np.array([3.0]), sampled=True) == pytest.approx(2 - 0.5 * 4)
    assert math.isnan(generalised_energy_distance(LEFT[None], masks, sampled=True))
    assert math.isnan(volume_crps(np.array([1.0]), np.array([3.0]), sampled=True))


def test_hm_iou_by_hand() -> None:
    # two draws, three raters: six of each; LEFT pairs with LEFT three times, RIGHT with RIGHT twice, LEFT once
    draws, masks = np.stack([LEFT, RIGHT]), np.stack([LEFT, LEFT, RIGHT])
    assert hm_iou(draws, masks) == pytest.approx(5 / 6)
    assert dice_match(draws, masks) == 1  # which leaves the surplus unpaired
    assert hm_iou(masks, masks) == 1
    assert hm_iou(np.stack([NONE]), np.stack([NONE, LEFT])) == pytest.approx(0.5)


def test_hm_iou_by_every_pairing() -> None:
    """Two draws and three raters have six each when repeated: all 720 pairings."""
    draws, masks = DRAWS[:2], MASKS
    scores = np.array([[iou(a, b) for b in np.repeat(masks, 2, axis=0)] for a in np.repeat(draws, 3, axis=0)])
    best = max(scores[range(6), order].mean() for order in map(list, itertools.permutations(range(6))))
    assert hm_iou(draws, masks) == pytest.approx(best)


def test_hm_iou_of_weighted_draws() -> None:
    assert hm_iou(DRAWS, MASKS, weights=np.full(5, 0.2)) == pytest.approx(hm_iou(DRAWS, MASKS))
    # chances 1/5 and 4/5 are the draw once and the other four times
    weights = np.array([0.2, 0.8])
    repeated = hm_iou(DRAWS[[0, 1, 1, 1, 1]], MASKS)
    assert hm_iou(DRAWS[:2], MASKS, weights=weights) == pytest.approx(repeated)
    # one LEFT draw of chance 1/4 can serve half of the rater who drew LEFT
    assert hm_iou(
        np.stack([LEFT, RIGHT]), np.stack([LEFT, RIGHT]), weights=np.array([0.25, 0.75])
    ) == pytest.approx(0.75)


def test_weights_are_repetitions() -> None:
    weights, repeated = np.array([0.2, 0.8]), DRAWS[[0, 1, 1, 1, 1]]
    assert generalised_energy_distance(DRAWS[:2], MASKS, weights=weights) == pytest.approx(
        generalised_energy_distance(repeated, MASKS)
    )
    sizes, rated = np.array([7.0, 3.0]), np.array([4.0, 6.0, 6.0])
    assert volume_crps(sizes, rated, weights=weights) == pytest.approx(
        volume_crps(np.array([7.0, 3.0, 3.0, 3.0, 3.0]), rated)
    )


def test_diversity_of_raters_by_hand() -> None:
    assert diversity_of_raters(np.stack([LEFT, RIGHT])) == pytest.approx(0.5)  # of four pairs two are apart
    assert diversity_of_raters(MASKS) == pytest.approx(mean_distance(MASKS, MASKS))
    assert diversity_of_raters(LEFT[None]) == 0


def test_coverage_by_hand() -> None:
    wide = np.array([1, 1, 1, 0], bool)
    assert coverage(np.stack([LEFT, LEFT]), np.stack([LEFT, wide])) == 0
    assert coverage(np.stack([LEFT, wide]), np.stack([NONE, wide])) == pytest.approx(1 / 3)
    assert coverage(np.stack([NONE, np.ones(4, bool)]), np.stack([NONE, wide])) == 1
    assert coverage(LEFT[None], np.stack([wide, wide])) == 1  # nothing is disputed


def test_many_draws_are_paired_without_a_matrix_of_their_common_multiple(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best transport of whole numbers is a pairing: both ways give one number, and 97 of 89 are no 8633 squared."""
    draw = np.random.default_rng(5)
    draws, masks = draw.random((7, 6, 6)) > 0.5, draw.random((4, 6, 6)) > 0.5
    paired = hm_iou(draws, masks)
    monkeypatch.setattr("mrprism.metrics.diversity.MOST_REPEATED", 1)
    assert hm_iou(draws, masks) == pytest.approx(paired, abs=1e-9)
    monkeypatch.undo()
    many, others = draw.random((97, 3, 3)) > 0.5, draw.random((89, 3, 3)) > 0.5
    assert 0 < hm_iou(many, others) <= 1
    assert hm_iou(many, many) == 1
