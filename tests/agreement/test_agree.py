"""Agreement of whole data sets, worked by hand and by counting pixels directly."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrprism.agreement import against_others, agree, fleiss_kappa
from mrprism.agreement.case import bias_of, measure, overlap_of
from mrprism.core.errors import InputError
from mrprism.core.patterns import count_patterns, merge
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.metrics.distance import hd95

from .cases import Shelf, drawn_by, shelf

NAN = float("nan")


def pixel_dice(first: np.ndarray, second: np.ndarray) -> float:
    total = first.sum() + second.sum()
    return 2 * (first & second).sum() / total if total else 1.0


def test_dice_and_hd95_matrices_equal_pixel_counts():
    data = drawn_by([0, 1, -2], cases=5)
    found = agree(data, resamples=50)
    for first, second in combinations(range(3), 2):
        pairs = [(s.masks[first, 0], s.masks[second, 0]) for s in data.samples]
        expected = np.mean([pixel_dice(a, b) for a, b in pairs])
        assert found.matrix("disc", "dice")[first, second] == pytest.approx(expected, abs=1e-12)
        distances = [hd95(a, b, (1.0, 1.0)) for a, b in pairs]
        assert found.matrix("disc", "hd95")[second, first] == pytest.approx(np.mean(distances), abs=1e-12)
    assert np.isnan(np.diag(found.matrix("disc", "dice"))).all()


def test_pooled_kappa_equals_the_kappa_of_all_pixels():
    data = drawn_by([0, 1, -1, 2], cases=6)
    whole = merge([count_patterns(sample.masks[:, 0]) for sample in data.samples])
    assert agree(data, resamples=0)["disc"].overall["fleiss_kappa"].value == pytest.approx(
        fleiss_kappa(whole)
    )


def test_sizes_are_in_millimetres_when_the_spacing_is_known():
    radii = [[5, 6], [7, 8]]
    pixels, millimetres = agree(shelf(radii)), agree(shelf(radii, spacing_mm=(0.5, 0.5)))
    assert (pixels.unit, pixels.distance_unit) == ("px", "px")
    assert (millimetres.unit, millimetres.distance_unit) == ("mm²", "mm")
    assert millimetres["disc"].sizes == pytest.approx(pixels["disc"].sizes / 4)
    key = "hd95"
    assert millimetres["disc"].overall[key].value == pytest.approx(pixels["disc"].overall[key].value / 2)


def test_where_only_some_spacings_are_known_the_others_are_left_out_and_counted():
    known, unknown = shelf([[5, 6]] * 2, spacing_mm=(1.0, 1.0)), shelf([[5, 9]])
    renamed = MultiRaterSample("last", *(getattr(unknown[0], key) for key in ("image", "masks", "rated")))
    found = agree(Shelf(known.task, [*known.samples, renamed]), resamples=10)
    assert found.unit == "mm²"
    distance = found["disc"].overall["hd95"]
    assert (distance.cases, distance.left_out, distance.undefined) == (2, 1, 0)
    assert distance.value == pytest.approx(found["disc"].cases["hd95"][0])
    assert found["disc"].overall["dice"].cases == 3


def test_three_dimensions_have_volumes():
    masks = np.zeros((2, 1, 4, 8, 8), bool)
    masks[:, 0, 1:3, 2:6, 2:6] = True
    masks[1, 0, 3, 2:6, 2:6] = True
    sample = MultiRaterSample(
        "one", np.zeros((1, 4, 8, 8), np.float32), masks, np.ones((2, 1), bool), spacing_mm=(2.0, 1.0, 1.0)
    )
    found = agree(Shelf(Task(1, ("disc",), ("a", "b")), [sample]), resamples=10)
    assert found.unit == "mm³"
    assert found["disc"].sizes.tolist() == [[64, 96]]
    assert found["disc"].overall["all_raters"].value == 64
    assert found["disc"].overall["dissent"].value == 32


def test_against_others_by_hand():
    # three raters; columns are pixels
    masks = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 1, 0]], bool)
    found = against_others(count_patterns(masks))
    # for the first rater the other two give 11, 10, 00, 01, 00: one vote for, two ties
    assert found[0].tolist() == [3, 1, 1, 2, 1]
    over, under, net = bias_of(found[0])
    assert (over, under, net) == (
        1.5 / 2,
        0.5 / 2,
        1 / 2,
    )  # the third pixel, half the second; half the fourth
    assert overlap_of(found[0]).tolist() == pytest.approx([2 / 4, 1, 1 / 3])


def test_who_draws_larger_is_said_to_over_draw():
    found = agree(drawn_by([0, 0, 2, -2]), resamples=200)["disc"].raters
    bias = found["bias"]
    assert np.argmax(bias.value) == 2
    assert np.argmin(bias.value) == 3
    assert bias.low[2] > 0
    assert bias.high[3] < 0
    assert found["size"].value.argmax() == 2
    assert bias.value == pytest.approx(found["over_drawn"].value - found["under_drawn"].value)


def test_intervals_of_shares_stay_on_their_scale():
    """One patient of three was drawn too large: Student's t alone would reach below nothing."""
    found = agree(shelf([[14, 10, 10], [10, 10, 10], [10, 10, 10]]), resamples=20)["disc"].raters
    over, under, net = found["over_drawn"], found["under_drawn"], found["bias"]
    assert over.value[0] > 0
    assert str(over.by[0]) == "Student's t"
    assert over.low[0] == 0
    assert over.high[0] > over.value[0]
    assert under.value[0] == 0
    assert net.low[0] < 0, "the net may lie on either side"


def test_exchangeable_raters_are_not_biased():
    bias = agree(drawn_by([0, 0, 0], cases=40), resamples=10)["disc"].raters["bias"].value
    assert abs(bias.mean()) < 0.01  # were ties background, all three would over-draw


def test_patients_are_resampled_not_images():
    radii = np.random.default_rng(0).uniform(6, 12, (4, 2)).repeat(5, axis=0)
    alone = agree(shelf(radii), resamples=500)["disc"].overall["dice"]
    patients = [f"p{i // 5}" for i in range(20)]
    together = agree(shelf(radii, groups=patients), resamples=500)["disc"].overall["dice"]
    assert together.value == alone.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_one_patient_has_no_interval():
    dice = agree(shelf([[5, 6], [7, 8]], groups=["p", "p"]), resamples=20)["disc"].overall["dice"]
    assert dice.value > 0.5
    assert np.isnan(dice.low)
    assert np.isnan(dice.high)


def test_equal_seeds_give_equal_answers():
    data = drawn_by([0, 1, 2], cases=5)
    assert agree(data, seed=3, resamples=50).to_json() == agree(data, seed=3, resamples=50).to_json()
    assert agree(data, seed=3, resamples=50).to_json() != agree(data, seed=4, resamples=50).to_json()


@pytest.mark.parametrize("radius", [0, 100])
def test_all_empty_and_all_full_are_defined(radius):
    found = agree(shelf([[radius] * 3] * 3), resamples=20)
    overall = found["disc"].overall
    assert overall["dice"].value == 1
    assert overall["gwet_ac1"].value == 1
    assert np.isnan(overall["fleiss_kappa"].value)
    assert overall["fleiss_kappa"].undefined == 3
    assert (overall["hd95"].undefined == 3) == (radius == 0)
    json.dumps(found.to_json(), allow_nan=False)


def test_an_absent_rater_is_not_an_empty_one():
    absent = agree(shelf([[8, 9, NAN], [7, 9, 8]]), resamples=10)
    empty = agree(shelf([[8, 9, 0], [7, 9, 8]]), resamples=10)
    assert absent["disc"].cases["dice"][0] == pytest.approx(
        agree(shelf([[8, 9]] * 2))["disc"].cases["dice"][0]
    )
    assert empty["disc"].cases["dice"][0] < absent["disc"].cases["dice"][0]
    assert absent["disc"].pairs["dice"].cases.tolist() == [2, 1, 1]


def test_what_stands_where_nobody_rated_is_not_read():
    clean = shelf([[8, 9, NAN], [7, NAN, 8]])
    dirty = shelf([[8, 9, NAN], [7, NAN, 8]])
    for sample in dirty.samples:
        sample.masks[~sample.rated[:, 0]] = True
    assert agree(clean, resamples=20).to_json() == agree(dirty, resamples=20).to_json()


def test_anonymous_raters_have_no_persons_statistics():
    found = agree(drawn_by([0, 1, 2], cases=4), resamples=10)
    hidden = drawn_by([0, 1, 2], cases=4)
    hidden = Shelf(Task(1, ("disc",), hidden.task.raters, anonymous=True), hidden.samples)
    anonymous = agree(hidden, resamples=10)
    part = anonymous["disc"]
    assert (part.pairs, part.raters, part.spread) == ({}, {}, ())
    assert "cohen_kappa" not in part.overall
    assert {"ICC1", "ICC1k"} == {key for key in part.overall if key.startswith("ICC")}
    assert part.overall["fleiss_kappa"].value == found["disc"].overall["fleiss_kappa"].value
    assert "anonymous" in anonymous.to_json()["note"]


def test_slots_of_anonymous_raters_may_be_shuffled_case_by_case():
    data = drawn_by([0, 1, 2, -1], cases=6)
    task = Task(1, ("disc",), data.task.raters, anonymous=True)
    rng = np.random.default_rng(0)
    shuffled = [MultiRaterSample(s.name, s.image, s.masks[rng.permutation(4)], s.rated) for s in data.samples]
    first = agree(Shelf(task, data.samples), resamples=20)["disc"].overall
    second = agree(Shelf(task, shuffled), resamples=20)["disc"].overall
    for key, value in first.items():
        assert value.value == pytest.approx(second[key].value, abs=1e-10)


radii = st.lists(st.lists(st.sampled_from([NAN, 0, 3, 6, 9]), min_size=3, max_size=3), min_size=1, max_size=3)


@settings(max_examples=20, deadline=None)
@given(radii, st.permutations(range(3)))
def test_the_order_of_raters_never_matters(rows, order):
    table = np.array(rows, float)
    if ((~np.isnan(table)).sum(axis=1) < 2).all():
        with pytest.raises(InputError):
            agree(shelf(table), resamples=5)
        return
    found = agree(shelf(table), resamples=5)
    json.dumps(found.to_json(), allow_nan=False)
    moved = agree(shelf(table[:, order]), resamples=5)
    for key, value in found["disc"].overall.items():
        assert value.value == pytest.approx(moved["disc"].overall[key].value, abs=1e-9, nan_ok=True)
    square, other = found.matrix("disc", "dice"), moved.matrix("disc", "dice")
    assert square[np.ix_(order, order)] == pytest.approx(other, nan_ok=True)
    for key, value in found["disc"].raters.items():
        assert value.value[order] == pytest.approx(moved["disc"].raters[key].value, abs=1e-12, nan_ok=True)


def test_hardest_cases_come_first():
    found = agree(shelf([[8, 8.5], [4, 12], [8, NAN], [6, 8]]), resamples=5)
    assert found.hardest() == [1, 3, 0]
    assert [row["case"] for row in found.tables()["cases"]] == ["case1", "case3", "case0", "case2"]


def test_many_raters():
    rng = np.random.default_rng(0)
    masks = rng.random((60, 12, 12)) < 0.5
    case = measure(masks, np.ones(60, bool), distances=False)
    assert case.dice[0] == pytest.approx(pixel_dice(masks[0], masks[1]))
    assert len(case.dice) == 60 * 59 // 2


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (Shelf(Task(1, ("disc",), ("a", "b")), []), "no cases"),
        (shelf([[5]]), "one rater only"),
        (shelf([[5, NAN], [NAN, 5]]), "no case of shelf was outlined by two raters"),
        (shelf([[NAN, NAN]]), "no case of shelf"),
        (Shelf(Task(1, ("disc",), ("a", "b", "c")), shelf([[5, 6]]).samples), "case0"),
    ],
)
def test_bad_input_is_one_sentence(data, sentence):
    with pytest.raises(InputError, match=sentence):
        agree(data)
