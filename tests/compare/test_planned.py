"""A comparison by a plan: the same for all methods, and what cannot learn by it is left out with a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

import mrprism
from mrprism.compare.candidates import choose
from mrprism.compare.page import _plain
from mrprism.compare.plan import Budget, Job, join, make_plan
from mrprism.core.errors import InputError
from mrprism.learn.plan import Plan

FLAT = Plan(dims=2, long_side=40, patch=(24, 24), batch_size=2, epochs=3, augment="light")
DEEP = Plan(dims=3, spacing_mm=(3.0, 1.0, 1.0), patch=(8, 16, 16), batch_size=2)


def test_the_plan_says_how_long() -> None:
    budget = Budget(plan=FLAT, backbone="small")
    assert (budget.epochs, budget.batch_size, budget.augment) == (3, 2, "light")
    assert Budget.model_validate_json(budget.model_dump_json()) == budget
    with pytest.raises(ValidationError, match="epochs is 4, and 3 in the plan"):
        Budget(plan=FLAT, epochs=4)


def test_a_plan_in_words() -> None:
    assert _plain(FLAT) == "patches of 24 × 24, in place of size"
    assert _plain(DEEP) == "patches of 8 × 16 × 16 at 3 × 1 × 1 mm, in place of size"


def test_what_does_not_learn_from_volumes_is_left_out(tmp_path: Path) -> None:
    data = mrprism.phantom("crowd", cases=8, size=32, dims=3, out=tmp_path / "set")
    choice = choose("fused-label,mrnet")
    whole = make_plan(data, Budget(plan=DEEP, backbone="small"), choice, (0,), ())
    assert [key for key in whole.impossible if key.startswith("mrnet")]
    assert "learns from images" in next(iter(whole.impossible.values()))
    assert not [key for key in whole.impossible if key.startswith("fused-label")]
    other = make_plan(data, Budget(plan=DEEP.model_copy(update={"overlap": 0.2})), choice, (0,), ())
    with pytest.raises(InputError, match="budgets are not mixed"):
        join(whole, other, tmp_path)


def test_a_run_of_another_plan_is_refused(tmp_path: Path) -> None:
    data = mrprism.phantom("crowd", cases=8, size=32)
    run = mrprism.train(data, "fuse", tmp_path / "run", plan=FLAT, backbone="small", device="cpu", quiet=True)
    about = run.config
    job = Job(
        key="fuse", method="fuse", options={}, seed=0, budget=Budget(plan=FLAT, backbone="small"), dataset_path="",
        train=about.train, val=about.val, test=about.test, shown=(), run=tmp_path / "run",
    )  # fmt: skip
    job.check(run)
    assert Job.model_validate_json(job.model_dump_json()).budget.plan == FLAT
    file = run.path / "config.json"
    config = json.loads(file.read_text())
    config["plan"]["overlap"] = 0.25
    file.write_text(json.dumps(config))
    with pytest.raises(InputError, match="was trained with plan"):
        job.check(mrprism.Run.open(run.path))
