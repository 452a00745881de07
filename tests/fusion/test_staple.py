"""STAPLE and Dawid-Skene against SimpleITK, against EM pixel by pixel, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from mrprism.core.errors import InputError
from mrprism.core.patterns import count_patterns
from mrprism.fusion import FUSIONS, staple_labels
from mrprism.fusion.smoothing import mean_field
from mrprism.fusion.staple import fuse_with_skill, staple, staple_table

examples = settings(deadline=None, max_examples=20)


def noisy(seed, raters=5, space=(30, 31)):
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: space[0], : space[1]]
    truth = (y - 15) ** 2 + (x - 14) ** 2 < rng.uniform(5, 10) ** 2
    p, q = rng.uniform(0.6, 0.99, (2, raters, 1, 1))
    return np.where(truth, rng.random((raters, *space)) < p, rng.random((raters, *space)) > q)


def in_itk(masks):
    """SimpleITK's posterior, sensitivities and specificities."""
    one = SimpleITK.STAPLEImageFilter()
    one.SetForegroundValue(1)
    image = one.Execute([SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in masks])
    return SimpleITK.GetArrayFromImage(image), one.GetSensitivity(), one.GetSpecificity()


def pixel_by_pixel(votes, prior, rounds, start=None, learn_prior=False, pseudo=0.0):
    """EM as the papers print it, for votes (R, N) of labels 0..K-1, -1 absent; no tables, no logarithms."""
    size = len(prior)
    posterior = np.array([[np.mean(v[v >= 0] == k) for k in range(size)] for v in votes.T])
    for _ in range(rounds):
        theta = np.zeros((len(votes), size, size))
        for r, vote in enumerate(votes):
            for k in range(size):
                theta[r, :, k] = posterior[vote == k].sum(axis=0) + pseudo
            theta[r] /= np.maximum(theta[r].sum(axis=1, keepdims=True), 1e-300)
        if learn_prior:
            prior = posterior.mean(axis=0)
        for i, column in enumerate(votes.T):
            joint = np.array(prior, float)
            for r, k in enumerate(column):
                if k >= 0:
                    joint *= theta[r, :, k]
            posterior[i] = joint / joint.sum()
    return posterior, theta


@given(seed=st.integers(0, 10_000), raters=st.integers(2, 6))
@examples
def test_whole_field_equals_simpleitk(seed, raters):
    masks = noisy(seed, raters)
    posterior, sensitivity, specificity = in_itk(masks)
    fused = staple(masks[:, None], np.ones((raters, 1), bool), margin=None, iterations=100_000)
    np.testing.assert_allclose(fused.probability[0], posterior, atol=1e-5)
    np.testing.assert_allclose(fused.confusion[:, 0, 1, 1], sensitivity, atol=1e-5)
    np.testing.assert_allclose(fused.confusion[:, 0, 0, 0], specificity, atol=1e-5)


def test_region_of_interest_equals_simpleitk_on_the_crop():
    masks = np.pad(noisy(1)[:, 10:20, 9:19], ((0, 0), (40, 40), (50, 50)))
    fused = staple(masks[:, None], np.ones((5, 1), bool), margin=3)
    rows, columns = (np.flatnonzero(masks.any(axis=(0, axis))) for axis in (2, 1))
    crop = np.s_[rows[0] - 3 : rows[-1] + 4, columns[0] - 3 : columns[-1] + 4]
    posterior, *_ = in_itk(np.stack([mask[crop] for mask in masks]))
    np.testing.assert_allclose(fused.probability[0][crop], posterior, atol=1e-5)
    outside = fused.probability[0].copy()
    outside[crop] = 0
    assert not outside.any()


def test_padding_does_not_change_the_consensus_but_does_with_the_whole_field():
    masks = noisy(1)
    masks[:, [0, -1]] = masks[:, :, [0, -1]] = False
    padded = np.pad(masks, ((0, 0), (60, 60), (60, 60)))
    rated = np.ones((5, 1), bool)
    ours = [staple(m[:, None], rated, margin=0).probability.sum() for m in (masks, padded)]
    itk = [staple(m[:, None], rated, margin=None).probability.sum() for m in (masks, padded)]
    assert ours[0] == pytest.approx(ours[1], rel=1e-9)
    assert abs(itk[0] - itk[1]) > 1


def test_a_case_worked_by_hand_in_which_simpleitks_multilabel_goes_wrong():
    # prior 2/3; at sensitivity 5/6 and specificity 2/3 the posteriors are 25/27, 5/9 and 1/9, and those
    # give the same skill back: (3 * 25/27 + 5/9) / 4 = 5/6 and (8/9 + 4/9) / 2 = 2/3
    maps = np.array([[[1, 0, 0, 1, 1, 1]], [[0, 0, 1, 1, 1, 1]]], np.uint8)
    fused = staple_labels(maps, margin=None)
    expected = [5 / 9, 1 / 9, 5 / 9, 25 / 27, 25 / 27, 25 / 27]
    np.testing.assert_allclose(fused.posterior[1, 0], expected, atol=1e-6)
    np.testing.assert_allclose(fused.confusion, [[[2 / 3, 1 / 3], [1 / 6, 5 / 6]]] * 2, atol=1e-6)
    assert fused.labels.tolist() == [[1, 0, 1, 1, 1, 1]]
    image = SimpleITK.MultiLabelSTAPLE([SimpleITK.GetImageFromArray(one) for one in maps])
    assert SimpleITK.GetArrayFromImage(image).tolist() != [[1, 0, 1, 1, 1, 1]]


def test_a_true_tie_goes_to_the_lowest_label_and_is_counted():
    maps = np.zeros((2, 1, 10), np.int16)
    maps[0, 0, :5] = 40
    maps[1, 0, 1:6] = 40
    fused = staple_labels(maps, margin=None)
    assert fused.labels.tolist() == [[0, 40, 40, 40, 40, 0, 0, 0, 0, 0]]
    assert fused.labels.dtype == np.int16
    assert fused.classes == (0, 40)
    assert fused.ties == 2


@given(seed=st.integers(0, 10_000))
@examples
def test_labels_equal_em_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(0, 3, 60))
    votes = np.where(rng.random((4, 60)) < 0.3, rng.integers(0, 3, (4, 60)), truth)
    votes[:, :3] = [0, 1, 2]
    votes[rng.random(votes.shape) < 0.1] = -1
    votes[0, :] = np.where(votes[0] < 0, truth, votes[0])
    share = np.array([[np.mean(v[v >= 0] == k) for k in range(3)] for v in votes.T])
    posterior, theta = pixel_by_pixel(votes, share.mean(axis=0), 12)
    fused = staple_labels(votes[:, None], margin=None, iterations=12, tolerance=0.0)
    if fused.estimate.restarted:
        return
    np.testing.assert_allclose(fused.posterior[:, 0].T, posterior, atol=1e-5)
    _, theta = pixel_by_pixel(votes, share.mean(axis=0), 13)
    np.testing.assert_allclose(fused.confusion, theta, atol=1e-8)


@given(seed=st.integers(0, 10_000))
@examples
def test_dawid_skene_equals_em_pixel_by_pixel(seed):
    masks = noisy(seed, 4, (16, 17))
    fused = FUSIONS["dawid-skene"](
        masks[:, None], np.ones((4, 1), bool), margin=None, iterations=9, tolerance=0.0
    )
    posterior, _ = pixel_by_pixel(masks.reshape(4, -1).astype(int), [0.5, 0.5], 9, learn_prior=True)
    np.testing.assert_allclose(fused.probability.ravel(), posterior[:, 1], atol=1e-5)


@given(seed=st.integers(0, 10_000))
@examples
def test_two_labels_are_binary_staple(seed):
    masks = noisy(seed)
    binary = staple(masks[:, None], np.ones((5, 1), bool))
    labels = staple_labels(masks.astype(np.uint8) * 7)
    np.testing.assert_allclose(labels.posterior[1], binary.probability[0], atol=1e-6)
    np.testing.assert_allclose(labels.confusion, binary.confusion[:, 0], atol=1e-9)
    np.testing.assert_array_equal(labels.labels == 7, binary.probability[0] > 0.5 + 1e-9)


@given(seed=st.integers(0, 10_000))
@examples
def test_relabelling_commutes(seed):
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(0, 4, 200))
    maps = np.where(rng.random((3, 200)) < 0.2, rng.integers(0, 4, (3, 200)), truth)[:, None]
    order = rng.permutation(4)
    one = staple_labels(maps, margin=None)
    other = staple_labels(order[maps], margin=None)
    np.testing.assert_allclose(other.posterior[order], one.posterior, atol=1e-5)
    np.testing.assert_allclose(other.confusion[:, order][:, :, order], one.confusion, atol=1e-5)


@given(seed=st.integers(0, 10_000), prior=st.sampled_from([(0.0, 0.0), (5.0, 1.0)]))
@examples
def test_likelihood_never_falls_and_the_consensus_goes_with_the_votes(seed, prior):
    rng = np.random.default_rng(seed)
    raters, pixels = int(rng.integers(2, 8)), int(rng.integers(5, 300))
    truth = rng.random(pixels) < rng.uniform(0.05, 0.95)
    p, q = rng.uniform(0.1, 1, (2, raters, 1))
    votes = np.where(truth, rng.random((raters, pixels)) < p, rng.random((raters, pixels)) > q)
    table = count_patterns(votes)
    found = staple_table(table, skill_prior=prior)
    if found.log_likelihood:  # none where the guard had to fall back to the vote
        steps = np.diff(found.log_likelihood)
        assert (steps > -1e-12 * np.abs(found.log_likelihood[0]) - 1e-9).all()
    share = table.votes()[:, 1] / raters
    weight = table.counts / table.counts.sum()
    inside = found.posterior[:, 1]
    assert weight @ (inside * share) - (weight @ inside) * (weight @ share) > -1e-8


def test_the_inversion_guard_is_used():
    rng = np.random.default_rng(0)
    restarted = 0
    for _ in range(100):
        truth = rng.random(100) < 0.3
        p, q = rng.uniform(0.1, 0.9, (2, 4, 1))
        votes = np.where(truth, rng.random((4, 100)) < p, rng.random((4, 100)) > q)
        restarted += staple_table(count_patterns(votes), iterations=100).restarted
    assert restarted > 0


def test_missing_raters_beat_missing_as_empty():
    rng = np.random.default_rng(0)
    truth = np.zeros((60, 60), bool)
    truth[5:55, 15:50] = True
    masks = np.where(truth, rng.random((5, 60, 60)) < 0.85, rng.random((5, 60, 60)) > 0.95)
    maps = masks.astype(np.int8)
    for r, rows in enumerate((slice(0, 30), slice(10, 40), slice(20, 50), slice(30, 60), slice(0, 60))):
        absent = np.ones(60, bool)
        absent[rows] = False
        maps[r, absent] = -1
    fused = staple_labels(maps, margin=None).labels == 1
    empty = 2 * np.maximum(maps, 0).sum(axis=0) > 5

    def dice(mask):
        return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())

    assert dice(fused) > dice(empty) + 0.05


def test_known_skill_is_the_e_step():
    masks = noisy(2)
    rated = np.ones((5, 1), bool)
    fused = staple(masks[:, None], rated)
    again = staple(masks[:, None], rated, skill=fused.confusion)
    np.testing.assert_allclose(again.probability, fused.probability, atol=1e-5)
    p, q = 0.9, 0.8
    skill = np.broadcast_to([[q, 1 - q], [1 - p, p]], (5, 1, 2, 2))
    one = fuse_with_skill(masks[:, None], rated, skill, np.array([0.3]), margin=None)
    votes = masks.sum(axis=0)
    inside, outside = 0.3 * p**votes * (1 - p) ** (5 - votes), 0.7 * q ** (5 - votes) * (1 - q) ** votes
    np.testing.assert_allclose(one.probability[0], inside / (inside + outside), atol=1e-6)


def test_priors():
    masks = noisy(3)[:, None]
    rated = np.ones((5, 1), bool)
    low, high = (staple(masks, rated, prior=g).probability.sum() for g in (0.01, 0.6))
    assert low < high
    firm = staple(masks, rated, skill_prior=(9e6, 1e6)).confusion
    np.testing.assert_allclose(firm[:, 0], [[[0.9, 0.1], [0.1, 0.9]]] * 5, atol=1e-3)
    for wrong in ({"prior": 1.5}, {"skill_prior": (-1.0, 0.0)}):
        with pytest.raises(InputError):
            staple(masks, rated, **wrong)


def test_smoothing_removes_stray_pixels_and_keeps_certain_ones():
    masks = noisy(4)[:, None]
    rated = np.ones((5, 1), bool)
    plain = staple(masks, rated).probability[0] > 0.5
    smooth = staple(masks, rated, smoothing=1.0).probability[0] > 0.5

    def edges(mask):
        return (
            np.abs(np.diff(mask.astype(int), axis=0)).sum() + np.abs(np.diff(mask.astype(int), axis=1)).sum()
        )

    assert edges(smooth) < edges(plain)
    sure = np.zeros((5, 5), np.float32)
    sure[2, 2] = 1
    np.testing.assert_allclose(mean_field(sure, 1.0), sure, atol=1e-6)
    unsure = np.full((5, 5), 0.1, np.float32)
    unsure[2, 2] = 0.6
    assert mean_field(unsure, 1.0)[2, 2] < 0.5


def test_too_many_labels_are_refused():
    maps = np.arange(2 * 20000).reshape(2, 1, 20000)
    with pytest.raises(InputError, match="too large confusion matrices"):
        staple_labels(maps)


def test_exclusive_structures_through_the_common_signature() -> None:
    """Masks of structures that exclude each other, fused as one label map, and refused where they overlap."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, (12, 12))
    labels = np.where(rng.random((4, 12, 12)) < 0.8, truth, rng.integers(0, 3, (4, 12, 12)))
    masks = np.stack([labels == 1, labels == 2], 1)
    rated = np.ones((4, 2), bool)
    fused = FUSIONS["staple"](masks, rated, exclusive=True, margin=None)
    wanted = staple_labels(labels, margin=None)
    assert wanted.posterior is not None
    np.testing.assert_allclose(fused.probability, wanted.posterior[1:], atol=1e-7)
    rated[2] = False
    without = FUSIONS["staple"](masks, rated, exclusive=True, margin=None)
    kept = staple_labels(labels[[0, 1, 3]], margin=None)
    assert kept.posterior is not None
    np.testing.assert_allclose(without.probability, kept.posterior[1:], atol=1e-7)
    masks[0, :, 0, 0] = True
    with pytest.raises(InputError, match="rater 0 marked a pixel for two structures"):
        FUSIONS["staple"](masks, rated, exclusive=True)
