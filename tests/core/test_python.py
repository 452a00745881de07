"""From Python: what is printed is short, what is unknown is said in a sentence, tables become frames."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrprism
from mrprism.core.brief import brief
from mrprism.core.errors import InputError, OutOfRange, UnknownName, unknown
from mrprism.core.prediction import Prediction
from mrprism.core.rows import Rows
from mrprism.core.sample import Reading, Task


@pytest.fixture(scope="module")
def data() -> mrprism.Dataset:
    return mrprism.phantom("crowd", cases=6, size=32)


@pytest.fixture(scope="module")
def agreement(data: mrprism.Dataset) -> Any:
    return mrprism.agree(data, resamples=20)


def test_a_place_past_the_end_is_an_index_error_too(data: mrprism.Dataset) -> None:
    for place in (6, 99, -7):
        with pytest.raises(
            OutOfRange, match=f"'crowd phantom' has 6 cases; there is no case {place}"
        ) as caught:
            data[place]
        assert isinstance(caught.value, InputError)
        assert isinstance(caught.value, IndexError)
    assert [case.name for case in data] == list(data.names)  # which ends by that error
    assert data[np.int64(1)].name == "case0001"


UNKNOWN: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda data, found: data["case0O02"], "no case 'case0O02'; it has case0000.*did you mean 'case0002'"),
    (lambda data, found: data.subset(["zz"]), "no case 'zz'"),
    (
        lambda data, found: mrprism.fuse_case(data[0], "stapel"),
        "unknown method 'stapel'; .*did you mean 'staple'",
    ),
    (
        lambda data, found: mrprism.fuse_case(data[0], "staple", marginn=3),
        "unknown option of staple 'marginn'.*'margin'",
    ),
    (lambda data, found: list(mrprism.fuse(data, "Majority")), "did you mean 'majority'"),
    (lambda data, found: mrprism.FUSIONS["stapel"], "unknown fusion 'stapel'"),
    (lambda data, found: mrprism.METRICS["dise"], "unknown metric 'dise'.*did you mean 'dice'"),
    (lambda data, found: found["cop"], "unknown structure 'cop'; known: disc, cup; did you mean 'cup'"),
    (
        lambda data, found: found.matrix("cup", "dise"),
        "unknown statistic of pairs 'dise'.*did you mean 'dice'",
    ),
    (lambda data, found: found.to_frame("pair"), "unknown table 'pair'.*did you mean 'pairs'"),
    (lambda data, found: mrprism.phantom("crowdd"), "did you mean 'crowd'"),
    (lambda data, found: mrprism.open_dataset("/nowhere"), "'/nowhere' does not exist"),
    (lambda data, found: mrprism.load_run("/nowhere"), "/nowhere is not a run folder"),
]


@pytest.mark.parametrize(("call", "said"), UNKNOWN, ids=[said[:30] for _, said in UNKNOWN])
def test_what_is_unknown_is_said_in_a_sentence(
    data: mrprism.Dataset, agreement: Any, call: Callable[[Any, Any], Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        call(data, agreement)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_a_key_error_that_reads_well() -> None:
    error = unknown("thing", "b", ["a"])
    assert isinstance(error, UnknownName)
    assert isinstance(error, KeyError)
    assert str(error) == "unknown thing 'b'; known: a"


def test_what_is_printed_is_one_line(data: mrprism.Dataset, agreement: Any, tmp_path: Path) -> None:
    case, cup = data[0], agreement["cup"]
    fused = mrprism.fuse_case(case, "staple")
    things = [data, data.task, case, fused, agreement, cup, cup.overall["dice"], cup.pairs["dice"]]
    things += [cup.spread[0], agreement.tables()["cases"], Reading(case.masks, case.rated)]
    for thing in things:
        for text in (repr(thing), str(thing)):
            assert len(text) < 200, text
            assert "\n" not in text
    assert repr(case) == (
        "MultiRaterSample('case0000', image 3 × 32 × 32, 7 raters × 2 structures, reference, train)"
    )
    assert repr(fused) == "Prediction(probability=[2 × 32 × 32], confusion=[7 × 2 × 2 × 2])"
    assert repr(data) == "Dataset('crowd phantom', 6 cases, 7 raters, structures disc, cup)"
    assert repr(agreement).startswith("Agreement('crowd phantom', 6 cases, 7 raters; mean Dice: disc 0.")
    assert brief(Task(1, ("m",), ())) == "Task(channels=1, structures=('m',), anonymous=False)"


def test_samples_from_files_are_as_short(data: mrprism.Dataset, tmp_path: Path) -> None:
    mrprism.write_dataset([data[0]], tmp_path / "d", name="d", task=data.task)
    assert repr(mrprism.open_dataset(tmp_path / "d")[0]).startswith(
        "FileSample('case0000', image 3 × 32 × 32,"
    )


def test_notebooks_get_a_picture(data: mrprism.Dataset, agreement: Any) -> None:
    for thing in (data[0], mrprism.fuse_case(data[0], "majority"), agreement):
        page = thing._repr_html_()
        assert 'src="data:image/png;base64,iVBORw0KGgo' in page
        assert len(page) > 2000


def test_names_in_notebooks_are_escaped(data: mrprism.Dataset) -> None:
    from dataclasses import replace

    evil = "<script>alert(1)</script> $x^"
    task = replace(data.task, raters=(evil, *data.task.raters[1:]), structures=(evil, "cup"))
    cases = [replace(case, name=f"{case.name} {evil}") for case in data]
    named = mrprism.Dataset.from_samples(evil, task, cases)
    pages = [named[0]._repr_html_(), mrprism.agree(named, resamples=5)._repr_html_()]
    pages.append(Rows([{evil: evil}])._repr_html_())
    for page in pages:
        assert "<script>" not in page
        assert "&lt;script&gt;" in page


def test_a_batch_of_predictions_has_no_picture() -> None:
    assert "<img" not in Prediction(np.zeros((2, 3, 4, 5, 6), np.float32))._repr_html_()


def test_tables_become_frames(data: mrprism.Dataset, agreement: Any) -> None:
    pandas = pytest.importorskip("pandas")
    found = agreement.to_frame("pairs")
    assert isinstance(found, pandas.DataFrame)
    assert list(found.columns) == agreement.tables()["pairs"].columns
    assert len(found) == len(agreement.tables()["pairs"])
    first = agreement.tables()["pairs"][0]
    assert found.iloc[0]["value"] == first["value"]
    assert list(Rows([]).to_frame().columns) == []


def test_without_pandas_a_sentence(agreement: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        agreement.to_frame()


def test_a_long_table_is_cut_in_a_notebook() -> None:
    page = Rows([{"n": n} for n in range(100)])._repr_html_()
    assert page.count("<tr>") == 31
    assert "and 70 more" in page


def test_only_public_names_are_listed() -> None:
    assert dir(mrprism) == sorted(mrprism.__all__)
    for name in mrprism.__all__:
        assert getattr(mrprism, name) is not None
