"""Training and scoring against what was settled in the viewer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy import SMALL, TASK, samples

import mrprism
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decision import Start
from mrprism.datasets.decisions import Decisions
from mrprism.learn.evaluate import evaluate
from mrprism.learn.run import Run
from mrprism.metrics.scores import REFERENCE


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No reference of its own; every case settled as the top left corner."""
    folder = tmp_path_factory.mktemp("decided") / "squares"
    write_dataset(samples(10, reference=False), folder, name="squares", task=TASK)
    data = open_dataset(folder)
    assert data.manifest is not None
    decisions = Decisions(folder, data.manifest)
    corner = np.zeros((20, 20), bool)
    corner[:7, :9] = True
    for name in data.names:
        for structure in TASK.structures:
            decisions.save(name, structure, "dr", mask=corner, start=Start(kind="empty"), status="final")
    return folder


@pytest.mark.usefixtures("toys")
def test_a_run_learns_from_decisions_and_is_scored_against_them(squares: Path, tmp_path: Path) -> None:
    data = open_dataset(squares, reference="decisions")
    run = mrprism.train(data, "toy", tmp_path / "run", epochs=1, **SMALL)
    assert (run.config.reference, run.config.dataset_path) == ("decisions", str(squares.resolve()))
    assert run.config.select == "val-reference", "what a run is chosen by where all validation cases have one"
    rows = evaluate(run)
    assert any(row.target == REFERENCE for row in rows)
    assert not any(row.target == REFERENCE for row in evaluate(run, reference="dataset"))
    assert any(row.target == REFERENCE for row in evaluate(run, squares, reference="decisions"))
    with pytest.raises(InputError, match="open this one with the reference that is meant"):
        evaluate(run, data, reference="decisions")


@pytest.mark.usefixtures("toys")
def test_a_run_that_is_gone_on_with_asks_for_the_same_decisions(squares: Path, tmp_path: Path) -> None:
    shutil.copytree(squares, tmp_path / "squares")
    data = open_dataset(tmp_path / "squares", reference="decisions")
    mrprism.train(data, "toy", tmp_path / "run", epochs=1, **SMALL)
    (tmp_path / "run" / "result.json").unlink(missing_ok=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["reference"] == "decisions"
    assert Run.open(tmp_path / "run").config.reference == "decisions"


@pytest.mark.usefixtures("toys")
def test_by_command(squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    small = [
        "--epochs",
        "1",
        "--size",
        "20",
        "--batch-size",
        "2",
        "--backbone",
        "small",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert (
        call(["train", str(squares), "--out", run, "--method", "toy", "--reference", "decisions", *small])
        == 0
    )
    assert "reference" in (tmp_path / "run" / "table.csv").read_text()
    assert call(["evaluate", run, "--reference", "dataset", "--device", "cpu", "--quiet"]) == 0
    assert ",reference," not in (tmp_path / "run" / "table.csv").read_text()
    assert call(["train", "--resume", run, "--reference", "dataset"]) == 2
    assert "leave out --reference" in capsys.readouterr().err
