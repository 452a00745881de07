"""Raters and a network as observers of one outline: distances, who draws how, where the outline lies."""

from __future__ import annotations

import numpy as np
import pytest

from mrprism.fusion.drawing import signed_distance
from mrprism.learn.habits import Observers, depend, drawn_by, estimate, locate, optimism, worth
from mrprism.learn.outlines import Seen, answered_distance, look

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


def test_without_the_network_a_lone_mask_is_moved_by_its_rater_s_habit_and_worth_what_they_are() -> None:
    found = estimate(one_mask_each())
    value = {}
    for rater in (0, 2):
        masks, rated = np.zeros((4, 1, SIZE, SIZE), bool), np.zeros((4, 1), bool)
        masks[rater, 0], rated[rater] = disc(16 * (1 + found.bias[rater, 0])), True
        for answer in (15.5, 16.8, 18.5):  # whatever the network says, near enough
            seen = look(masks, rated, probability(answer)[None])
            distance, error = locate(seen, found, network=False)
            assert np.sqrt((distance[0] > 0).sum() / np.pi) == pytest.approx(
                16, rel=0.06
            )  # habits are in radii of what it says
            value[rater, answer] = worth(seen, found)[0]
            own = (error[0] / seen.radius[0]) ** 2 + found.network_offset[0] + found.network_ripple[0]
            assert value[rater, answer] == pytest.approx(1 / own)
    assert value[0, 16.8] > 2 * value[2, 16.8]  # the steady rater's
    assert value[0, 16.8] > 1.2 * value[0, 18.5]  # and one who is unlike themselves
    nobody = look(np.zeros_like(masks), np.zeros_like(rated), probability(16)[None])
    assert np.isinf(locate(nobody, found, network=False)[1]).all() and np.isnan(worth(nobody, found)).all()


def test_a_missed_structure_is_not_believed_where_the_network_sees_it() -> None:
    seen = one_mask_each()
    nobody = np.zeros((4, 1, SIZE, SIZE), bool)
    rated = np.array([[True], [False], [False], [False]])
    missed = look(nobody, rated, probability(15)[None])
    distance, _ = locate(missed, estimate([*seen, missed]))
    assert (distance[0] > 0).sum() == pytest.approx(np.pi * 15**2, rel=0.15)
    nothing = look(nobody, rated, np.zeros((1, SIZE, SIZE), np.float32))
    assert not (locate(nothing, estimate([*seen, nothing]))[0] > 0).any()


def several_masks_each(wobble: float, follows: int = 0, images: int = 60) -> list[Seen]:
    """Every image outlined by three steady raters and a network that wobbles; on the first images it follows them."""
    draw = np.random.default_rng(3)
    seen = []
    for number in range(images):
        radius = draw.uniform(14, 20)
        errors = 0.04 * draw.standard_normal(3)
        masks = np.array([[disc(radius * (1 + error))] for error in errors])
        own = errors.mean() if number < follows else wobble * draw.standard_normal()
        seen.append(look(masks, np.ones((3, 1), bool), probability(radius * (1 + own))[None]))
    return seen


@pytest.mark.parametrize("wobble", [0.03, 0.06, 0.12])
@pytest.mark.parametrize("persons", [True, False])
def test_two_masks_of_an_image_tell_how_unsteady_the_network_is(wobble: float, persons: bool) -> None:
    found = estimate(several_masks_each(wobble), persons=persons)
    assert np.sqrt(found.network_offset[0]) == pytest.approx(wobble, rel=0.3)
    if wobble < 0.1:  # steady enough to see the raters beside it
        np.testing.assert_allclose(np.sqrt(found.offset[:, 0]), 0.04, atol=0.02)


def test_a_network_that_follows_the_masks_it_was_shown_is_not_believed_for_it() -> None:
    seen = several_masks_each(0.08, follows=45)
    held = np.arange(len(seen)) >= 45
    hidden = optimism(seen, held)
    assert hidden[0, 0] > 2
    plain, careful = estimate(seen[:45]), estimate(seen[:45], hidden=hidden)
    assert careful.network_offset[0] > 2 * plain.network_offset[0]
    assert (optimism(several_masks_each(0.08), held) < 2).all()


def test_of_many_masks_some_pairs_are_looked_at() -> None:
    masks = np.array([[disc(radius)] for radius in np.linspace(12, 18, 30)])
    seen = look(masks, np.ones((30, 1), bool), probability(15)[None])
    assert len(seen.pairs) == 8 * 7 / 2
    assert {0, 29} <= {pair.one for pair in seen.pairs} | {pair.other for pair in seen.pairs}


def test_a_network_that_has_not_learned_a_structure_says_nothing_against_masks() -> None:
    masks, rated = np.array([[disc(15)]] * 3), np.ones((3, 1), bool)
    seen = [look(masks, rated, np.zeros((1, SIZE, SIZE), np.float32))] * 2
    assert (locate(seen[0], estimate(seen))[0] > 0).any()


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
