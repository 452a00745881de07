"""The benchmark that waits for a GPU runs in miniature on any machine, stops in time and goes on."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)
    spec.loader.exec_module(module)
    found: Callable[..., dict[str, Any]] = module.main
    return found


def test_a_miniature_runs_and_is_not_run_again(main: Any, tmp_path: Path, capsys: Any) -> None:
    toy = ["--toy", "--device", "cpu", "--out", str(tmp_path)]
    still = main([*toy, "--minutes", "10"], now=lambda: 0.0)
    assert json.loads(capsys.readouterr().out) == still
    assert len(still["jobs"]) == 2
    assert still["epochs"] == 2
    for name, job in still["jobs"].items():
        assert all(0 <= dice <= 100 for dice in job["dice"])
        assert job["peak_memory_mib"] > 0
        assert (job["fusion_of_given_masks"] is None) == ("mrprism" not in name)
    assert main([*toy, "--minutes", "0"]) == still  # all is known; nothing is run


def test_what_does_not_fit_is_said(main: Any, tmp_path: Path) -> None:
    clock = itertools.count(0, 700)  # each look at it finds that minutes have passed
    late = main(["--toy", "--device", "cpu", "--out", str(tmp_path)], now=lambda: float(next(clock)))
    assert [job["not_run"] for job in late["jobs"].values()] == ["the time would not have been enough"] * 2
