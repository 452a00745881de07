"""Raters and a network as observers of one outline: distances, who draws how, where the outline lies."""

from __future__ import annotations

import numpy as np
import pytest

from mrprism.fusion.drawing import signed_distance
from mrprism.learn.outlines import (
    Observers,
    Seen,
    answered_distance,
    depend,
    drawn_by,
    estimate,
    locate,
    look,
)

SIZE = 64


def disc(radius: float, row: float = 32.0, column: float = 32.0) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.hypot(rows - row, columns - column) < radius


def probability(radius: float) -> np.ndarray:
    """As a network would answer: one half on the outline."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (1 / (1 + np.exp(np.hypot(rows - 32, columns - 32) - radius))).astype(np.float32)


def one_mask_each(images: int = 60, seed: int = 0) -> list[Seen]:
    """Every image outlined by one of four raters of known style, and by a network that draws 5 % too large."""
    draw = np.random.default_rng(seed)
    styles = [(0.0, 0.01), (0.0, 0.01), (0.2, 0.1), (-0.1, 0.15)]  # bias, spread; in radii
    seen = []
    for number in range(images):
        radius = draw.uniform(12, 20)
        rater = number % 4
        bias, spread = styles[rater]
        masks, rated = np.zeros((4, 1, SIZE, SIZE), bool), np.zeros((4, 1), bool)
        masks[rater, 0] = disc(radius * (1 + bias + spread * draw.standard_normal()))
        rated[rater] = True
        seen.append(look(masks, rated, probability(radius * (1.05 + 0.02 * draw.standard_normal()))[None]))
    return seen


def test_distances_are_those_of_someone_else() -> None:
    sitk = pytest.importorskip("SimpleITK")
    mask = disc(9.3, 30, 25) | disc(5, 50, 45)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    other = -sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False))
    ours = signed_distance(mask)
    assert ((ours > 0) == mask).all()
    far = np.abs(other) > 3  # theirs runs through pixels, ours between them
    assert np.abs(np.abs(ours) - np.abs(other))[far].max() <= 1.0


def test_distances_by_hand() -> None:
    mask = np.zeros((3, 6), bool)
    mask[:, 2:4] = True
    np.testing.assert_allclose(signed_distance(mask)[1], [-1.5, -0.5, 0.5, 0.5, -0.5, -1.5])
    assert (signed_distance(mask & False) == -np.inf).all()


def test_a_probability_is_read_between_its_pixels() -> None:
    for radius in (10.0, 10.3, 10.6):
        along = answered_distance(probability(radius))[32]
        crossing = np.interp(0, along[32:50][::-1], np.arange(32, 50)[::-1])
        assert abs(crossing - 32 - radius) < 0.35


def test_one_mask_an_image_tells_the_steady_from_the_unsteady_and_the_networks_bias() -> None:
    found = estimate(one_mask_each())
    spread = np.sqrt(found.offset + found.ripple)[:, 0]
    assert max(spread[:2]) < 0.5 * min(spread[2:])
    np.testing.assert_allclose(found.bias[:2, 0], 0, atol=0.02)
    assert found.bias[2, 0] == pytest.approx(0.2, abs=0.07)
    assert found.network_bias[0] == pytest.approx(0.05, abs=0.02)


def test_a_steady_rater_is_followed_and_an_unsteady_one_is_not() -> None:
    seen = one_mask_each()
    found = estimate(seen)
    truth, moved = 16.0, []
    for rater, bias in ((0, found.bias[0, 0]), (3, found.bias[3, 0])):
        masks, rated = np.zeros((4, 1, SIZE, SIZE), bool), np.zeros((4, 1), bool)
        masks[rater, 0], rated[rater] = disc(truth * (1.03 + bias)), True
        answer = probability(truth * (1 + found.network_bias[0]))
        distance, error = locate(look(masks, rated, answer[None]), found)
        moved.append(np.sqrt((distance[0] > 0).sum() / np.pi) / truth - 1)
        assert 0 < error[0] < truth
    assert moved[0] > 0.007  # of 0.03: the network counts, too
    assert moved[1] < 0.005


def test_a_missed_structure_is_not_believed_where_the_network_sees_it() -> None:
    seen = one_mask_each()
    nobody = np.zeros((4, 1, SIZE, SIZE), bool)
    rated = np.array([[True], [False], [False], [False]])
    missed = look(nobody, rated, probability(15)[None])
    distance, _ = locate(missed, estimate([*seen, missed]))
    assert (distance[0] > 0).sum() == pytest.approx(np.pi * 15**2, rel=0.15)
    nothing = look(nobody, rated, np.zeros((1, SIZE, SIZE), np.float32))
    assert not (locate(nothing, estimate([*seen, nothing]))[0] > 0).any()


def test_slots_have_no_bias_and_are_alike() -> None:
    found = estimate(one_mask_each(), persons=False)
    assert (found.offset == found.offset[0]).all()
    assert (found.bias == found.bias[0]).all()


def test_where_nobody_drew_anything_nothing_is_known() -> None:
    masks, rated = np.zeros((2, 1, SIZE, SIZE), bool), np.ones((2, 1), bool)
    seen = look(masks, rated, np.zeros((1, SIZE, SIZE), np.float32))
    assert (estimate([seen]).bias == Observers.unknown(2, 1).bias).all()


def test_skill_depends_on_the_image_only_where_the_masks_show_it() -> None:
    draw = np.random.default_rng(0)
    features = draw.standard_normal((80, 12))
    noise = draw.standard_normal((80, 3, 1)) * 0.5
    assert not depend(features, noise).slopes.any()
    shown = noise + 1.5 * features[:, :1, None] * np.array([1.0, -1.0, 0.0])[:, None]
    found = depend(features, shown)
    assert found.gained > 0.3
    guessed = found.of(features)
    assert np.corrcoef(guessed[:, 0], features[:, 0])[0, 1] > 0.8
    assert np.corrcoef(guessed[:, 1], features[:, 0])[0, 1] < -0.8


def test_what_a_rater_would_mark_is_the_outline_moved() -> None:
    known = Observers.unknown(2, 1)
    known.bias[:, 0] = 0.2, -0.2
    distance = signed_distance(disc(15))[None]
    marks = drawn_by(distance, np.array([15.0]), known)[:, 0] > 0.5
    assert marks[0].sum() == pytest.approx(disc(18).sum(), rel=0.06)
    assert marks[1].sum() == pytest.approx(disc(12).sum(), rel=0.06)
