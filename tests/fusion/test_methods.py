"""What is special to each fusion, worked by hand or by trying everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrprism.core.errors import InputError
from mrprism.fusion import FUSIONS, vote_labels

examples = settings(deadline=None, max_examples=25)


def fuse(name, rows, rated=None, **options):
    """Fuse masks of one line of pixels written as strings, "0110" per rater; '-' is an absent rater."""
    masks = np.array([[c == "1" for c in row] for row in rows])[:, None, None]
    present = np.array([["-" not in row] for row in rows])
    return FUSIONS[name](masks, present, **options)


def line(fused):
    return "".join(str(int(p > 0.5)) for p in fused.probability.ravel())


def test_soft_vote_is_the_share_of_those_who_rated():
    fused = fuse("soft-vote", ["1100", "1010", "----"])
    assert fused.probability.ravel().tolist() == [1, 0.5, 0.5, 0]
    assert fused.ties.ravel().tolist() == [False, True, True, False]


def test_majority_needs_more_than_half():
    rows = ["1100", "1010"]
    assert line(fuse("majority", rows)) == "1000"
    assert line(fuse("majority", rows, ties="foreground")) == "1110"
    assert fuse("majority", rows).ties.sum() == 2
    assert line(fuse("majority", ["110", "100", "011"])) == "110"


def test_confusion_of_the_majority_by_hand():
    confusion = fuse("majority", ["1100", "1000", "1001"], margin=None).confusion[:, 0]
    np.testing.assert_allclose(confusion[0], [[2 / 3, 1 / 3], [0, 1]])
    np.testing.assert_allclose(confusion[1], [[1, 0], [0, 1]])


def test_weighted_by_given_weights():
    rows = ["1100", "1010", "1000"]
    np.testing.assert_allclose(
        fuse("weighted", rows, weights=[3.0, 1.0, 1.0]).probability.ravel(), [1, 0.6, 0.2, 0], atol=1e-6
    )
    for wrong in ([1.0, 2.0], [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [0.0, 0.0, 0.0]):
        with pytest.raises(InputError, match="weight"):
            fuse("weighted", rows, weights=wrong)


def test_weighted_by_agreement():
    # mean Dice with the others: A and B 0.5 (1 with each other, 0 with C), C 0
    fused = fuse("weighted", ["1100", "1100", "0011"])
    assert fused.probability.ravel().tolist() == [1, 1, 0, 0]


def test_best_rater_is_the_one_nearest_to_all():
    # Dice: AB 4/5, BC 4/5, AC 1/2: B leads
    fused = fuse("best-rater", ["1100", "1110", "0110"])
    assert line(fused) == "1110"
    assert fuse("best-rater", ["1100", "0110"]).probability.ravel().tolist() == [0.5, 1, 0.5, 0]


def test_simple_leaves_out_who_strays():
    rows = ["1111000", "1111100", "1110000", "1111000", "0000111", "1111000"]
    fused = fuse("simple", rows, alpha=1.5)
    assert line(fused) == "1111000"
    assert fused.probability.ravel()[-1] == 0  # the stray rater has no vote left
    assert (
        fuse("simple", rows, alpha=10.0).probability.ravel()[-1] == 0
    )  # no weight: Dice 0 with the consensus
    with pytest.raises(InputError, match="alpha"):
        fuse("simple", rows, alpha=-1.0)


@given(seed=st.integers(0, 10_000), raters=st.integers(1, 5))
@examples
def test_jaccard_mean_equals_trying_all_sets(seed, raters):
    rng = np.random.default_rng(seed)
    masks = rng.random((raters, 7)) < rng.uniform(0.2, 0.8)

    def value(mask):
        both, either = (masks & mask).sum(axis=1), (masks | mask).sum(axis=1)
        return np.where(either > 0, both / np.maximum(either, 1), 1).mean()

    best = max(value(np.array(mask, bool)) for mask in product([0, 1], repeat=7))
    fused = FUSIONS["jaccard-mean"](masks[:, None, None], np.ones((raters, 1), bool))
    assert value(fused.probability.ravel() > 0.5) >= best - 0.03
    level = max(value(masks.sum(axis=0) >= k) for k in range(1, raters + 1))
    assert value(fused.probability.ravel() > 0.5) >= level - 1e-9


def test_jaccard_mean_ignores_the_background():
    rng = np.random.default_rng(0)
    masks = rng.random((4, 1, 9, 9)) < 0.5
    rated = np.ones((4, 1), bool)
    padded = np.pad(masks, ((0, 0), (0, 0), (30, 30), (30, 30)))
    one, other = (FUSIONS["jaccard-mean"](m, rated).probability for m in (masks, padded))
    np.testing.assert_array_equal(other[:, 30:-30, 30:-30], one)


def disc(radius, size=41, centre=20):
    y, x = np.ogrid[:size, :size]
    return (y - centre) ** 2 + (x - centre) ** 2 <= radius**2


def test_shape_average_of_two_circles_is_the_circle_between():
    masks = np.stack([disc(8), disc(14)])[:, None]
    fused = FUSIONS["shape-average"](masks, np.ones((2, 1), bool)).probability[0] > 0.5
    middle = disc(11)
    assert 2 * (fused & middle).sum() / (fused.sum() + middle.sum()) > 0.97


def test_shape_average_in_millimetres():
    masks = np.zeros((2, 1, 20, 20), bool)
    masks[:, :, 5:15, 5:15] = True
    masks[1, :, :, :9] = False  # four columns fewer on one side
    rated = np.ones((2, 1), bool)
    fused = FUSIONS["shape-average"](masks, rated, spacing_mm=(1.0, 0.1)).probability[0]
    assert fused[10].tolist() == [0.0] * 7 + [1.0] * 8 + [0.0] * 5


def test_shape_average_survives_an_empty_rater():
    masks = np.stack([disc(10), disc(10), disc(10), np.zeros((41, 41), bool)])[:, None]
    fused = FUSIONS["shape-average"](masks, np.ones((4, 1), bool)).probability[0] > 0.5
    assert disc(4)[fused].sum() == disc(4).sum()
    assert not (fused & ~disc(10)).any()


def test_vote_over_labels_declares_ties():
    maps = np.array([[3, 3, 1, 0], [3, 1, 2, 0], [1, 3, -1, -1]], np.int16)[:, None]
    fused = vote_labels(maps)
    assert fused.labels.tolist() == [[3, 3, 0, 0]]
    assert fused.ties.tolist() == [[False, False, True, False]]
    assert fused.labels.dtype == np.int16
    assert vote_labels(maps, undecided=9).labels.tolist() == [[3, 3, 9, 0]]
    assert vote_labels(maps, np.array([True, False, False])).labels.tolist() == [[3, 3, 1, 0]]
