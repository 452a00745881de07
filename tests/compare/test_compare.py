"""The whole of it with real processes: trains what is missing, goes on after a kill, says why runs failed."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from events import until
from volumes import TASK as VOLUME_TASK
from volumes import volumes

from mrprism import cli
from mrprism.compare import Budget, compare
from mrprism.compare.plan import read_plan
from mrprism.core.errors import InputError
from mrprism.datasets import write_dataset
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.learn.run import Run
from mrprism.learn.tie import settings_of
from mrprism.metrics.scores import read_table

VOTES = {"fuse-fusion=majority", "fuse-fusion=staple"}  # the yardsticks of what is given the masks
BUDGET = Budget(epochs=1, size=32, batch_size=4, backbone="small")
SMALL = ["--epochs", "1", "--size", "32", "--batch-size", "4", "--backbone", "small", "--device", "cpu"]


def write_phantom(folder: Path, scenario: str = "crowd", cases: int = 12, reference: bool = False) -> Path:
    """Twelve images; without a reference, to leave the ceiling out."""
    from dataclasses import replace

    samples = phantom(scenario, size=32, cases=cases, seed=3)
    kept = samples if reference else (replace(sample, reference=None) for sample in samples)
    write_dataset(kept, folder, name="phantom", task=phantom_task(scenario))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("data") / "phantom")


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of the two plain U-Nets and MrPrism, trained once for all tests here."""
    out = tmp_path_factory.mktemp("out") / "comparison"
    arguments = ["compare", str(data), "--out", str(out), "--methods", "mrprism", "--jobs", "2", "--quiet"]
    assert cli.call([*arguments, *SMALL]) == 1  # after one epoch, every network has collapsed
    return out


def test_runs_tables_and_page_are_there(done: Path) -> None:
    keys = {folder.name for folder in (done / "runs").iterdir()}
    assert keys == {"fused-label-label=soft-vote", "fused-label-label=majority", "mrprism", *VOTES}
    for key in keys:
        run = Run.open(done / "runs" / key / "seed0")
        assert run.result() is not None
        assert run.config.epochs == 1
        assert run.config.test == read_plan(done).test
    page = (done / "compare.html").read_text()
    for text in (
        "MrPrism Rec3",
        "U-Net on the soft vote",
        "DivP (MrPrism)",
        "Each rater alone",
        "No method was tuned",
    ):
        assert text in page
    assert (done / "methods.csv").is_file()
    assert r"\begin{tabular}" in (done / "methods.tex").read_text()
    plan = read_plan(done)
    assert len(plan.shown) == min(4, len(plan.test))
    cost = json.loads((done / "runs" / "mrprism" / "seed0" / "cost.json").read_text())
    assert 0 < cost["milliseconds"] < 60_000
    assert cost["memory_mib"] > 50


def test_what_is_there_is_used_again(done: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = done / "runs" / "mrprism" / "seed0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert cli.call(["compare", str(data), "--out", str(done), "--methods", "mrprism", *SMALL, "--json"]) == 1
    assert weights.stat().st_mtime_ns == before
    printed = capsys.readouterr()
    assert "5 runs, 5 kept from before" in printed.err
    answer = json.loads(printed.out)
    assert answer["failed"] == answer["impossible"] == {}
    assert {score["metric"] for score in answer["scores"]} >= {"soft_dice", "dice", "ece", "brier", "ged"}
    assert {score["reads"] for score in answer["scores"]} == {"image", "masks", "both"}


def test_another_budget_is_refused(done: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "compare.json").read_bytes()
    assert cli.call(["compare", str(data), "--out", str(done), *SMALL, "--size", "48"]) == 2
    said = capsys.readouterr().err
    assert "with size 32, not 48: budgets are not mixed" in said
    assert (done / "compare.json").read_bytes() == before


def test_other_data_are_refused(done: Path, tmp_path: Path) -> None:
    other = write_phantom(tmp_path / "other", cases=14)
    with pytest.raises(InputError, match="cases of data set 'phantom' are not those"):
        compare(other, done, methods="mrprism", budget=BUDGET)


def test_a_failing_run_keeps_its_line_and_the_others_go_on(done: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    shutil.copytree(done, out)
    broken = out / "runs" / "mrprism" / "seed0"
    (broken / "result.json").unlink()
    (broken / "checkpoint").mkdir()
    settings = settings_of(Run.open(broken).config)
    state = {"progress": {}, "files": {"weights-3.safetensors": "?"}, "settings": settings}
    (broken / "checkpoint" / "state.json").write_text(json.dumps(state))
    shutil.rmtree(out / "runs" / "fused-label-label=majority" / "seed0")
    outcome = compare(data, out, methods="mrprism", budget=BUDGET, jobs=2, device="cpu", quiet=True)
    assert list(outcome.failed) == ["mrprism/seed0"]
    assert "weights-3.safetensors is missing" in outcome.failed["mrprism/seed0"]
    page = outcome.page.read_text()
    assert "weights-3.safetensors is missing" in page
    assert "Failed: MrPrism; the tables say why." in page
    assert (out / "runs" / "fused-label-label=majority" / "seed0" / "table.csv").is_file()
    assert len((out / "methods.csv").read_text().splitlines()) == 1 + 2 * 3


def test_a_run_trained_otherwise_is_not_taken_for_ours(done: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    shutil.copytree(done, out)
    config = out / "runs" / "mrprism" / "seed0" / "config.json"
    config.write_text(config.read_text().replace('"epochs": 1', '"epochs": 2'))
    (config.parent / "cost.json").unlink()
    outcome = compare(data, out, methods="mrprism", budget=BUDGET, jobs=1, device="cpu", quiet=True)
    assert "was trained with epochs 2, not 1" in outcome.failed["mrprism/seed0"]


@pytest.mark.slow
def test_resumes_after_sigkill(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "comparison"
    command = [sys.executable, "-m", "mrprism", "compare", str(data), "--out", str(out), "--jobs", "1"]
    command += ["--methods", "fuse", *SMALL, "--epochs", "60"]  # seconds left to train when the kill comes
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    soft, hard = (
        out / "runs" / f"fused-label-label={label}" / "seed0" for label in ("soft-vote", "majority")
    )
    begun = hard / "log.jsonl"
    until(lambda: begun.is_file() and begun.stat().st_size >= 500, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (soft / "table.csv").is_file()
    assert not (hard / "table.csv").is_file()
    kept = (soft / "weights.safetensors").stat().st_mtime_ns
    until((hard / "checkpoint" / "state.json").is_file)  # its process noticed, saved and went
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode in (0, 1), second.stderr
    assert "1 kept from before" in second.stderr
    assert (soft / "weights.safetensors").stat().st_mtime_ns == kept
    run = Run.open(hard)
    result = run.result()
    assert result is not None
    steps = [line["step"] for line in run.log() if "loss" in line]
    assert steps == list(range(1, result.steps + 1))  # none lost, none done twice


def test_methods_that_cannot_run_say_so_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_phantom(tmp_path / "anonymous", "anonymous")
    out = tmp_path / "comparison"
    from mrprism.compare.build import pick_shown
    from mrprism.compare.candidates import choose
    from mrprism.compare.plan import make_plan
    from mrprism.datasets import open_dataset

    dataset = open_dataset(data)
    plan = make_plan(dataset, BUDGET, choose("table1"), (0,), ())
    assert "anonymous" in plan.impossible["mrnet"]
    assert "diagnosis" in plan.impossible["diagnosis-first"]
    assert "mrprism" not in plan.impossible
    assert set(pick_shown(dataset, plan)) <= set(plan.test)
    assert not out.exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "mrprsm"], "'mrprsm' is neither a table nor a method"),
        (["--methods", "mrprism:nonsense=1"], "has no option 'nonsense'"),
        (["--seeds", "0,x"], "--seeds should be whole numbers"),
        (["--backbone", "huge"], "huge"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--jobs", "0"], "--jobs must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    data: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    assert cli.call(["compare", str(data), "--out", str(out), *SMALL, *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear all")
    with pytest.raises(InputError, match="already holds files that are not a comparison"):
        compare(data, tmp_path, methods="mrprism", budget=BUDGET)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_on_a_ray_cluster(data: Path, tmp_path: Path) -> None:
    """A cluster started here; in a process of its own, for Ray leaves warnings behind."""
    out = tmp_path / "comparison"
    command = [sys.executable, "-m", "mrprism", "compare", str(data), "--out", str(out), "--on", "ray"]
    command += ["--methods", "fuse", "--jobs", "2", *SMALL]
    with (tmp_path / "said").open("w+") as said:  # a pipe would stay open as long as anything of Ray's lives
        finished = subprocess.run(command, stdout=said, stderr=said, check=False)
    printed = (tmp_path / "said").read_text()
    assert finished.returncode in (0, 1), printed
    for key in ("fused-label-label=soft-vote", "fused-label-label=majority", *VOTES):
        assert (out / "runs" / key / "seed0" / "table.csv").is_file()
    assert "4/4" in printed  # fuse at its defaults is the majority vote, which is there anyway


def test_volumes_are_compared_slice_by_slice(tmp_path: Path) -> None:
    """Trained on slices; scored on whole volumes, also where the raters' masks are read."""
    data, out = tmp_path / "scans", tmp_path / "comparison"
    write_dataset(volumes(8, reference=False), data, name="scans", task=VOLUME_TASK, image_format="nifti")
    arguments = [
        "compare",
        str(data),
        "--out",
        str(out),
        "--methods",
        "mrprism,fuse",
        "--quiet",
        "--jobs",
        "2",
    ]
    assert cli.call([*arguments, *SMALL, "--slices", "axial", "--neighbours", "1"]) in (0, 1)
    plan = read_plan(out)
    assert (plan.budget.slices, plan.budget.neighbours) == ("axial", 1)
    for key in ("fused-label-label=soft-vote", "fused-label-label=majority", "mrprism", *VOTES):
        rows = read_table(out / "runs" / key / "seed0" / "table.csv")
        assert {row.case for row in rows} == set(plan.test)  # volumes, not slices
        assert {row.structure for row in rows} == {"disc", "cup"}
    with (out / "methods.csv").open() as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    assert {"MrPrism Rec0", "U-Net on the soft vote", "U-Net on the hard vote"} <= set(found)
    assert all(0 <= float(row["mean of raters: soft_dice: mean"]) <= 1 for row in found.values())
    page = (out / "compare.html").read_text()
    for text in ("DivP (MrPrism)", "The same cases, every method", plan.shown[0], "slices", "axial"):
        assert text in page
    again = [*arguments, *SMALL]
    assert cli.call([*again, "--slices", "coronal", "--neighbours", "1"]) == 2  # another budget
