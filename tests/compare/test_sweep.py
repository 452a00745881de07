"""What a sweep says of its progress, with jobs that only pretend."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from mrprism.compare.plan import Budget, Job
from mrprism.compare.sweep import UnderWay, last_step, seconds_left, sweep


def job(folder: Path, key: str, seed: int = 0) -> Job:
    return Job(
        key=key, method=key, options={}, seed=seed, budget=Budget(epochs=2, batch_size=2), dataset_path="",
        train=("a", "b", "c", "d"), val=(), test=("e",), shown=(), run=folder / "runs" / key / f"seed{seed}",
    )  # fmt: skip


def finish(job: Job) -> None:
    job.run.mkdir(parents=True)
    for name in ("result.json", "table.csv", "cost.json"):
        (job.run / name).write_text("")


def pretend(failing: str) -> Callable[[Job], str | None]:
    def do(job: Job) -> str | None:
        if job.key == failing:
            return "it would not"
        finish(job)
        return None

    return do


def test_only_what_is_missing_is_done_and_failures_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(tmp_path, key) for key in ("one", "two", "three", "four")]
    finish(jobs[0])
    begun: list[str] = []
    with ThreadPoolExecutor(2) as pool:

        def submit(job: Job) -> Future[str | None]:
            begun.append(job.key)
            return pool.submit(pretend("three"), job)

        failed = sweep(jobs, submit, 2)
    assert begun == ["two", "three", "four"]
    assert failed == {"three/seed0": "it would not"}
    said = capsys.readouterr().err
    assert "4 runs, 1 kept from before; 2 side by side" in said
    assert "three seed 0: failed: it would not" in said
    assert "3/3" in said


def test_quiet_is_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(1) as pool:
        sweep([job(tmp_path, "one")], lambda j: pool.submit(pretend(""), j), 1, quiet=True)
    assert capsys.readouterr().err == ""


def test_time_left() -> None:
    assert math.isnan(seconds_left(["a"], [], {}, 2))
    assert seconds_left(["a", "b"], [], {"a": [10.0, 20.0]}, 1) == 30
    assert seconds_left(["a", "b"], [], {"a": [10.0, 20.0]}, 2) == 15
    # half done in 5 s: 5 s to go; one more like it
    assert seconds_left(["a"], [UnderWay("a", 5.0, 0.0, 0.5)], {}, 1) == pytest.approx(15)
    # went on at a half, is at three quarters after 5 s: 5 s to go
    assert seconds_left([], [UnderWay("a", 5.0, 0.5, 0.75)], {}, 1) == pytest.approx(5)
    # side by side cannot be faster than the longest
    assert seconds_left([], [UnderWay("a", 1.0, 0.0, 0.1)], {}, 8) == pytest.approx(9)


def test_the_last_step_of_a_log_cut_off_by_a_crash(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert last_step(log) == 0
    lines = [json.dumps({"step": step, "note": "x" * 300}) for step in range(1, 41)]
    log.write_text("\n".join(lines) + '\n{"step": 41, "no')
    assert last_step(log) == 40
