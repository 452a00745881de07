"""Calibration against MONAI, scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from mrprism.metrics import brier, ece, reliability
from mrprism.metrics.calibration import around


def test_perfect_when_the_probability_is_the_share_of_votes() -> None:
    votes = np.random.default_rng(0).integers(0, 8, (16, 16))
    assert ece(votes / 7, votes, 7) == pytest.approx(0, abs=1e-12)
    assert brier(votes / 7, votes, 7) == pytest.approx(0, abs=1e-12)


def test_by_hand() -> None:
    probability = np.array([0.02, 0.04, 0.9, 1.0])  # bins 0, 0, 13, 14 of 15
    votes = np.array([0, 1, 3, 4])
    # shares 0, .25, .75, 1: gaps |.125 - .03| over two pixels, |.75 - .9|, 0
    assert ece(probability, votes, 4) == pytest.approx((2 * 0.095 + 0.15 + 0) / 4)
    assert brier(probability, votes, 4) == pytest.approx((0.02**2 + 0.21**2 + 0.15**2) / 4)


def test_reliability_as_monai() -> None:
    import torch
    from monai.metrics.calibration import calibration_binning

    rng = np.random.default_rng(1)
    probability, target = rng.random((40, 40)) ** 2, rng.random((40, 40)) > 0.6
    theirs = calibration_binning(
        torch.tensor(probability)[None, None], torch.tensor(target)[None, None].double(), 15
    )
    ours = reliability(probability, target.astype(np.uint8), 1)
    for mine, other in zip((ours.probability, ours.frequency, ours.pixels), theirs, strict=True):
        np.testing.assert_allclose(mine, other[0, 0].numpy(), atol=1e-6)


def test_brier_as_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    probability, target = rng.random(500), rng.integers(0, 2, 500)
    assert brier(probability, target, 1) == pytest.approx(metrics.brier_score_loss(target, probability))


def test_empty_bins_are_unknown_and_do_not_count() -> None:
    curve = reliability(np.full((3, 3), 0.5, np.float32), np.ones((3, 3), int), 2, bins=4)
    np.testing.assert_array_equal(curve.pixels, [0, 0, 9, 0])
    assert np.isnan(curve.frequency[[0, 1, 3]]).all()
    assert curve.frequency[2] == 0.5


@pytest.mark.parametrize("shape", [(3, 4), (40, 90), (5, 30, 70)])
def test_the_region_is_what_a_maximum_filter_finds(shape: tuple[int, ...]) -> None:
    for share in (0.5, 0.01, 0.0):
        marked = np.random.default_rng(2).random(shape) < share
        margins = [
            max(1 if len(shape) == 3 and axis == 0 else 3, round(n / 20)) for axis, n in enumerate(shape)
        ]
        wanted = maximum_filter(marked, size=[2 * margin + 1 for margin in margins], mode="constant")
        np.testing.assert_array_equal(around(marked), wanted if marked.any() else np.ones(shape, bool))
