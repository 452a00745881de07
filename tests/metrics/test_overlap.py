"""Overlap against MONAI, SimpleITK and cases worked by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest

from mrprism.metrics import above, dice, iou, qubiq_score, soft_dice, voted_above


def mask(*pixels: int, size: int = 10) -> np.ndarray:
    drawn = np.zeros(size, bool)
    drawn[list(pixels)] = True
    return drawn


def test_worked_by_hand() -> None:
    assert dice(mask(1, 2, 3), mask(2, 3, 4, 5)) == pytest.approx(4 / 7)
    assert iou(mask(1, 2, 3), mask(2, 3, 4, 5)) == pytest.approx(2 / 5)


@pytest.mark.parametrize("score", [dice, iou])
def test_empty_masks(score) -> None:
    assert score(mask(), mask()) == 1
    assert math.isnan(score(mask(), mask(), empty="skip"))
    for empty in ("one", "skip"):
        assert score(mask(), mask(1), empty=empty) == 0
        assert score(mask(1), mask(), empty=empty) == 0


def test_as_simpleitk_in_three_dimensions() -> None:
    import SimpleITK

    rng = np.random.default_rng(0)
    first, second = rng.random((2, 6, 9, 8)) > 0.6
    overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(SimpleITK.GetImageFromArray(m.astype(np.uint8)) for m in (first, second)))
    assert dice(first, second) == pytest.approx(overlap.GetDiceCoefficient())
    assert iou(first, second) == pytest.approx(overlap.GetJaccardCoefficient())


def test_as_monai() -> None:
    import torch
    from monai.metrics import compute_dice, compute_iou

    rng = np.random.default_rng(1)
    first, second = rng.random((2, 1, 3, 16, 16)) > 0.7
    one, two = torch.tensor(first), torch.tensor(second)
    theirs = compute_dice(one, two)[0].numpy(), compute_iou(one, two)[0].numpy()
    for c in range(3):
        assert dice(first[0, c], second[0, c]) == pytest.approx(theirs[0][c])
        assert iou(first[0, c], second[0, c]) == pytest.approx(theirs[1][c])


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
def test_votes_are_cut_as_rationals(threshold: float) -> None:
    """As floats 3 of 10 lies now above 0.3 and now below."""
    for raters in range(1, 41):
        votes = np.arange(raters + 1, dtype=np.uint8)
        exact = [Fraction(int(vote), raters) > Fraction(str(threshold)) for vote in votes]
        assert voted_above(votes, raters, threshold).tolist() == exact


@pytest.mark.parametrize("raters", [3, 5, 7, 10, 20])
def test_a_vote_share_in_float32_matches_its_own_votes(raters: int) -> None:
    votes = np.arange(raters + 1)
    share = (votes / raters).astype(np.float32)
    for threshold in np.arange(1, 10) / 10:
        threshold = round(float(threshold), 1)
        np.testing.assert_array_equal(above(share, threshold), voted_above(votes, raters, threshold))
    assert soft_dice(share, votes, raters) == qubiq_score(share, votes, raters) == 1


def test_soft_dice_by_hand() -> None:
    # three raters; cuts of the votes: > 0.1 and > 0.3 keep {1,2,3}, > 0.5 {2,3}, > 0.7 and > 0.9 {3}
    votes = np.array([0, 1, 2, 3])
    probability = np.array([0.0, 0.05, 0.6, 0.8])  # cuts: {2,3} twice, {2,3}, {3}, {}
    expected = np.mean([2 * 2 / 5, 2 * 2 / 5, 1, 1, 0])
    assert soft_dice(probability, votes, 3) == pytest.approx(expected)


def test_qubiq_score_by_hand() -> None:
    # four raters, votes 1 to 4: cuts at .1 .2 keep four pixels, at .3 .4 three, at .5 .6 .7 two, at .8 .9 one
    votes = np.array([1, 2, 3, 4])
    probability = np.array([0.15, 0.15, 0.65, 0.65])  # all at .1, the last two up to .6, then none
    expected = (1 + 2 * 2 / 6 + 2 * (2 * 2 / 5) + 2 * (2 * 2 / 4) + 3 * 0) / 9
    assert qubiq_score(probability, votes, 4) == pytest.approx(expected)


def test_soft_dice_against_a_hard_reference_is_the_mean_of_five_cuts() -> None:
    rng = np.random.default_rng(2)
    probability, reference = rng.random((12, 12)), rng.random((12, 12)) > 0.5
    expected = np.mean([dice(probability > t, reference) for t in (0.1, 0.3, 0.5, 0.7, 0.9)])
    assert soft_dice(probability, reference.astype(np.uint8), 1) == pytest.approx(expected)


def test_soft_dice_of_empty_cuts() -> None:
    votes, probability = np.array([0, 1]), np.array([0.0, 0.2])  # of 5: only > 0.1 is not empty
    assert soft_dice(probability, votes, 5) == 1
    assert soft_dice(probability * 0, votes, 5) == pytest.approx(4 / 5)
    assert soft_dice(probability * 0, votes, 5, empty="skip") == 0
    assert math.isnan(soft_dice(probability * 0, votes * 0, 5, empty="skip"))


def test_nobody_rated() -> None:
    with pytest.raises(ValueError, match="at least one rater"):
        soft_dice(np.zeros(3), np.zeros(3, int), 0)
