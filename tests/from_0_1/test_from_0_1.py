"""What version 0.1 left behind still opens, and says what it said: made by 0.1, on images of 32 pixels.

The networks are narrower than any that 0.1 offers by name, and most of their weights were set to zero before
they were used, so that the files are small. A comparison's pages are left out, for they are written anew.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import mrprism
from mrprism.cli import call
from mrprism.compare import write_comparison
from mrprism.compare.plan import read_plan
from mrprism.core.sample import Task
from mrprism.learn.methods import METHODS, method_class
from mrprism.learn.networks.encoder import BACKBONES
from mrprism.learn.run import Run
from mrprism.learn.weights import read_tensors
from mrprism.metrics.scores import Row, read_table

HERE = Path(__file__).parent
THERE = b"/home/ann"  # where the files say they lay


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", ((1, 1, 1, 1), (4, 4, 4, 4)))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the data set, to which all the rest is unpacked."""
    unpack("data", tmp_path)
    return tmp_path


def unpack(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
        for member in archive.namelist():
            content = archive.read(member)
            if member.endswith((".json", ".jsonl", ".csv")):
                content = content.replace(THERE, str(folder).encode())
            (folder / member).parent.mkdir(parents=True, exist_ok=True)
            (folder / member).write_bytes(content)
    return folder / name


def by_place(rows: list[Row]) -> dict[tuple[str, ...], float]:
    return {(r.case, r.structure, r.recurrence, r.target, r.metric, r.reads): r.value for r in rows}


def test_a_data_set(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = mrprism.open_dataset(here / "data")
    assert data.task.raters == tuple(f"rater{n}" for n in range(1, 8))
    assert len(data) == 6
    assert not all(sample.rated.all() for sample in data)
    assert call(["check", str(here / "data")]) in (0, 1), capsys.readouterr().err


def test_a_run_predicts_as_it_did(here: Path) -> None:
    predictor = mrprism.load_run(unpack("run", here), device="cpu")
    assert predictor.run.config.mrprism == "0.1.0"
    found = predictor.predict(mrprism.open_dataset(here / "data")[0])
    with np.load(HERE / "prediction.npz") as said:
        assert set(said) == {"probability", "raters", "confusion"}
        for name in said:
            np.testing.assert_allclose(
                getattr(found, name), said[name], atol=6e-4, err_msg=name
            )  # kept in 16 bits


def test_a_run_is_scored_as_it_was_and_reported(here: Path) -> None:
    run = unpack("run", here)
    before = by_place(read_table(run / "table.csv"))
    after = by_place(mrprism.evaluate(run, device="cpu"))
    assert before.keys() <= after.keys()
    same = {place: after[place] for place in before}
    np.testing.assert_allclose(list(same.values()), list(before.values()), rtol=1e-4, atol=1e-5)
    page = mrprism.report([run], here / "report.html")
    assert "rater7" in page.read_text(encoding="utf-8")


def test_a_training_that_was_stopped_goes_on(here: Path, toys: None) -> None:
    run = unpack("stopped", here)
    assert [line["step"] for line in Run.open(run).log() if "loss" in line] == [1, 2, 3]
    mrprism.resume(run, device="cpu", quiet=True)
    assert [line["step"] for line in Run.open(run).log() if "loss" in line] == [1, 2, 3, 4, 5]
    found = read_tensors(run / "weights.safetensors")
    with np.load(HERE / "resumed.npz") as never_stopped:
        assert set(found) == set(never_stopped)
        for name in never_stopped:
            np.testing.assert_allclose(found[name], never_stopped[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_comparison_goes_on_and_trains_nothing_anew(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = unpack("comparison", here)
    assert read_plan(out).mrprism == "0.1.0"
    before = {path: path.read_bytes() for path in (out / "runs").rglob("*") if path.is_file()}
    page, tables = write_comparison(out)
    assert page.is_file()
    told = {line.label for table in tables for part in table.structures for line in part.lines}
    assert {"STAPLE", "Majority vote"} <= told
    budget = shlex.split(
        "--epochs 1 --size 24 --batch-size 2 --backbone tiny --learning-rate 1e-3 --device cpu"
    )
    methods = "fuse:fusion=majority,fuse:fusion=staple"
    code = call(["compare", str(here / "data"), "--out", str(out), "--methods", methods, *budget])
    assert code in (0, 1), capsys.readouterr().err  # 1: some had collapsed
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", json.loads((HERE / "methods.json").read_text(encoding="utf-8")))
def test_a_method_has_the_tensors_it_had(name: str) -> None:
    """So that the weights of every run of 0.1 fit: by their names, types and shapes."""
    torch.manual_seed(0)
    method = method_class(name)(Task(3, ("disc", "cup"), ("ann", "bob", "cy")), backbone="small")  # type: ignore[call-arg]
    state = {n: [str(t.dtype).removeprefix("torch."), *t.shape] for n, t in method.state_dict().items()}
    known = json.loads((HERE / "methods.json").read_text(encoding="utf-8"))[name]
    assert len(state) == known["tensors"]
    assert hashlib.sha256(json.dumps(state).encode()).hexdigest() == known["sha256"]


def test_no_method_is_gone() -> None:
    assert set(json.loads((HERE / "methods.json").read_text(encoding="utf-8"))) <= set(METHODS)
