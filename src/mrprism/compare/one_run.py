"""One run of a comparison, in a process of its own: train or go on, score, measure what it costs.

Started as `python -m mrprism.compare.one_run JOB`, with the job as JSON. When the process that started it
ends, for whatever reason, its end of standard input closes; the training then saves and stops.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mrprism.compare.plan import Cost, Job
from mrprism.core.errors import InputError
from mrprism.datasets import Dataset, open_dataset
from mrprism.learn.loading import collate, resize_sample
from mrprism.learn.predict import Predictor, evaluate, load
from mrprism.learn.run import Run
from mrprism.learn.train import resume, train
from mrprism.metrics.scores import write_example
from mrprism.output.files import remove_leftovers, write_file

TIMED = 20  # predictions whose median says how long one takes


def main() -> int:
    """Do the job given on the command line; the last line of output says what went wrong."""
    job = Job.model_validate_json(sys.argv[1])
    _stop_with_parent()
    try:
        with _alone(job.run.with_name(f"{job.run.name}.lock")):
            do(job)
    except InputError as error:
        print(f"mrprism: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"mrprism: {stop or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def do(job: Job) -> None:
    """Train what is missing of a run, go on with what was begun, and score it."""
    remove_leftovers(job.run)
    if job.done():
        job.check(Run.open(job.run))
        return
    dataset = open_dataset(job.dataset_path)
    run = _trained(job, dataset)
    memory = _peak_memory_mib(job.device)
    evaluate(run, dataset, device=job.device)
    predictor = load(run, job.device)
    _keep_shown(predictor, dataset, job.shown)
    cost = Cost(
        milliseconds=_milliseconds(predictor, dataset, job.test),
        memory_mib=memory,
        device=str(predictor.method.device),
        threads=torch.get_num_threads(),
    )
    write_file(job.cost, cost.model_dump_json(indent=2).encode() + b"\n")


def _trained(job: Job, dataset: Dataset) -> Run:
    options = {"device": job.device, "checkpoint_every": job.checkpoint_every}
    if (job.run / "config.json").is_file():
        job.check(Run.open(job.run))
        return resume(job.run, dataset, **options)  # type: ignore[arg-type]
    shutil.rmtree(job.run, ignore_errors=True)  # a start that died before its first file was whole
    return train(
        dataset, job.method, job.run, options=job.options, seed=job.seed,
        **job.budget.model_dump(), **options,  # type: ignore[arg-type]
    )  # fmt: skip


def _keep_shown(predictor: Predictor, dataset: Dataset, names: Sequence[str]) -> None:
    """The same cases of every method, to be laid side by side."""
    folder = predictor.run.path / "shown"
    for number, name in enumerate(names):
        picture = predictor.picture(dataset[name])
        if picture.fused is not None:
            write_example(folder / "masks" / f"{number}.npz", picture.shown, picture.fused)
        kind = "image" if predictor.method.reads == "image" else "masks"
        write_example(folder / kind / f"{number}.npz", picture.shown, picture.prediction)


def _milliseconds(predictor: Predictor, dataset: Dataset, names: Sequence[str]) -> float:
    """Median time of predicting one image at the training size."""
    device = predictor.method.device
    size = predictor.run.config.size
    seen = [resize_sample(predictor.picture(dataset[name]).seen, size) for name in names[:5]]
    batches = [collate([sample], device=device) for sample in seen]
    took = []
    with torch.inference_mode():
        for number in range(TIMED + 3):
            batch = batches[number % len(batches)].only(predictor.method.reads)
            _wait(device)
            start = time.perf_counter()
            predictor.method.predict(batch)
            _wait(device)
            took.append(time.perf_counter() - start)
    return round(1000 * float(np.median(took[3:])), 3)  # the first ones warm up


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory_mib(device: str | None) -> float:
    if device != "cpu" and torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _stop_with_parent() -> None:
    """Ask this process to stop once nobody holds the other end of its standard input."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold a lock on a run: one left over by a killed comparison saves and goes before the next begins."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
