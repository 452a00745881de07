"""What `agree` says, and what it does not say, when few patients or few cases bear it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from mrprism.agreement import agree, within_spread
from mrprism.agreement.bootstrap import estimate, mean, resample
from mrprism.agreement.chance import kappa_interval
from mrprism.agreement.charts import figure
from mrprism.agreement.findings import answer, caution, finding, rests
from mrprism.agreement.page import notes
from mrprism.agreement.subset import subset_of
from mrprism.agreement.volumes import icc_intervals
from mrprism.agreement.write import write_agreement
from mrprism.core.patterns import PatternTable, count_patterns
from mrprism.core.sample import MultiRaterSample, Task

from .cases import Shelf, disc, drawn_by, shelf

NAN = float("nan")


def two_structures(disc_radii: np.ndarray, cup_radii: np.ndarray) -> Shelf:
    """Cases (rows) with the radii at which each rater (column) drew two structures."""
    one, other = shelf(disc_radii), shelf(cup_radii)
    samples = [
        MultiRaterSample(a.name, a.image, np.concatenate([a.masks, b.masks], 1), np.ones((3, 2), bool))
        for a, b in zip(one.samples, other.samples, strict=True)
    ]
    return Shelf(Task(1, ("disc", "cup"), one.task.raters), samples)


# ---- sentences ----------------------------------------------------------------------------------


def test_two_patients_make_nobody_outside_and_nothing_least() -> None:
    """Named doctors were called outside the readers' spread on two patients."""
    data = shelf([[8, 8.2, 15], [9, 9.3, 16]])
    found = agree(data, resamples=200)
    assert {spread.verdict for spread in found["disc"].spread} == {"undecided"}
    said = finding(found)
    assert "draws" not in said and "least" not in said
    assert caution(found).startswith("2 patients: too few to compare anything (at least 6)")
    assert caution(found) in notes(found)[0]
    model = {sample.name: disc(3)[None] for sample in data.samples}
    assert "outside" not in answer(within_spread(data, model, resamples=200)).replace("outside or", "")
    assert "cannot be said from 2 patients" in answer(within_spread(data, model, resamples=200))


def test_least_and_best_are_said_only_if_the_patients_bear_it_out() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(8, 14, (12, 1))
    alike = two_structures(base + rng.normal(0, 1, (12, 3)), base + rng.normal(0, 1, (12, 3)))
    said = finding(agree(alike, resamples=100))
    assert "least" not in said and "best" not in said
    assert "mean pairwise Dice of" in said and "on the disc" in said and "on the cup" in said
    apart = two_structures(base + rng.normal(0, 0.2, (12, 3)), base + rng.normal(0, 2, (12, 3)))
    said = finding(agree(apart, resamples=100))
    assert "agree least on the cup" in said and "and best on the disc" in said


def test_whom_chance_puts_first_is_not_named() -> None:
    """Twelve raters who draw alike; the most extreme of twelve is extreme by chance."""
    named = 0
    for seed in range(12):
        found = agree(drawn_by([0] * 12, cases=10, seed=seed), resamples=0, distances=False)
        assert found["disc"].bias_p is not None
        named += bool((found["disc"].bias_p < 0.05).any())
    assert named <= 3  # 0.6 expected
    one = agree(drawn_by([0] * 6 + [2], cases=10), resamples=50, distances=False)
    assert "rater7 draws" in finding(one)


def test_a_p_of_another_null_does_not_stand_beside_the_verdict(tmp_path) -> None:
    data = drawn_by([0, 0.2, 3], cases=7)
    page = write_agreement(agree(data, resamples=50), data, tmp_path).read_text("utf-8")
    assert "<th>p</th>" not in page
    assert "p_exchangeable" in (tmp_path / "spread.csv").read_text("utf-8")


def test_every_table_says_how_many_cases_it_rests_on(tmp_path) -> None:
    data = drawn_by([0, 0.2, 3], cases=7)
    page = write_agreement(agree(data, resamples=50), data, tmp_path).read_text("utf-8")
    assert page.count("<th>cases</th>") == 4  # all raters, each rater, Bland-Altman, within the spread
    assert "7 patients" in page
    for said in (
        "two raters share (7)",
        "two raters drew (7)",
        "vote of the others (7 cases)",
        "over 7 cases.",
    ):
        assert said in page
    for table in ("overall", "pairs", "raters", "spread"):
        assert ",cases,patients," in (tmp_path / f"{table}.csv").read_text("utf-8").splitlines()[0]


# ---- undefined, left out, not computed ----------------------------------------------------------


def test_what_was_not_computed_is_not_called_undefined() -> None:
    found = agree(drawn_by([0, 1, 2], cases=4), resamples=10, distances=False)
    for missing in (found["disc"].overall["hd95"], found["disc"].pairs["hd95"][0]):
        assert figure(missing).value == "not computed"
        assert int(missing.undefined) == 0
    row = next(row for row in found.tables()["overall"] if row["statistic"] == "hd95")
    assert (row["value"], row["undefined"], row["remark"]) == (None, 0, "not computed")
    json.dumps(found.to_json(), allow_nan=False)


def test_a_case_that_not_every_rater_did_is_left_out_of_the_icc_and_not_undefined() -> None:
    icc = agree(shelf([[5, 6, 7], [8, 9, 9], [7, NAN, 8], [9, 9, 9.5]]), resamples=10)["disc"].overall["ICC2"]
    assert (int(icc.cases), int(icc.left_out), int(icc.undefined)) == (3, 1, 0)


def test_no_bound_is_absurd() -> None:
    """Two patients gave an ICC bound of -1.8e16."""
    for cases in (2, 3, 5, 8, 30):
        found = agree(drawn_by([0, 0.5, 1], cases=cases), resamples=200)
        for row in [*found.tables()["overall"], *found.tables()["pairs"], *found.tables()["raters"]]:
            for end in ("low", "high"):
                if row[end] is not None:
                    assert abs(row[end]) < 1e5, row
                    if row["statistic"].startswith(("ICC", "fleiss", "gwet", "kripp", "cohen")):
                        assert -1 <= row[end] <= 1, row
    assert len(figure(found["disc"].overall["dice"]).interval) < 20


def test_sizes_that_hardly_vary_have_no_icc_made_of_rounding() -> None:
    sizes = np.full((40, 3), 1000.0) + np.linspace(0, 1e-10, 120).reshape(40, 3)
    drawn = resample([str(i) for i in range(40)], 50, 0)
    from mrprism.agreement.volumes import icc_of

    assert not (np.abs(np.nan_to_num(icc_of(sizes, np.concatenate([*drawn.weights()])))) > 1e3).any()


# ---- few complete cases -------------------------------------------------------------------------


def seldom(cases: int = 20, by_the_third: int = 2) -> Shelf:
    """The third of four raters did hardly any case."""
    rng = np.random.default_rng(1)
    radii = rng.uniform(6, 14, (cases, 1)) + rng.normal(0, 0.5, (cases, 4))
    radii[by_the_third:, 2] = NAN
    return shelf(radii)


def test_an_icc_on_few_cases_says_so_and_offers_a_subset(tmp_path) -> None:
    data = seldom()
    found = agree(data, resamples=50)
    part = found["disc"]
    assert int(part.overall["ICC2"].cases) == 2
    assert part.subset is not None and part.subset.raters == (0, 1, 3)
    assert int(part.subset.overall["ICC2"].cases) == 20
    (sentence,) = rests(found)
    assert "uses only the 2 cases of 20 that every rater did" in sentence
    assert "without rater3 it is" in sentence and "on 20 cases" in sentence and "pairs.csv" in sentence
    assert figure(part.overall["ICC2"], of=20).note == "on 2 of 20 cases"
    rows = [row for row in found.tables()["overall"] if row["only_raters"]]
    assert {row["only_raters"] for row in rows} == {"rater1, rater2, rater4"}
    page = write_agreement(found, data, tmp_path).read_text("utf-8")
    assert "on 2 of 20 cases" in page and "without rater3 it is" in page


def test_raters_leave_until_half_of_the_cases_are_complete() -> None:
    done = np.ones((10, 5))
    done[1:, 4] = NAN
    done[6:, 3] = NAN
    assert subset_of(done) == (0, 1, 2, 3)  # six of ten are enough
    done[4:, 3] = NAN
    assert subset_of(done) == (0, 1, 2)
    assert subset_of(np.ones((10, 3))) is None


def test_cohens_kappa_weighs_pairs_by_their_cases() -> None:
    data = seldom(by_the_third=1)
    found = agree(data, resamples=0)["disc"]
    kappa = found.pairs["cohen_kappa"]
    expected = np.average(kappa.value, weights=kappa.cases)
    assert float(found.overall["cohen_kappa"].value) == pytest.approx(expected)
    assert abs(expected - kappa.value.mean()) > 1e-4


# ---- copies -------------------------------------------------------------------------------------


def test_near_copies_are_named(tmp_path) -> None:
    """The second rater began from the first one's masks and moved a corner; `check` finds that, too."""
    data = drawn_by([0, 0, 0.4], cases=6)
    for sample in data.samples:
        sample.masks[1] = sample.masks[0]
        sample.masks[1, 0, 8:14, 18:22] = True
    found = agree(data, resamples=10)
    (sentence,) = found.copies
    assert "'rater1', 'rater2' seem to be corrections of one another" in sentence
    assert "STAPLE" in sentence
    page = write_agreement(found, data, tmp_path).read_text("utf-8")
    assert "seem to be corrections of one another" in page
    assert agree(drawn_by([0, 0.5, 1], cases=6), resamples=0).copies == ()


# ---- intervals of few patients, against other people's figures -------------------------------------


def test_icc_intervals_of_shrout_and_fleiss_as_pingouin_prints_them() -> None:
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = icc_intervals(np.array(table, float))
    theirs = [(-0.13, 0.72), (0.02, 0.76), (0.34, 0.95), (-0.88, 0.91), (0.07, 0.93), (0.68, 0.99)]
    assert [tuple(round(end, 2) for end in ends) for ends in found.values()] == theirs


def test_icc_intervals_of_the_wines_in_pingouins_documentation() -> None:
    wines = [[1, 2, 0, 1], [1, 3, 3, 2], [3, 8, 1, 4], [6, 4, 3, 3], [6, 5, 5, 6], [7, 5, 6, 2], [8, 7, 7, 9]]
    found = icc_intervals(np.array([*wines, [9, 9, 9, 8]], float))
    theirs = [(0.43, 0.93)] * 3 + [(0.75, 0.98)] * 3
    assert [tuple(round(end, 2) for end in ends) for ends in found.values()] == theirs


FOUR_RATERS = [  # Gwet's example with missing ratings, in the documentation of irrCAC
    [1, 2, 3, 3, 2, 1, 4, 1, 2, -1, -1, -1],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, -1, -1],
    [-1, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 3],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, -1],
]


@pytest.mark.parametrize(
    ("kind", "error", "low"),
    [("fleiss", 0.15302, 0.42438), ("gwet", 0.14295, 0.46081), ("krippendorff", 0.14557, 0.41906)],
)
def test_kappa_intervals_as_irrcac_prints_them(kind, error, low) -> None:
    labels = np.where(np.array(FOUR_RATERS) > 0, np.array(FOUR_RATERS) - 1, -1)
    found = kappa_interval(count_patterns(labels), kind)
    assert found == (pytest.approx(error, abs=1e-5), pytest.approx(low, abs=2e-5), 1.0)


def test_with_few_patients_the_interval_of_a_kappa_is_gwets_over_patients() -> None:
    """One pixel a patient: then patients are subjects, and `agree` gives Gwet's interval."""
    rng = np.random.default_rng(2)
    said = rng.random((3, 15)) < np.where(rng.random(15) < 0.5, 0.85, 0.15)
    samples = [
        MultiRaterSample(
            f"c{i}", np.zeros((1, 1, 1), np.float32), said[:, i].reshape(3, 1, 1, 1), np.ones((3, 1), bool)
        )
        for i in range(15)
    ]
    overall = agree(Shelf(Task(1, ("disc",), ("a", "b", "c")), samples), resamples=50)["disc"].overall
    table = count_patterns(said)
    for key, kind in (("fleiss_kappa", "fleiss"), ("gwet_ac1", "gwet")):
        _, low, high = kappa_interval(PatternTable(table.patterns, table.counts, (0, 1)), kind)
        assert float(overall[key].low) == pytest.approx(low, abs=1e-5)
        assert float(overall[key].high) == pytest.approx(high, abs=1e-5)
        assert str(overall[key].by) == "Student's t"


def test_the_mean_of_few_patients_has_students_interval() -> None:
    from scipy import stats

    found = agree(drawn_by([0, 1], cases=7), resamples=50)["disc"]
    low, high = stats.t.interval(0.95, 6, found.cases["dice"].mean(), stats.sem(found.cases["dice"]))
    assert float(found.overall["dice"].low) == pytest.approx(low, abs=1e-6)
    assert float(found.overall["dice"].high) == pytest.approx(min(high, 1.0), abs=1e-6)
    assert str(found.overall["ICC2"].by) == "F"


def test_what_is_equal_in_all_patients_has_no_interval_made_of_rounding() -> None:
    """Two patients with one distance do not show that it is exactly this one."""
    distances, there = np.full(3, 2**0.5), np.ones(3, bool)
    drawn = resample(["a", "b", "c"], 50, 0)
    assert np.isnan(estimate(lambda weights: mean(distances, weights), drawn, there).low)
    distances[0] = 1.5
    assert not np.isnan(estimate(lambda weights: mean(distances, weights), drawn, there).low)


def test_intervals_of_eight_patients_hold_the_truth() -> None:
    """Percentiles of resamples did so in about 88 of 100."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        from mrprism.agreement.bootstrap import estimate, mean

        values = rng.normal(0.8, 0.05, 8)
        drawn = resample([str(i) for i in range(8)], 20, 0)
        found = estimate(lambda w, v=values: mean(v, w), drawn, np.ones(8, bool))
        held += bool(found.low <= 0.8 <= found.high)
    assert held >= 180


@pytest.mark.parametrize(
    "table", [[[0, 0, 3], [0, 6, 0]], [[0, 0, 6], [3, 3, 3]], [[0, 0, 9], [6, 6, 6]], [[0, 6, 3], [6, 0, 3]]]
)
def test_icc_intervals_of_raters_who_contradict_each_other_have_their_ends_in_order(
    table: list[list[int]],
) -> None:
    """Spearman's and Brown's formula has a pole, below which its values come from the other side."""
    for low, high in icc_intervals(np.array(table, float)).values():
        assert np.isnan(low) or -1 <= low <= high <= 1


def test_several_times_as_much_is_no_per_cent() -> None:
    base = np.random.default_rng(0).uniform(5, 7, (12, 1))
    data = shelf(np.concatenate([base + step for step in (0, 0.1, 0.2, 0.3, 0.1, 8)], axis=1).tolist())
    said = finding(agree(data, resamples=100, distances=False))
    assert re.search(r"draws \d\.\d times as much as the others’ vote", said), said
