"""The test of being within the readers' spread: by hand, and its error rates by simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mrprism.agreement import spread_test, within_spread
from mrprism.agreement.candidate import candidate_folder
from mrprism.agreement.findings import answer
from mrprism.agreement.spread import readers_tests
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.images import write_mask

from .cases import Shelf, disc, drawn_by, shelf


def scores(seed: int, cases: int, handicap: float, readers: int = 4) -> np.ndarray:
    """Symmetric scores in which the last reader agrees less by `handicap`."""
    rng = np.random.default_rng(seed)
    table = 0.8 + rng.normal(0, 0.04, (cases, readers + 1, readers + 1))
    table = (table + table.transpose(0, 2, 1)) / 2
    table[:, -1, :-1] -= handicap
    table[:, :-1, -1] -= handicap
    return table


def names(cases: int) -> list[str]:
    return [str(i) for i in range(cases)]


def test_difference_by_hand():
    table = np.array([[[9.0, 0.8, 0.6], [0.8, 9.0, 0.5], [0.6, 0.5, 9.0]]])
    found = spread_test(table, 2, ["p"], resamples=10)
    assert found.to_readers == pytest.approx(0.55)
    assert found.among_readers == pytest.approx(0.8)
    assert found.difference.value == pytest.approx(-0.25)
    assert np.isnan(found.difference.low)  # one patient
    assert found.verdict == "undecided"


def test_missing_readers_are_left_out():
    table = scores(0, 6, 0.0)
    table[0, 0], table[0, :, 0] = np.nan, np.nan  # a reader is absent
    table[1, :3], table[1, :, :3] = np.nan, np.nan  # one reader and the candidate are left
    table[2, 4], table[2, :, 4] = np.nan, np.nan  # the candidate is absent
    found = spread_test(table, 4, names(6), resamples=20)
    assert (found.difference.cases, found.left_out) == (4, 2)
    first = spread_test(table[:1], 4, names(1), resamples=0)
    by_hand = table[0, 4, 1:4].mean() - np.mean([table[0, 1, 2], table[0, 1, 3], table[0, 2, 3]])
    assert first.difference.value == pytest.approx(by_hand)


@pytest.mark.parametrize(("handicap", "verdict"), [(0.0, "within"), (0.3, "outside"), (0.05, "undecided")])
def test_verdicts(handicap, verdict):
    found = spread_test(scores(1, 40, handicap), 4, names(40), margin=0.05, resamples=500)
    assert found.verdict == verdict
    assert "0.05" in found.null


def test_exchange_p_is_uniform_under_its_null():
    p = [spread_test(scores(seed, 20, 0.0), 4, names(20), resamples=200).p for seed in range(200)]
    assert 0.02 < np.mean(np.array(p) <= 0.1) < 0.18
    assert 0.4 < np.mean(p) < 0.6
    assert spread_test(scores(0, 20, 0.2), 4, names(20), resamples=200).p < 0.01


def test_worse_by_the_margin_is_seldom_called_within():
    verdicts = [spread_test(scores(s, 30, 0.05), 4, names(30), resamples=200).verdict for s in range(200)]
    assert verdicts.count("within") <= 12  # 2.5 % expected, percentile intervals are a little short


def pair_scores(seed: int, cases: int, handicaps: list[float]) -> np.ndarray:
    """Scores of every two readers, of whom some agree less with everybody."""
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(len(handicaps), 1)
    away = np.array(handicaps)
    return 0.8 - away[first] - away[second] + rng.normal(0, 0.04, (cases, len(first)))


def test_verdicts_of_all_readers_are_corrected_for_each_other():
    """The last of twelve is at the margin for 0.05 of difference; nobody is called outside in more than 5 %."""
    handicaps = [0.0] * 11 + [0.05]
    settings = {"margin": 0.05, "seed": 0, "resamples": 100, "structure": "disc"}
    readers, patients = [str(i) for i in range(12)], names(25)
    called = single = 0
    for seed in range(60):
        found = readers_tests(pair_scores(seed, 25, handicaps), readers, patients, **settings)
        called += found[-1].verdict != "undecided"
        single += replace(found[-1], p_margin=math.nan).verdict != "undecided"
        assert all(0 < spread.p_margin <= 1 for spread in found)
    assert called <= 3 and called <= single
    clear = readers_tests(pair_scores(0, 25, [0.0] * 11 + [0.3]), readers, patients, **settings)
    assert {s.verdict for s in clear[:-1]} == {"within"} and clear[-1].verdict == "outside"


def test_a_p_of_readers_by_hand():
    """Six patients, two structures: the smallest p is 2 * 2^(1 - 6); it is beyond 5 %, however clear it looks."""
    found = readers_tests(
        pair_scores(0, 6, [0.0, 0.0, 0.0, 0.4]), list("abcd"), names(6),
        margin=0.05, seed=0, resamples=100, structure="disc", structures=2,
    )  # fmt: skip
    assert found[-1].p_margin == pytest.approx(2 / 32)
    assert found[-1].verdict == "undecided"
    assert replace(found[-1], p_margin=1 / 32).verdict == "outside"


def test_a_reader_of_the_data_set():
    data = drawn_by([0, 0.2, -0.2, 5])
    assert within_spread(data, "rater4", resamples=200)[0].verdict == "outside"
    assert within_spread(data, "rater1", resamples=200)[0].verdict == "within"


def test_a_model_beside_the_readers():
    data = drawn_by([0, 0.2, -0.2])
    middle = {sample.name: sample.masks[0] for sample in data.samples}
    small = {sample.name: disc(3)[None] for sample in data.samples[:8]}
    good = within_spread(data, middle, resamples=200, name="net")[0]
    assert (good.verdict, good.candidate, good.left_out) == ("within", "net", 0)
    bad = within_spread(data, small, resamples=200)[0]
    assert (bad.verdict, bad.left_out) == ("outside", 4)
    few = {name: small[name] for name in list(small)[:5]}
    unsure = within_spread(data, few, resamples=200)[0]
    assert (unsure.verdict, unsure.left_out) == ("undecided", 7)  # five patients show nothing, however bad
    assert "cannot be said from 5 patients" in answer([unsure])


def test_a_model_beside_anonymous_readers():
    data = drawn_by([0, 0.2, -0.2])
    data = Shelf(Task(1, ("disc",), data.task.raters, anonymous=True), data.samples)
    model = {sample.name: sample.masks[0] for sample in data.samples}
    assert within_spread(data, model, resamples=100)[0].verdict == "within"
    with pytest.raises(InputError, match="anonymous"):
        within_spread(data, "rater1")


@pytest.mark.parametrize(
    ("candidate", "sentence"),
    [
        ("nobody", "unknown rater 'nobody'"),
        ({"case0": np.zeros((1, 3, 3), bool)}, "shape"),
        ({}, "no case"),
    ],
)
def test_bad_candidates(candidate, sentence):
    with pytest.raises(InputError, match=sentence):
        within_spread(shelf([[5, 6, 7]]), candidate)


def test_masks_of_a_model_are_found_as_names_are_spoken(tmp_path):
    small = disc(4)
    for name in ("P1_Cup.png", "p2/mask_cup.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_mask(tmp_path / name, small)
    (tmp_path / "p2/prediction.json").write_text('{"split": "train"}')
    found = candidate_folder(tmp_path, ["p1", "P2"], ["cup"])
    assert (list(found), found.seen) == (["p1"], {"P2": "train"})
    np.testing.assert_array_equal(found["p1"][0], small)
    write_mask(tmp_path / "p1_cup .png", small)
    with pytest.raises(InputError, match="may both be 'p1_cup'; expected one of them"):
        candidate_folder(tmp_path, ["p1"], ["cup"])
    write_mask(tmp_path / "P1_Cup.tif", small)
    with pytest.raises(InputError, match="have the same name but for the ending"):
        candidate_folder(tmp_path, ["p1"], ["cup"])


def test_masks_of_a_model_of_no_case_are_told(tmp_path):
    data = drawn_by([0, 0.2, -0.2])
    for name in ("case0", "case1", "caes2", "other"):
        (tmp_path / "net" / name).mkdir(parents=True)
        write_mask(tmp_path / "net" / name / "mask_disc.png", data[0].masks[0, 0])
    (tmp_path / "net" / "logs").mkdir()
    (tmp_path / "net" / "cases.csv").write_text("case,split\n")
    found = within_spread(
        data,
        candidate_folder(tmp_path / "net", [f"case{i}" for i in range(12)], ["disc"]),
        resamples=20,
        name="net",
    )
    assert found[0].unknown == ("caes2", "other")
    assert "net holds 2 more that belong to no case the readers did (caes2, other)." in answer(found)
