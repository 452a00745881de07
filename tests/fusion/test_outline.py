"""Raters as observers of one outline, against distances by hand and by ITK, and raters of known style."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.raters import SCENARIOS, Scenario, Style, draw_raters
from mrprism.datasets.write import write_dataset
from mrprism.fusion import FUSIONS
from mrprism.fusion.cases import fuse_cases
from mrprism.fusion.drawing import look, signed_distance
from mrprism.fusion.observers import common_bias, observe, sample
from mrprism.fusion.outline import outline
from mrprism.fusion.outline_table import OutlineRow, outline_rows, tell
from mrprism.fusion.pooling import pool_observers
from mrprism.fusion.robust import tightest_bundle, weighted_median
from mrprism.metrics.overlap import dice


def disc(radius: float, size: int = 64, centre: tuple[float, float] | None = None) -> np.ndarray:
    row, column = np.ogrid[:size, :size]
    y, x = centre or (size / 2 - 0.5, size / 2 - 0.5)
    return np.hypot(row - y, column - x) < radius


def all_rated(masks: np.ndarray) -> np.ndarray:
    return np.ones(masks.shape[:2], bool)


def drawn(styles: list[Style], cases: int, seed: int = 0, size: int = 64) -> list[MultiRaterSample]:
    """Discs of differing size and place, drawn by raters of these styles."""
    found = []
    for number in range(cases):
        rng = np.random.default_rng((seed, number))
        truth = disc(rng.uniform(9, 16), size, tuple(size / 2 + rng.uniform(-4, 4, 2)))[None]
        masks, rated = draw_raters(truth, Scenario(tuple(styles)), rng)
        image = np.zeros((1, size, size), np.float32)
        found.append(MultiRaterSample(f"case {number}", image, masks, rated, truth, group=f"p{number}"))
    return found


def mean_dice(fused, cases: list[MultiRaterSample]) -> float:
    pairs = zip(fused, cases, strict=True)
    return float(np.mean([dice(f.probability[0] > 0.5, c.reference[0]) for f, c in pairs]))


def test_distances_by_hand():
    mask = np.zeros((1, 7), bool)
    mask[0, 2:5] = True  # its outline runs at 1.5 and 4.5
    np.testing.assert_allclose(signed_distance(mask)[0], [-1.5, -0.5, 0.5, 1.5, 0.5, -0.5, -1.5])
    corner = np.zeros((4, 4), bool)
    corner[0, 0] = True
    assert signed_distance(corner, (1.0, 3.0))[2, 0] == pytest.approx(-1.5)
    assert signed_distance(corner, (1.0, 3.0))[0, 1] == pytest.approx(-1.5)  # 3 mm away, less half of 3 mm
    assert signed_distance(corner, (1.0, 3.0))[2, 1] == pytest.approx(-np.hypot(1.5, 1.5))
    assert (signed_distance(np.ones((3, 3), bool)) == np.inf).all()
    assert (signed_distance(np.zeros((3, 3), bool)) == -np.inf).all()


@pytest.mark.parametrize("spacing", [None, (0.8, 0.8, 0.8)])
def test_distances_are_those_of_itk(spacing):
    itk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(0)
    mask = rng.random((9, 10, 11)) < 0.6
    ours = signed_distance(mask, spacing)
    step = 1.0 if spacing is None else spacing[0]
    for side, sign in ((mask, -1), (~mask, 1)):  # to the nearest pixel of a side, from the other one
        image = itk.GetImageFromArray(side.astype(np.uint8))
        image.SetSpacing((step,) * 3)
        theirs = itk.GetArrayFromImage(itk.SignedMaurerDistanceMap(image, False, False, True))
        np.testing.assert_allclose(sign * ours[~side], theirs[~side] - step / 2, rtol=1e-5)


def test_long_pixels_are_measured_from_their_faces():
    """A ball on a grid four times as coarse along one axis: distances as on the fine one."""
    fine, long = np.mgrid[-20:21, -20:21, -20:21], np.mgrid[-20:21:4, -20:21, -20:21]
    inside = [np.sqrt((grid**2).sum(0)) < 12.3 for grid in (fine, long)]
    exact = 12.3 - np.sqrt((long**2).sum(0))
    found = signed_distance(inside[1], (4.0, 1.0, 1.0))
    near = np.abs(exact) < 6
    assert np.abs(found - exact)[near].mean() < 1.0
    assert abs((found - exact)[near].mean()) < 0.25  # neither side is favoured


def test_two_circles_give_the_one_between():
    masks = np.stack([disc(8.0), disc(14.0)])[:, None]
    fused = FUSIONS["outline"](masks, all_rated(masks))
    assert (fused.probability[0] > 0.5).sum() == pytest.approx(disc(11.0).sum(), rel=0.03)
    assert 0 < fused.probability[0][disc(14.0) & ~disc(8.0)].mean() < 1


def test_the_mask_that_strays_from_the_others_counts_less():
    masks = np.stack([disc(r, centre=(31, 31 + r / 10)) for r in (10, 10.3, 10.6, 16)])[:, None]
    size = (FUSIONS["outline"](masks, all_rated(masks)).probability[0] > 0.5).sum()
    mean = (FUSIONS["shape-average"](masks, all_rated(masks)).probability[0] > 0.5).sum()
    assert disc(10.3).sum() * 0.95 < size < mean - 20


def test_a_piece_that_most_did_not_mark_is_not_there():
    main, small = disc(9, centre=(20, 20)), disc(4, centre=(50, 50))
    marked_by = {1: 0.0, 3: 1.0}
    for many, there in marked_by.items():
        masks = np.stack([main | (small & (r < many)) for r in range(4)])[:, None]
        fused = FUSIONS["outline"](masks, all_rated(masks)).probability[0]
        assert (fused[20, 20] > 0.5, fused[50, 50] > 0.5) == (True, bool(there))
    even = FUSIONS["outline"](masks[[0, 3]], all_rated(masks[[0, 3]]))
    assert even.probability[0, 50, 50] <= 0.5


def test_who_marked_nothing_says_it_is_not_there():
    masks = np.stack([disc(9), disc(10), disc(0)])[:, None]
    assert (FUSIONS["outline"](masks, all_rated(masks)).probability > 0.5).any()
    masks = np.stack([disc(9), disc(0), disc(0)])[:, None]
    assert not (FUSIONS["outline"](masks, all_rated(masks)).probability > 0.5).any()


def test_a_hole_that_all_leave_stays():
    ring = disc(14) & ~disc(5)
    masks = np.stack([ring, ring & disc(13), ring])[:, None]
    fused = FUSIONS["outline"](masks, all_rated(masks)).probability[0] > 0.5
    assert not fused[31, 31]
    assert dice(fused, ring) > 0.97


def test_known_biases_and_spreads_are_found():
    styles = [Style(bias=b, jitter=0.03, wobble=0.03) for b in (-0.15, 0.0, 0.15, 0.0)]
    styles += [Style(jitter=0.15, wobble=0.1)]
    cases = drawn(styles, 40)
    found = pool_observers(cases).observers[0]
    np.testing.assert_allclose(found.bias[:4], [-0.15, 0, 0.15, 0], atol=0.03)
    assert found.spread[:4].max() < 0.08 < found.spread[4]
    assert found.spread[4] == pytest.approx(np.hypot(0.15, 0.1), rel=0.3)
    assert found.linked.all()


def test_biased_and_unsteady_raters_are_seen_through():
    good, odd = Style(wobble=0.02, jitter=0.02), Style(bias=0.25, jitter=0.12, wobble=0.1)
    cases = drawn([good, good, odd, odd, odd, odd, odd], 30)
    assert mean_dice(fuse_cases(cases, "outline", pooled=True), cases) > 0.965
    assert mean_dice(fuse_cases(cases, "majority"), cases) < 0.9


def test_one_rater_steady_as_a_rock_does_not_dictate():
    rock = Style(bias=0.25, wobble=0.0)
    others = [Style(jitter=0.04, wobble=0.05)] * 6
    found = pool_observers(drawn([rock, *others], 40)).observers[0]
    assert found.bias[0] > 0.15
    assert np.abs(found.bias[1:]).max() < 0.08


def test_the_common_bias_is_where_most_agree_and_the_steady_more_so():
    assert common_bias(np.array([0.0, 0.01, -0.01, 0.5]), np.full(4, 0.05), 0.02) == pytest.approx(
        0, abs=0.03
    )
    unsteady = common_bias(np.array([0.0, 0.0, 0.2, 0.2, 0.2]), np.array([0.03, 0.03, 0.2, 0.2, 0.2]), 0.02)
    assert unsteady == pytest.approx(0, abs=0.02)
    even = np.linspace(-0.2, 0.2, 7)
    assert common_bias(even, np.full(7, 0.05), 0.02) == pytest.approx(0, abs=1e-6)
    for shift in (-3.0, 0.4):
        moved = common_bias(even + shift, np.full(7, 0.05), 0.02)
        assert moved == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize("bias", [0.2, -0.2])
def test_of_two_raters_the_one_whose_outlines_vary_less_in_themselves_counts_more(bias):
    unsteady = Style(bias=bias, jitter=0.12, wobble=0.12, shift=0.06)
    cases = drawn([Style(wobble=0.03), unsteady], 40)
    found = pool_observers(cases).observers[0]
    assert found.spread[1] > 2 * found.spread[0]
    assert abs(found.bias[0]) < 0.03 < abs(found.bias[1])
    fused = mean_dice(fuse_cases(cases, "outline", pooled=True), cases)
    assert fused > mean_dice(fuse_cases(cases, "majority"), cases)  # and whichever draws larger
    assert fused > mean_dice(fuse_cases(cases, "band", pooled=True), cases) - 0.003


@pytest.mark.parametrize(
    "styles", [[Style(wobble=0.04, jitter=0.05)] * 2, [Style(bias=0.2, wobble=0.2), Style()]]
)
def test_two_raters_of_whom_little_is_known_share_the_blame(styles):
    found = pool_observers(drawn(styles, 7)).observers[0]
    assert found.spread[0] == found.spread[1]
    assert found.bias[0] == pytest.approx(-found.bias[1], abs=1e-6)


def test_of_two_volumes_the_steadier_counts_more():
    cases = []
    for number in range(24):
        rng = np.random.default_rng(number)
        grid = np.mgrid[:9, :20, :20] * np.array([2.0, 1.0, 1.0])[:, None, None, None]
        away = np.linalg.norm(grid - np.array([8, 9.5, 9.5])[:, None, None, None], axis=0)
        size = rng.uniform(5.5, 6.5)
        masks = np.stack([away < size, away < size + rng.normal(1, 1.2)])[:, None]
        image = np.zeros((1, *away.shape), np.float32)
        cases.append(
            MultiRaterSample(str(number), image, masks, all_rated(masks), spacing_mm=(2.0, 1.0, 1.0))
        )
    found = pool_observers(cases).observers[0]
    assert found.spread[1] > 1.5 * found.spread[0]


def test_a_rater_who_saw_nothing_leaves_no_hole_in_what_another_drew():
    masks = np.stack([disc(20), disc(20), np.zeros((64, 64), bool)])[:, None]
    case = MultiRaterSample("one", np.zeros((1, 64, 64), np.float32), masks, all_rated(masks))
    known = pool_observers([case] * 3)
    inside = outline(masks, case.rated, observers=known.observers).probability[0]
    assert 0.5 < inside[32, 32] < 1
    assert inside[disc(18)].min() == inside[disc(18)].max()


def test_raters_who_never_met_are_not_compared():
    cases = drawn([Style(wobble=0.03)] * 3, 8)
    for number, case in enumerate(cases):
        case.rated[:] = False
        case.rated[number % 3] = True
    found = pool_observers(cases).observers[0]
    assert not found.linked.any()
    assert not found.bias.any()
    for fused, case in zip(fuse_cases(cases, "outline", pooled=True), cases, strict=True):
        np.testing.assert_array_equal(fused.probability[0] > 0.5, case.masks[case.rated[:, 0], 0][0])


def test_who_adds_pieces_and_who_misses_them():
    blob, stray = disc(9, centre=(20, 20)), disc(3, centre=(52, 52))
    sights = []
    for n in range(20):
        masks = np.stack([blob, blob, blob, blob | stray, blob if n % 2 else blob & False])
        sights.append(sample(look(masks, np.ones(5, bool))))
    found = observe(sights, 5)
    assert found.presence[3, 0, 1] > 0.5 > found.presence[0, 0, 1]
    assert found.presence[4, 1, 0] == pytest.approx(0.5, abs=0.1)
    assert found.presence[0, 1, 0] < 0.1


def test_the_probability_is_calibrated():
    scenario = SCENARIOS["symmetric"]
    cases = drawn(list(scenario.styles), 40, seed=3)
    chance, truth = [], []
    for fused, case in zip(fuse_cases(cases, "outline", pooled=True), cases, strict=True):
        unsure = (fused.probability[0] > 0.02) & (fused.probability[0] < 0.98)
        chance.append(fused.probability[0][unsure])
        truth.append(case.reference[0][unsure])
    chance, truth = np.concatenate(chance), np.concatenate(truth)
    for low, high in ((0.02, 0.25), (0.25, 0.75), (0.75, 0.98)):
        some = (chance >= low) & (chance < high)
        assert truth[some].mean() == pytest.approx(chance[some].mean(), abs=0.12)


def test_millimetres_do_not_depend_on_the_grid():
    cases = drawn([Style(bias=0.2, wobble=0.02), Style(wobble=0.02), Style(wobble=0.02)], 10)
    plain = pool_observers(cases)
    scaled = [MultiRaterSample(**{**vars(case), "spacing_mm": (0.5, 0.5)}) for case in cases]
    in_mm = pool_observers(scaled)
    assert (plain.unit, in_mm.unit) == ("px", "mm")
    assert in_mm.observers[0].size == pytest.approx(0.5 * plain.observers[0].size)
    np.testing.assert_allclose(in_mm.observers[0].bias, plain.observers[0].bias, atol=1e-6)
    mixed = pool_observers([*scaled[:5], *cases[5:]])
    assert mixed.unit == "px"
    np.testing.assert_allclose(mixed.observers[0].bias, plain.observers[0].bias)


def test_the_table_in_millimetres():
    styles = [Style(bias=0.2, wobble=0.02), *[Style(wobble=0.03)] * 4]
    cases = drawn(styles, 24)
    cases = [MultiRaterSample(**{**vars(case), "spacing_mm": (0.5, 0.5)}) for case in cases]
    task = Task(1, ("disc",), tuple("abcde"))
    rows = outline_rows(cases, task, [case.group for case in cases])
    # radii of 9 to 16 pixels of half a millimetre: a fifth of the radius is about 1.25 mm
    assert rows[0].outside == pytest.approx(1.25, abs=0.2)
    assert rows[0].outside_low < rows[0].outside < rows[0].outside_high
    assert rows[0].unit == "mm"
    assert rows[0].interval == "bootstrap over 24 patients"
    assert all(abs(row.outside) < 0.2 for row in rows[1:])
    assert rows[0].missed == pytest.approx(0, abs=0.02)
    assert outline_rows(cases, Task(1, ("disc",), tuple("abcde"), anonymous=True), []) == []


def test_what_the_table_says():
    row = OutlineRow("disc", "ann", 9, "mm", 1.31, 0.9, 1.68, 0.8, 0.7, 0.9, None, None, "")
    assert tell(row) == "1.3 mm outside (0.9 to 1.7), ± 0.8 mm"
    row = OutlineRow("disc", "ann", 9, "px", -0.5, -0.8, 0.1, 0.8, 0.7, 0.9, None, None, "")
    assert tell(row) == "0.5 px inside (-0.1 to 0.8), ± 0.8 px"
    row = OutlineRow("disc", "ann", 9, "px", 0.1, -0.04, 0.2, 0.8, 0.7, 0.9, None, None, "")
    assert tell(row) == "0.1 px outside (0.0 to 0.2), ± 0.8 px"
    assert tell(OutlineRow("disc", "ann", 0, "px", *[None] * 8, "none")) == "–"


def test_weighted_median_by_hand():
    values = np.array([[1.0], [2.0], [4.0]])
    assert weighted_median(values, np.array([[1.0], [1.0], [1.0]]))[0] == 2
    assert weighted_median(values, np.array([[3.0], [1.0], [1.0]]))[0] == 1
    assert weighted_median(values, np.array([[2.0], [1.0], [1.0]]))[0] == 1.5


def test_command_writes_the_table(tmp_path, capsys):
    cases = drawn([Style(bias=0.2, wobble=0.03), Style(wobble=0.03), Style(wobble=0.03)], 5)
    task = Task(1, ("disc",), ("ann", "ben", "cem"))
    data = write_dataset(cases, tmp_path / "data", name="discs", task=task)
    out = tmp_path / "out"
    given = ["fuse", str(data), "--method", "outline", "--pooled", "--out", str(out)]
    assert call(given) == 0
    said = capsys.readouterr().out
    assert "px outside (" in said
    table = json.loads((out / "outline.json").read_text())
    assert [row["rater"] for row in table] == ["ann", "ben", "cem"]
    assert table[0]["outside"] > 1
    assert (out / "outline.csv").read_text().startswith("structure,rater,cases,unit,outside")
    assert call([*given, "--json"]) == 0  # all done already: the same table from what was written
    assert json.loads(capsys.readouterr().out)["outlines"] == table


def test_nothing_drawn_at_all_is_said():
    case = drawn([Style(), Style()], 1)[0]
    case.rated[:] = False
    with pytest.raises(InputError, match="no rater at all drew"):
        pool_observers([case])


def test_a_bundle_of_three_outweighs_four_that_are_scattered():
    """Numbers on a line: three masks at 0, four far outside and apart; the median lies outside, the bundle does not."""
    places = np.array([0.0, 0.01, -0.01, 0.2, 0.3, 0.45, 0.6])
    distance = np.linspace(-0.2, 0.2, 41) + places[:, None]
    found = tightest_bundle(
        distance, np.ones(distance.shape, bool), np.full(7, 0.15**2),
        least=0.02**2, near=0.1, pixel_tail=20.0, mask_tail=2.0, stretches=10.0,
    )  # fmt: skip
    np.testing.assert_allclose(found.hidden, np.linspace(-0.2, 0.2, 41), atol=0.03)
    assert found.variance[:3].max() < found.variance[3:].min() / 4
    assert np.median(distance, axis=0)[20] == pytest.approx(0.2)


def test_where_who_draws_well_changes_from_image_to_image_each_image_is_told_by_its_bundle():
    good, odd = Style(wobble=0.02, jitter=0.02), Style(bias=0.2, jitter=0.15, wobble=0.12)
    one, other = [good] * 3 + [odd] * 4, [odd] * 3 + [good] * 3 + [odd]
    cases = drawn(one, 16) + drawn(other, 16, seed=1)
    found = pool_observers(cases).observers[0]
    assert found.erratic
    assert not found.bias.any()
    assert not pool_observers(drawn(one, 32)).observers[0].erratic
    assert mean_dice(fuse_cases(cases, "outline", pooled=True), cases) > 0.97
    assert mean_dice(fuse_cases(cases, "majority"), cases) < 0.95
