"""A worker that is lost takes one run with it: the others go on, and the run keeps a sentence that says why."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from mrprism.compare.launch import SweepStopped
from mrprism.compare.plan import Budget, Job
from mrprism.compare.sweep import sweep


def jobs(out: Path, count: int = 3) -> list[Job]:
    return [
        Job(
            key="mrprism",
            method="mrprism",
            options={},
            seed=seed,
            budget=Budget(epochs=1),
            dataset_path="data",
            train=("a",),
            val=(),
            test=("b",),
            shown=(),
            run=out / f"runs/mrprism/seed{seed}",
        )
        for seed in range(count)
    ]


def finished(outcome: BaseException | str | None) -> Future[str | None]:
    future: Future[str | None] = Future()
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return future


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            RuntimeError("The worker died unexpectedly.\nCheck the log."),
            "its worker was lost (RuntimeError: The worker died",
        ),
        (ConnectionError(), "its worker was lost (ConnectionError)"),
        (
            OSError(28, "No space left on device"),
            "its worker was lost (OSError: [Errno 28] No space left on device)",
        ),
        (MemoryError("\n \n"), "its worker was lost (MemoryError)"),
    ],
    ids=str,
)
def test_the_others_go_on(error: Exception, says: str, tmp_path: Path) -> None:
    outcomes: dict[int, BaseException | str | None] = {0: None, 1: error, 2: "out of memory"}
    failed = sweep(jobs(tmp_path), lambda job: finished(outcomes[job.seed]), 1, quiet=True)
    assert set(failed) == {"mrprism/seed1", "mrprism/seed2"}
    assert failed["mrprism/seed1"].startswith(says)
    assert failed["mrprism/seed2"] == "out of memory"
    kept = (tmp_path / "runs/mrprism/seed1.failed").read_text()
    assert kept == failed["mrprism/seed1"] + "\n"
    assert kept.count("\n") == 1


@pytest.mark.parametrize("error", [SweepStopped(), KeyboardInterrupt()], ids=repr)
def test_a_sweep_that_is_stopped_is_no_lost_worker(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        sweep(jobs(tmp_path), lambda job: finished(error), 1, quiet=True)
    assert not list(tmp_path.rglob("*.failed"))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from mrprism.compare import launch
from mrprism.compare.sweep import sweep
from compare.test_lost_workers import jobs
launch.run_job = lambda job, environment, stop=None: os.kill(os.getpid(), signal.SIGKILL) if job.seed == 1 else None
def main():
    with launch.on_ray(1, "cpu") as submit:
        for key, why in sweep(jobs(Path(sys.argv[1])), submit, 1, quiet=True).items():
            print(f"{key}: {why}")
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_killed_worker_of_a_ray_cluster(tmp_path: Path) -> None:
    """In a process of its own, for Ray leaves warnings behind."""
    with (tmp_path / "said").open("w+") as said:  # a pipe would stay open as long as anything of Ray's lives
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[1])]
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            command, stdout=said, stderr=said, check=False, env={**os.environ, "PYTHONPATH": path}
        )
    printed = (tmp_path / "said").read_text()
    assert done.returncode == 0, printed
    lines = [line for line in printed.splitlines() if line.startswith("mrprism/")]
    assert len(lines) == 1, printed
    assert lines[0].startswith("mrprism/seed1: its worker was lost (WorkerCrashedError: ")
