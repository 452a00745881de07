"""The same rater again, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mrprism
from mrprism.agreement.rereading import GAP, OTHER, SAME, reread
from mrprism.cli import call
from mrprism.core.sample import MultiRaterSample, Reading, Task
from mrprism.datasets.outlined import outlined

TASK = Task(0, ("spot",), ("ann", "bob", "cy"))


def line(*columns: int) -> np.ndarray:
    mask = np.zeros((1, 10), bool)
    mask[0, list(columns)] = True
    return mask


def case(name: str, first: list[np.ndarray], *further: dict[int, np.ndarray]) -> MultiRaterSample:
    masks = np.stack(first)[:, None]
    readings = []
    for drawn in further:
        again, rated = np.zeros_like(masks), np.zeros((3, 1), bool)
        for r, mask in drawn.items():
            again[r, 0], rated[r, 0] = mask, True
        readings.append(Reading(again, rated))
    return MultiRaterSample(name, None, masks, np.ones((3, 1), bool), readings=tuple(readings))


CASES = [
    # ann 2·2/(3+3) = 2/3; pairs: ann–bob 1, ann–cy 2·1/(3+1) = 1/2, bob–cy 1/2: mean 2/3
    case("a", [line(0, 1, 2), line(0, 1, 2), line(0)], {0: line(0, 1, 5)}),
    # ann saw nothing twice: 1; bob 2·1/(1+3) = 1/2, then 1: mean 3/4. Pairs: ann–bob 0, ann–cy 1, bob–cy 0: mean 1/3
    case("b", [line(), line(4), line()], {0: line(), 1: line(4, 5, 6)}, {1: line(4)}),
    # nobody was asked again
    case("c", [line(1), line(1), line(1)]),
]  # fmt: skip


def data() -> mrprism.Dataset:
    return mrprism.Dataset.from_samples("study", TASK, CASES)


def test_one_case_by_hand() -> None:
    np.testing.assert_allclose(reread(outlined(CASES[0]), 0), [[2 / 3, np.nan, np.nan]] * 2)
    np.testing.assert_allclose(reread(outlined(CASES[1]), 0), [[1, 3 / 4, np.nan], [np.nan, 3 / 4, np.nan]])
    assert np.isnan(reread(outlined(CASES[2]), 0)).all()


def test_all_cases_by_hand() -> None:
    (found,) = mrprism.agree(data(), resamples=50, distances=False).again
    # a: ann 2/3; b: (1 + 3/4) / 2 = 7/8
    assert float(found.same["dice"].value) == pytest.approx((2 / 3 + 7 / 8) / 2)
    assert float(found.other["dice"].value) == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert float(found.gap["dice"].value) == pytest.approx((0 + 7 / 8 - 1 / 3) / 2)
    assert int(found.same["dice"].cases) == 2
    # where anything was marked: b has bob's 3/4 alone, and of its pairs ann–bob 0 and bob–cy 0
    assert float(found.same["dice_where_drawn"].value) == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert float(found.other["dice_where_drawn"].value) == pytest.approx((2 / 3 + 0) / 2)
    np.testing.assert_allclose(found.raters["dice"].value, [(2 / 3 + 1) / 2, 3 / 4, np.nan])
    np.testing.assert_array_equal(found.raters["dice"].cases, [2, 1, 0])
    assert int(found.raters["dice_where_drawn"].undefined[0]) == 1
    assert repr(found).startswith("Rereading('spot', Dice 0.77 ")


def test_further_readings_are_in_no_other_number() -> None:
    from dataclasses import replace

    bare = mrprism.Dataset.from_samples("study", TASK, [replace(c, readings=()) for c in CASES])
    with_, without = (mrprism.agree(d, resamples=20) for d in (data(), bare))
    assert without.again == ()
    for name, rows in without.tables().items():
        if name != "again":
            assert json.dumps(rows) == json.dumps(with_.tables()[name]), name


def test_the_table_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mrprism.write_dataset(data(), tmp_path / "study", name="study", task=TASK)
    assert call(["agree", str(tmp_path / "study"), "--out", str(tmp_path / "out"), "--resamples", "20"]) == 0
    assert "Asked again about the spot on 2 cases, a rater agrees with themselves by a Dice of 0.77" in (
        capsys.readouterr().out
    )
    rows = json.loads((tmp_path / "out" / "agreement.json").read_text())["tables"]["again"]
    assert [(r["rater"], r["between"]) for r in rows if r["statistic"] == "dice"] == [
        ("", SAME),
        ("", OTHER),
        ("", GAP),
        ("ann", SAME),
        ("bob", SAME),
    ]
    assert "The same rater again" in (tmp_path / "out" / "agreement.html").read_text()
    assert (tmp_path / "out" / "again.csv").read_text().startswith("structure,rater,between,statistic,value")


def test_of_anonymous_raters_no_person_is_spoken_of() -> None:
    from dataclasses import replace

    nameless = mrprism.Dataset.from_samples("study", replace(TASK, anonymous=True), CASES)
    (found,) = mrprism.agree(nameless, resamples=20).again
    assert found.raters == {}
    assert float(found.same["dice"].value) == pytest.approx((2 / 3 + 7 / 8) / 2)
