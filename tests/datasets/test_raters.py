"""Simulated raters draw as their style says, measured on what they draw."""

from __future__ import annotations

import numpy as np
import pytest

from mrprism.datasets.phantom import phantom
from mrprism.datasets.raters import SCENARIOS, Scenario, Style, draw, draw_raters


def ball(radius: float, size: int = 160) -> np.ndarray:
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    return np.asarray(np.hypot(row, column) <= radius)


def radius_of(mask: np.ndarray) -> float:
    return float(np.sqrt(mask.sum() / np.pi))


@pytest.mark.parametrize("bias", [-0.5, -0.2, 0.0, 0.1, 0.28])
@pytest.mark.parametrize("radius", [15, 45])
def test_bias_is_a_fraction_of_the_radius(bias: float, radius: int) -> None:
    truth = ball(radius)
    drawn = draw(truth, Style(bias=bias, wobble=0.0), np.random.default_rng(0))
    assert radius_of(drawn) / radius_of(truth) - 1 == pytest.approx(bias, abs=0.6 / radius)


def test_bias_and_jitter_over_many_drawings() -> None:
    truth, style = ball(40), Style(bias=0.15, jitter=0.1, wobble=0.0)
    rng = np.random.default_rng(1)
    margins = [radius_of(draw(truth, style, rng)) / radius_of(truth) - 1 for _ in range(150)]
    assert np.mean(margins) == pytest.approx(0.15, abs=0.03)  # 0.1 / sqrt(150) is 0.008
    assert np.std(margins) == pytest.approx(0.1, abs=0.02)


def test_wobble_is_the_outlines_waviness() -> None:
    truth, rng = ball(40), np.random.default_rng(2)
    row, column = np.mgrid[:160, :160] - 79.5
    angle = np.arctan2(row, column)
    spreads = []
    for _ in range(20):
        drawn = draw(truth, Style(wobble=0.1), rng)
        sectors = [drawn[np.abs(angle - at) < 0.05].sum() / 0.1 for at in np.linspace(-3, 3, 40)]
        spreads.append(np.std(np.sqrt(2 * np.array(sectors))) / 40)
    assert np.mean(spreads) == pytest.approx(0.1, abs=0.03)


def test_shift_moves_the_drawing_and_keeps_its_size() -> None:
    truth, rng = ball(20), np.random.default_rng(3)
    moves = []
    for _ in range(80):
        drawn = draw(truth, Style(shift=0.3, wobble=0.0), rng)
        assert radius_of(drawn) == pytest.approx(20, rel=0.06)
        moves.append(np.argwhere(drawn).mean(axis=0) - 79.5)
    assert np.mean(moves, axis=0) == pytest.approx([0, 0], abs=2.0)
    assert np.std(moves, axis=0) == pytest.approx([6, 6], rel=0.3)


def test_shrinking_never_makes_a_structure_vanish() -> None:
    drawn = draw(ball(20), Style(bias=-5.0, wobble=0.0), np.random.default_rng(0))
    assert drawn.any()
    assert radius_of(drawn) < 8


def test_nothing_there_is_drawn_as_nothing() -> None:
    assert not draw(np.zeros((30, 30), bool), Style(bias=0.5), np.random.default_rng(0)).any()


def test_a_missed_structure_is_empty_and_an_undone_one_is_absent() -> None:
    truth = np.stack([ball(30, 80), ball(12, 80)])
    missing = Scenario((Style(misses=1.0), Style(absent=1.0), Style()))
    masks, rated = draw_raters(truth, missing, np.random.default_rng(0))
    assert rated.tolist() == [[True, True], [False, False], [True, True]]
    assert not masks[0].any()
    assert not masks[1].any()
    assert masks[2].any(axis=(1, 2)).all()


def test_somebody_does_every_structure() -> None:
    nobody = Scenario((Style(absent=1.0), Style(absent=1.0)))
    for seed in range(10):
        _, rated = draw_raters(np.stack([ball(30, 80), ball(12, 80)]), nobody, np.random.default_rng(seed))
        assert rated.any(axis=0).all()
        assert rated.sum() == 2


def test_drawings_stay_nested_where_the_truth_is() -> None:
    for sample in phantom("crowd", size=64, cases=20, seed=9):
        disc, cup = sample.masks[:, 0], sample.masks[:, 1]
        saw_disc = disc.any(axis=(1, 2))
        assert not (cup & ~disc)[saw_disc].any()


def test_a_volume_is_drawn_like_an_image() -> None:
    row, column, depth = np.mgrid[:40, :40, :40] - 19.5
    truth = np.sqrt(row**2 + column**2 + depth**2) <= 12
    drawn = draw(truth, Style(bias=0.25, wobble=0.0), np.random.default_rng(0))
    assert (drawn.sum() / truth.sum()) ** (1 / 3) == pytest.approx(1.25, abs=0.06)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def cup_dice(scenario: str, cases: int = 40) -> np.ndarray:
    """Mean Dice of each rater's cup with the truth."""
    scores = [
        [
            dice(mask, sample.reference[1]) if done else np.nan
            for mask, done in zip(sample.masks[:, 1], sample.rated[:, 1], strict=True)
        ]
        for sample in phantom(scenario, size=64, cases=cases)
        if sample.reference is not None
    ]
    return np.asarray(np.nanmean(scores, axis=0))


def relative_bias(scenario: str, cases: int = 40) -> np.ndarray:
    """Mean over cases of how much larger than the truth each rater draws the disc, in radii."""
    margins = [
        [radius_of(mask) / radius_of(sample.reference[0]) - 1 for mask in sample.masks[:, 0]]
        for sample in phantom(scenario, size=64, cases=cases)
        if sample.reference is not None
    ]
    return np.asarray(np.mean(margins, axis=0))


def test_symmetric_biases_are_as_stated_and_cancel() -> None:
    found = relative_bias("symmetric")
    stated = [style.bias for style in SCENARIOS["symmetric"].styles]
    assert found == pytest.approx(stated, abs=0.025)
    assert sum(stated) == pytest.approx(0, abs=1e-12)


def test_in_the_crowd_two_raters_are_good_and_most_draw_too_large() -> None:
    scores = cup_dice("crowd")
    assert scores[:2].min() > 0.93
    assert scores[2:].max() < scores[:2].min() - 0.05
    assert (relative_bias("crowd") > 0.02).sum() >= 4


def test_in_the_majority_most_share_a_bias() -> None:
    found = relative_bias("majority")
    assert np.abs(found[:3]).max() < 0.03
    assert found[3:] == pytest.approx([0.2] * 4, abs=0.06)


def test_missing_leaves_out_a_third() -> None:
    rated = np.stack([sample.rated for sample in phantom("missing", size=32, cases=60)])
    assert 1 - rated.mean() == pytest.approx(1 / 3, abs=0.04)
    assert rated.any(axis=1).all()
    assert (1 - rated.mean(axis=(0, 2))).min() > 0.15, "every rater is absent now and then"


def test_anonymous_raters_change_slots() -> None:
    named, slots = cup_dice("crowd"), cup_dice("anonymous")
    assert slots.max() - slots.min() < 0.5 * (named.max() - named.min())
    one = next(phantom("anonymous", size=64, cases=1))
    assert one.reference is not None
    good = [dice(mask, one.reference[1]) > 0.93 for mask in one.masks[:, 1]]
    assert 2 <= sum(good) <= 4


def rated_by(scenario: str, cases: int = 24) -> np.ndarray:
    return np.stack([sample.rated[:, 0] for sample in phantom(scenario, size=32, cases=cases)])


@pytest.mark.parametrize(
    ("scenario", "raters", "each"), [("sparse-40-3", 40, 3), ("sparse-40-1", 40, 1), ("sparse-7-1", 7, 1)]
)
def test_few_of_many_do_each_image(scenario: str, raters: int, each: int) -> None:
    rated = rated_by(scenario)
    assert rated.shape == (24, raters)
    assert (rated.sum(1) == each).all()
    assert len({tuple(row) for row in rated.tolist()}) > 5
    styles = SCENARIOS[scenario].styles
    assert len(set(styles)) == raters, "no two are alike"
    assert sum(style.wobble <= 0.05 for style in styles) == {40: 10, 7: 2}[raters]


def test_a_site_sees_its_own_images_and_shares_a_bias() -> None:
    rated, sites = rated_by("site"), np.array(SCENARIOS["site"].sites)
    for row in rated:
        assert row[sites < 0].all()
        assert len(set(sites[row & (sites >= 0)])) == 1
        assert row.sum() == 5
    assert len({tuple(row) for row in rated.tolist()}) == 3


def test_one_side_is_drawn_too_far_out() -> None:
    truth, style = ball(40), Style(wobble=0.0, side=0.2, towards=0.0)
    drawn = draw(truth, style, np.random.default_rng(0))
    rows = np.flatnonzero(drawn[:, 80])
    assert rows.max() - 79.5 == pytest.approx(48, abs=1.5)  # the first axis runs down
    assert 79.5 - rows.min() == pytest.approx(32, abs=1.5)
    columns = np.flatnonzero(drawn[80])
    assert columns.max() - columns.min() == pytest.approx(80, abs=2)


def test_who_copies_draws_what_was_copied() -> None:
    lead = Style(bias=0.4, wobble=0.0)
    copyist = Style(wobble=0.0, copies=(0, 1.0))
    masks, _ = draw_raters(ball(20)[None], Scenario((lead, copyist)), np.random.default_rng(0))
    assert (masks[0] == masks[1]).mean() > 0.99
    assert radius_of(masks[1, 0]) == pytest.approx(28, abs=1)


def test_care_depends_on_how_dark_the_image_is() -> None:
    truth, scenario = ball(30)[None], SCENARIOS["by-image"]
    errors = []
    for light in (0.2, 0.4):
        image = np.full((3, 160, 160), light, np.float32)
        wrong = []
        for seed in range(12):
            masks, _ = draw_raters(truth, scenario, np.random.default_rng(seed), image)
            wrong.append((masks[:, 0] != truth[0]).mean((-2, -1)))
        errors.append(np.mean(wrong, 0))
    dark, bright = errors
    assert bright[:3].max() < 0.5 * bright[3:6].min()
    assert dark[3:6].max() < 0.5 * dark[:3].min()


def test_all_share_a_bias_in_half_of_the_images() -> None:
    truth = ball(30)[None]
    sizes = []
    for seed in range(40):
        masks, _ = draw_raters(truth, SCENARIOS["half"], np.random.default_rng(seed))
        sizes.append(np.mean([radius_of(mask[0]) for mask in masks]) / radius_of(truth[0]) - 1)
    large = np.array(sizes) > 0.075
    assert 10 <= large.sum() <= 30
    assert np.mean(np.array(sizes)[large]) - np.mean(np.array(sizes)[~large]) == pytest.approx(0.15, abs=0.03)


def test_a_level_of_the_blurred_truth() -> None:
    truth = ball(30)
    halves = draw(truth, Style(level=0.5), np.random.default_rng(0))
    assert radius_of(halves) == pytest.approx(30, abs=3)
    low, high = (draw(truth, Style(level=level), np.random.default_rng(0)) for level in (0.2, 0.8))
    assert (low & ~halves).any() and (halves & ~high).any()
    assert not (high & ~low).any()


def test_waves_of_several_scales_are_rougher() -> None:
    truth = ball(40)
    rough, smooth = (
        np.mean(
            [
                np.abs(
                    np.diff(
                        draw(truth, Style(wobble=0.1, scales=scales), np.random.default_rng(s)).astype(int),
                        axis=0,
                    )
                ).sum()
                for s in range(6)
            ]
        )
        for scales in ((0.1, 0.5), (0.5,))
    )
    assert rough > smooth
