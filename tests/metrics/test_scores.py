"""The tidy table: what gives a row, what gives NaN, and that files come back whole."""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.metrics import (
    METRICS,
    QUBIQ_THRESHOLDS,
    THRESHOLDS,
    above,
    dice,
    generalised_energy_distance,
    iou,
    voted_above,
)
from mrprism.metrics.examples import read_example, write_example
from mrprism.metrics.overlap import Cuts, VotedCuts
from mrprism.metrics.scores import Row, pick_examples, read_table, score, summarise, write_table

TASK = Task(channels=1, structures=("disc", "cup"), raters=("Ann, MD", "Bo", "Cy"))


def make_sample(*, reference: bool = True, spacing: bool = False) -> MultiRaterSample:
    rows, columns = np.mgrid[:32, :32]
    away = np.hypot(rows - 15, columns - 16)
    truth = np.stack([away < 10, away < 5])
    masks = np.stack([truth, np.stack([away < 11, away < 6]), np.stack([away < 9, away < 4])])
    rated = np.array([[True, True], [True, False], [True, True]])
    return MultiRaterSample(
        name="case 1",
        image=np.zeros((1, 32, 32), np.float32),
        masks=masks & rated[..., None, None],
        rated=rated,
        reference=truth if reference else None,
        group="patient 7",
        spacing_mm=(0.5, 0.5) if spacing else None,
    )


def make_prediction(sample: MultiRaterSample, *, full: bool = True) -> Prediction:
    votes = sample.masks.sum(0) / np.maximum(sample.rated.sum(0), 1)[:, None, None]
    probability = votes.astype(np.float32)
    if not full:
        return Prediction(probability=probability)
    return Prediction(
        probability=probability,
        raters=sample.masks.astype(np.float32),
        confidence=np.stack([np.full_like(probability, level) for level in (0.9, 0.7, 0.6)]),
        steps=(np.zeros_like(probability), probability),
        calibrated=probability,
        inner=probability == 1,
        outer=probability > 0,
    )


def value(rows: list[Row], **where: str) -> float:
    (found,) = [row.value for row in rows if all(getattr(row, key) == text for key, text in where.items())]
    return found


def test_the_mean_of_raters_keeps_the_votes_of_those_who_rated() -> None:
    sample = make_sample()
    rows = score(make_prediction(sample), sample, TASK)
    for structure in TASK.structures:
        at = {"structure": structure, "recurrence": "final", "target": "mean of raters"}
        assert value(rows, **at, metric="soft_dice") == 1
        assert value(rows, **at, metric="ece") == pytest.approx(0, abs=1e-7)
    assert {row.group for row in rows} == {"patient 7"}


def test_who_did_not_rate_is_no_target_but_is_trusted() -> None:
    sample = make_sample()
    rows = score(make_prediction(sample), sample, TASK)
    absent = [row for row in rows if row.structure == "cup" and row.target == "rater:Bo"]
    assert [row.metric for row in absent] == ["confidence"]
    present = {row.metric for row in rows if row.structure == "disc" and row.target == "rater:Bo"}
    assert present == {"soft_dice", "dice", "iou", "confidence", "rater_dice", "skill"}
    assert value(rows, structure="disc", target="rater:Bo", metric="confidence") == pytest.approx(0.7)
    assert value(rows, structure="disc", target="rater:Ann, MD", metric="skill") == 1


def test_each_rater_is_scored_by_hand() -> None:
    """Dice of the answer with a rater, and of what the method thinks the rater draws with what they drew."""
    masks = np.zeros((3, 2, 4, 4), bool)
    masks[0, 0, 0], masks[1, 0, :2], masks[2, 0, 0, :2] = True, True, True  # 4, 8 and 2 pixels
    found = np.zeros((2, 4, 4), np.float32)
    found[0, 0] = 0.9
    imitated = np.zeros((3, 2, 4, 4), np.float32)
    imitated[:, 0, 0] = 0.8
    sample = MultiRaterSample("a", np.zeros((1, 4, 4), np.float32), masks, np.ones((3, 2), bool))
    rows = score(Prediction(probability=found, raters=imitated), sample, TASK)
    for rater, expected in zip(TASK.raters, (1, 2 * 4 / 12, 2 * 2 / 6), strict=True):
        for metric in ("dice", "rater_dice"):
            at = {"structure": "disc", "target": f"rater:{rater}", "metric": metric}
            assert value(rows, **at) == pytest.approx(expected)


def test_recurrences_stand_before_the_final_answer() -> None:
    sample = make_sample()
    rows = score(make_prediction(sample), sample, TASK, metrics=["dice"], targets=["reference"])
    disc = [(row.recurrence, row.value) for row in rows if row.structure == "disc"]
    assert [name for name, _ in disc] == ["Rec0", "Rec1", "final"]
    assert disc[0][1] == 0
    assert disc[1][1] == disc[2][1] > 0.9


def test_only_what_is_asked_for() -> None:
    sample = make_sample()
    rows = score(make_prediction(sample, full=False), sample, metrics=("dice",), targets=("reference",))
    assert [(row.structure, row.metric, row.target) for row in rows] == [
        ("structure 1", "dice", "reference"),
        ("structure 2", "dice", "reference"),
    ]


def test_what_is_lacking_gives_no_row_and_what_is_undefined_gives_nan() -> None:
    sample = make_sample(reference=False)
    rows = score(make_prediction(sample, full=False), sample, TASK)
    expected = {"mean of raters", "raters", "rater:Ann, MD", "rater:Bo", "rater:Cy"}
    assert {row.target for row in rows} == expected
    assert {row.value for row in rows if row.metric == "answers"} == {1}
    assert all(math.isnan(row.value) == (row.metric == "hd95") for row in rows)
    with_spacing = make_sample(spacing=True)
    rows = score(make_prediction(with_spacing, full=False), with_spacing, TASK, metrics=["hd95"])
    assert all(row.value >= 0 for row in rows)


def test_every_metric_is_reached() -> None:
    sample = make_sample(spacing=True)
    rows = score(make_prediction(sample), sample, TASK)
    assert {row.metric for row in rows} == set(METRICS) - {"weight"}  # of methods that weigh raters


def test_a_fusion_is_marked() -> None:
    sample = make_sample()
    assert {row.reads for row in score(make_prediction(sample), sample, TASK, reads="masks")} == {"masks"}


def test_wrong_arguments() -> None:
    sample = make_sample()
    with pytest.raises(ValueError, match="shape"):
        score(Prediction(probability=np.zeros((2, 16, 16))), sample)
    with pytest.raises(InputError, match="unknown name 'dise'; known: soft_dice, dice"):
        score(make_prediction(sample), sample, metrics=["dise"])


def test_summary_counts_what_is_missing() -> None:
    values = [0.2, 0.4, math.nan, 0.9]
    rows = [Row(f"c{i}", f"c{i}", "cup", "final", "reference", "dice", v) for i, v in enumerate(values)]
    (summary,) = summarise(rows)
    assert (summary.n, summary.missing) == (3, 1)
    assert summary.mean == pytest.approx(0.5)
    assert summary.sd == pytest.approx(np.std([0.2, 0.4, 0.9], ddof=1))
    assert math.isnan(summarise(rows[:1])[0].sd)


def test_table_comes_back_exactly(tmp_path: Path) -> None:
    sample = make_sample()
    rows = score(make_prediction(sample), sample, TASK)
    rows.append(Row('a "b",\nc', "é", "s", "final", "rater:=1+1", "dice", 1 / 3, "both"))
    write_table(rows, tmp_path / "table.csv")
    back = read_table(tmp_path / "table.csv")
    assert len(back) == len(rows)
    for one, two in zip(rows, back, strict=True):
        np.testing.assert_equal(one, two)
    assert os.listdir(tmp_path) == ["table.csv"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a,b\n1,2\n", "not a table of scores"),
        (b"", "not a table of scores"),
        (b"\xff\xfe", "cannot be read"),
        (",".join(Row._fields).encode() + b"\nc,c,cup,final,refer", "damaged at line 2"),
        (",".join(Row._fields).encode() + b"\nc,c,cup,final,reference,dice,x,image", "damaged at line 2"),
    ],
)
def test_damaged_tables(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_table(tmp_path / "table.csv")


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "table.csv")


def test_examples_are_best_median_worst() -> None:
    rows = [
        Row(f"c{i}", f"c{i}", structure, "final", "reference", "dice", value)
        for i, value in enumerate([0.5, 0.9, 0.7, math.nan, 0.1])
        for structure in ("disc", "cup")
    ]
    assert pick_examples(rows) == {"best": "c1", "median": "c0", "worst": "c4"}  # "c0" is also the first
    others = [row for row in rows if row.case != "c1"]
    assert pick_examples(others) == {"best": "c2", "median": "c0", "worst": "c4"}
    assert pick_examples([*rows, rows[0]._replace(case="c00", value=0.6)])["first"] == "c0"
    fused = [row._replace(reads="both", value=1 - row.value) for row in rows]
    assert pick_examples([*fused, *rows]) == pick_examples(rows)
    assert pick_examples(fused)["best"] == "c4"
    assert pick_examples(rows[:2]) == {"best": "c0"}
    assert pick_examples([]) == {}


def test_example_comes_back(tmp_path: Path) -> None:
    sample = make_sample()
    prediction = make_prediction(sample)
    write_example(tmp_path / "0.npz", sample, prediction)
    example = read_example(tmp_path / "0.npz")
    assert example.name == "case 1"
    np.testing.assert_array_equal(example.masks, sample.masks)
    np.testing.assert_array_equal(example.reference, sample.reference)
    np.testing.assert_allclose(example.probability, prediction.probability, atol=1e-3)
    assert len(example.steps) == 2
    write_example(tmp_path / "1.npz", make_sample(reference=False), Prediction(prediction.probability))
    bare = read_example(tmp_path / "1.npz")
    assert bare.reference is bare.raters is bare.confidence is None
    assert bare.steps == ()


def test_damaged_example(tmp_path: Path) -> None:
    (tmp_path / "0.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="not an example case"):
        read_example(tmp_path / "0.npz")


def test_weights_of_draws_are_respected() -> None:
    """Draws without a chance are none; those alike are all there are; others weigh as told."""
    sample = make_sample()
    draws = sample.masks.astype(np.float32)
    weights = sample.rated / np.maximum(sample.rated.sum(0), 1)
    alike = Prediction(probability=draws.mean(0), draws=draws, draw_weights=weights)
    rows = score(alike, sample, TASK, targets=["raters"])
    for metric, expected in (("ged", 0), ("ged_v", 0), ("hm_iou", 1)):
        found = [row.value for row in rows if row.metric == metric]
        assert found == pytest.approx([expected] * len(TASK.structures)), metric
    assert {row.value for row in rows if row.metric == "answers"} == set(sample.rated.sum(0).astype(float))
    c = int(np.flatnonzero(sample.rated.sum(0) > 1)[0])
    first, second = np.flatnonzero(sample.rated[:, c])[:2]
    chances = np.zeros_like(weights)
    chances[[first, second], c] = 0.25, 0.75
    rows = score(replace(alike, draw_weights=chances), sample, TASK, targets=["raters"])
    weighed = value(rows, metric="ged", structure=TASK.structures[c])
    four = (draws[[first, second, second, second], c] > 0.5).astype(bool)
    masks = sample.masks[sample.rated[:, c], c]
    assert weighed == pytest.approx(generalised_energy_distance(four, masks))


def test_bounds_hold_or_not() -> None:
    sample = make_sample()
    prediction = make_prediction(sample)
    rows = score(prediction, sample, TASK)
    assert {row.value for row in rows if row.metric.endswith("_holds")} == {1}
    wrong = replace(prediction, outer=prediction.inner, inner=prediction.outer)
    assert 0 in {row.value for row in score(wrong, sample, TASK) if row.metric.endswith("_holds")}


@pytest.mark.parametrize("counted", [True, False])
def test_kept_cuts_give_the_numbers_of_the_formulas(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, also where NumPy cannot count bits."""
    if not counted:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    rng = np.random.default_rng(3)
    for space, raters in (((9, 7), 1), ((4, 5, 3), 3), ((1, 1), 2), ((16, 8), 10)):
        votes = rng.integers(0, raters + 1, space).astype(np.int32)
        for probability in (
            rng.random(space),
            (votes / raters).astype(np.float32),
            np.zeros(space),
            rng.random(space[::-1]).T,
        ):
            cuts, voted = Cuts(probability), VotedCuts(votes, raters)
            one = {level: above(probability, level) for level in QUBIQ_THRESHOLDS}
            other = {level: voted_above(votes, raters, level) for level in QUBIQ_THRESHOLDS}
            for name, levels in (("soft_dice", THRESHOLDS), ("dice", (0.5,)), ("qubiq", QUBIQ_THRESHOLDS)):
                function = METRICS[name].of_cuts
                assert function is not None
                assert function(cuts, voted) == np.mean([dice(one[level], other[level]) for level in levels])
            function = METRICS["iou"].of_cuts
            assert function is not None
            assert function(cuts, voted) == iou(one[0.5], other[0.5])
