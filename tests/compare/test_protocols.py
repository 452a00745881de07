"""Named protocols fix what has to be alike, and say where a row may not stand beside published ones."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrprism import cli
from mrprism.compare import Budget, compare
from mrprism.compare.plan import read_plan
from mrprism.compare.protocols import PROTOCOLS, said_of
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset, write_dataset

from .folder import make_plan

V1, MATTING = PROTOCOLS["lidc-v1"], PROTOCOLS["lidc-matting"]
TASK = Task(1, ("nodule",), ("1", "2", "3", "4"), anonymous=True)


def nodules(count: int = 20, empty: bool = True) -> Dataset:
    """Two slices of each patient; every third with one rater who saw nothing."""
    samples = []
    for number in range(count):
        masks = np.zeros((4, 1, 8, 8), bool)
        masks[:, :, 2:5, 2 : 5 + number % 2] = True
        if empty and number % 3 == 0:
            masks[3] = False
        samples.append(
            MultiRaterSample(
                f"n{number:02d}",
                np.zeros((1, 8, 8), np.float32),
                masks,
                np.ones((4, 1), bool),
                group=f"p{number // 2}",
            )
        )
    return Dataset.from_samples("lidc", TASK, samples)


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("mrprism.compare.build"), "sweep", lambda *_, **__: {})


def test_split_size_and_draws_are_the_protocol_s(tmp_path: Path) -> None:
    outcome = compare(nodules(), tmp_path / "out", methods="ssn", protocol="lidc-v1", quiet=True)
    plan = read_plan(tmp_path / "out")
    assert (plan.budget.size, plan.draws, plan.protocol) == (128, 16, "lidc-v1")
    assert [len(part) for part in (plan.train, plan.val, plan.test)] == [12, 4, 4]
    sides = {name[:3]: None for name in plan.test}
    assert len(sides) == 4
    page = outcome.page.read_text()
    for said in (
        "Protocol lidc-v1: 15,096 nodule slices",
        "16 draws at 128 pixels",
        "SSN 0.259 / 0.558",
        "Rows of this page may not stand beside them: there are 20 cases here and 15096 there; 1 seed here and 3 there.",
        "150 epochs with resnet34; each of the published had its own",
    ):
        assert said in page, said


def test_where_all_is_alike_a_row_may_stand_beside(tmp_path: Path) -> None:
    here = replace(V1, cases=20)
    data = nodules()
    split = here.split(data, 0)
    plan = make_plan(tmp_path, methods=["ssn"], seeds=(0, 1, 2)).model_copy(
        update={
            "train": split.train,
            "val": split.val,
            "test": split.test,
            "protocol": "lidc-v1",
            "draws": 16,
        }
    )
    assert here.apart(data, plan) == []
    assert any("may stand beside" in sentence for sentence in said_of(plan))


def test_each_thing_that_is_not_alike_is_said(tmp_path: Path) -> None:
    data = nodules(empty=False)
    split = V1.split(data, 0)
    plan = make_plan(tmp_path, methods=["ssn"], seeds=(0,)).model_copy(
        update={"train": split.train[2:], "val": split.val, "test": (*split.test, *split.train[:2])}
    )
    said = "; ".join(V1.apart(data, plan))
    assert "no rater saw nothing in any case here" in said
    assert "divided 50:20:30 here and 60:20:20 there" in said
    assert "2 cases here have an empty mask" not in said
    two = replace(nodules()["n00"], masks=np.zeros((4, 2, 8, 8), bool), rated=np.ones((4, 2), bool))
    two.rated[3] = False
    other = Dataset.from_samples("x", replace(TASK, structures=("a", "b")), [replace(two, group=None)])
    plan = plan.model_copy(update={"test": ("n00",)})
    said = "; ".join(MATTING.apart(other, plan))
    assert "2 structures here and one there" in said
    assert "not every rater drew every case here (1 of 1 lack one)" in said
    assert "1 of 1 cases here have an empty mask" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "lidc"], "unknown protocol 'lidc'; known: lidc-v1, lidc-matting"),
        (["--protocol", "lidc-v1", "--size", "64"], "fixes a size of 128 pixels, not 64"),
        (["--protocol", "lidc-v1", "--draws", "20"], "is scored with 16, 32, 50 or 100 draws, not 20"),
        (["--draws", "0"], "the number of draws is 0; expected 1 to 1000"),
    ],
)
def test_another_size_or_number_is_refused(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(list(nodules()), tmp_path / "data", name="lidc", task=TASK)
    out = tmp_path / "out"
    assert (
        cli.call(["compare", str(tmp_path / "data"), "--out", str(out), "--methods", "ssn", *arguments]) == 2
    )
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_draws_and_protocols_are_not_mixed(tmp_path: Path) -> None:
    data, out = nodules(), tmp_path / "out"
    budget = Budget(size=32, backbone="small")
    compare(data, out, methods="ssn", draws=8, budget=budget, quiet=True)
    with pytest.raises(InputError, match="with draws 8, not of none"):
        compare(data, out, methods="ssn", budget=budget, quiet=True)
    with pytest.raises(InputError, match="with size 32"):
        compare(data, out, methods="ssn", protocol="lidc-v1", quiet=True)


def test_columns_of_the_table_of_several_answers_are_the_protocol_s() -> None:
    assert V1.metrics[:3] == ("answers", "ged_v", "hm_iou")
    assert "dice_match" in MATTING.metrics
