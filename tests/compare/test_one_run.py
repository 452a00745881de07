"""What a run of a comparison writes into its log when it cannot go on: one sentence, as on the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mrprism.compare import one_run
from mrprism.compare.plan import Budget, Job


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ZeroDivisionError("division\nby zero"), 70, "unexpected error, a fault of mrprism (ZeroDivisionError: division by zero)"),
        (MemoryError(), 2, "out of memory: the input is too large for this machine"),
        (OSError(28, "No space left on device", "/x"), 2, "'/x': no space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("debug", ["", "1"])
def test_one_sentence(
    error: BaseException,
    code: int,
    says: str,
    debug: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(job: Job) -> None:
        raise error

    monkeypatch.setattr(one_run, "do", fails)
    monkeypatch.setattr(one_run, "_stop_with_parent", lambda: None)
    monkeypatch.setenv("MRPRISM_DEBUG", debug)
    given = Job(
        key="a", method="a", options={}, seed=0, budget=Budget(), dataset_path="", train=(), val=(), test=(), shown=(),
        run=tmp_path / "run",
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["one_run", given.model_dump_json()])
    assert one_run.main() == code
    said = capsys.readouterr().err
    assert f"mrprism: {says}" in said.splitlines()[-1]
    assert ("Traceback" in said) == (debug == "1" and code == 70)
    assert debug or said.count("\n") == 1
