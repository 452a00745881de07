"""Every example runs, in an empty folder, and leaves what it says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
LEAVES = {
    "agree": ["disputed.png"],
    "open_dataset": ["fundus/dataset.json"],
    "plot": ["case.png"],
    "predict": ["outlines/photo/mask_cup.png", "run/weights.safetensors"],
    "train": ["report.html", "runs/mrprism/table.csv"],
}


def test_there_are_examples() -> None:
    assert {file.stem for file in EXAMPLES} >= {*LEAVES, "fuse"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_example_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(file), run_name="__main__")
    for path in LEAVES.get(file.stem, []):
        assert (tmp_path / path).stat().st_size > 0
    printed = capsys.readouterr().out
    assert printed or file.stem == "plot"
    assert "nan" not in printed.replace("[nan", "").lower() or file.stem == "agree"  # agree's diagonal
