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
from collections.abc import Sequence
from typing import Any

from mrprism.compare.plan import Cost, Job
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.split import SPLITS
from mrprism.learn.cost import milliseconds, peak_memory_mib, thread_count
from mrprism.learn.evaluate import evaluate
from mrprism.learn.predictor import Predictor, load
from mrprism.learn.run import Run
from mrprism.learn.train import resume, train
from mrprism.metrics.examples import write_example
from mrprism.output.ends import end_of
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.lock import alone
from mrprism.output.terminal import one_line


def main() -> int:
    """Do the job given on the command line; the last line of output says what went wrong."""
    job = Job.model_validate_json(sys.argv[1])
    _stop_with_parent()
    try:
        with alone(job.run, wait=True):  # one that a killed comparison left behind saves and goes first
            do(job)
    except BaseException as error:
        sentence, code = end_of(error)
        print(f"mrprism: {one_line(sentence)}", file=sys.stderr)
        return code
    return 0


def do(job: Job) -> None:
    """Train what is missing of a run, go on with what was begun, and score it."""
    remove_leftovers(job.run)
    if job.done():
        job.check(Run.open(job.run))
        return
    dataset = open_dataset(job.dataset_path)
    if job.divided:
        sides = {name: side for side in SPLITS for name in getattr(job, side)}
        dataset = dataset.divided(sides)
    run = _trained(job, dataset)
    memory = peak_memory_mib(job.device)
    draws = None if job.draws is None or load(run, "cpu").method.draws is None else job.draws
    evaluate(run, dataset, device=job.device, draws=draws)
    predictor = load(run, job.device, draws)
    _keep_shown(predictor, dataset, job.shown)
    cost = Cost(
        milliseconds=milliseconds(predictor, [dataset[name] for name in job.test[:5]]),
        memory_mib=memory,
        device=str(predictor.method.device),
        threads=thread_count(),
    )
    write_file(job.cost, cost.model_dump_json(indent=2).encode() + b"\n")


def _trained(job: Job, dataset: Dataset) -> Run:
    options: dict[str, Any] = {"device": job.device, "checkpoint_every": job.checkpoint_every}
    if (job.run / "config.json").is_file():
        job.check(Run.open(job.run))
        return resume(job.run, dataset, **options)
    shutil.rmtree(job.run, ignore_errors=True)  # a start that died before its first file was whole
    budget: dict[str, Any] = dict(job.budget)
    if job.budget.plan is not None:
        budget["size"] = None
    return train(
        dataset, job.method, job.run, options=job.options, seed=job.seed,
        **budget, **options,
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


def _stop_with_parent() -> None:
    """Ask this process to stop once nobody holds the other end of its standard input."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
