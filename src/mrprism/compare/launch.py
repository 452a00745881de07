"""Where the runs of a sweep take place: processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Literal

from mrprism.compare.plan import Job
from mrprism.core.cluster import cluster
from mrprism.core.threads import shared_threads
from mrprism.output.files import write_file

On = Literal["local", "ray"]
Submit = Callable[[Job], "Future[str | None]"]  # the future gives why the run failed, None if it did not


class SweepStopped(Exception):  # noqa: N818
    """The sweep was asked to stop; the run saved where it stood."""


def run_job(job: Job, environment: Mapping[str, str], stop: threading.Event | None = None) -> str | None:
    """Do a job in a process of its own and say why it failed, if it did.

    Raises:
        SweepStopped: `stop` was set; the process has saved and ended.
    """
    job.run.parent.mkdir(parents=True, exist_ok=True)
    job.failure.unlink(missing_ok=True)
    with job.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mrprism.compare.one_run", job.model_dump_json()],
            stdin=subprocess.PIPE,  # its end tells the process that we are gone
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C comes to us, and we tell it
        )
        try:
            code = _wait(process, stop)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
    if code == 0:
        return None
    if stop is not None and stop.is_set():
        raise SweepStopped
    why = _why(job, code)
    write_file(job.failure, f"{why}\n")
    return why


def _wait(process: subprocess.Popen[bytes], stop: threading.Event | None) -> int:
    while stop is not None and not stop.is_set():
        try:
            return process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
    if stop is not None:
        assert process.stdin is not None
        process.stdin.close()
    return process.wait()


def _why(job: Job, code: int) -> str:
    """The sentence a failed process printed, or the last line of its traceback."""
    lines = [line.strip() for line in job.log.read_text(encoding="utf-8", errors="replace").splitlines()]
    said = [line.removeprefix("mrprism: ") for line in lines if line.startswith("mrprism: ")]
    said = [line for line in said if not line.startswith("warning")]
    if said and code > 0:
        return said[-1]
    if code < 0:
        hint = ", perhaps for want of memory" if code == -9 else ""
        return f"the process was ended by signal {-code}{hint}; see {job.log}"
    return f"{next((line for line in reversed(lines) if line), f'exit code {code}')}; see {job.log}"


@contextmanager
def local(jobs: int) -> Iterator[Submit]:
    """So many processes side by side on this machine, the cores shared out evenly unless the user said otherwise."""
    threads = shared_threads(max(1, (os.cpu_count() or 1) // jobs))
    places: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
    for slot in range(jobs):
        places.put({**threads, **_gpu(slot)})
    stop = threading.Event()

    def task(job: Job) -> str | None:
        if stop.is_set():
            raise SweepStopped
        place = places.get()
        try:
            return run_job(job, place, stop)
        finally:
            places.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield lambda job: pool.submit(task, job)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _gpu(slot: int) -> dict[str, str]:
    """Which GPU the processes of one slot see, where there are several."""
    from mrprism.learn.devices import gpu_count

    count = gpu_count()
    if count < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[slot % count]}


def default_jobs(device: str | None) -> int:
    """One run a GPU; without one, a run for every four cores."""
    from mrprism.learn.devices import gpu_count

    gpus = 0 if device == "cpu" else gpu_count()
    return gpus or max(1, (os.cpu_count() or 1) // 4)


@contextmanager
def on_ray(jobs: int | None, device: str | None) -> Iterator[Submit]:
    """Tasks of the Ray cluster that RAY_ADDRESS names, or of one started here for the purpose.

    Every node needs mrprism, the data set and the output folder under the same path. A GPU is asked
    for where the cluster has any.
    """
    with cluster() as (ray, resources):
        yield from _tasks(ray, resources, jobs, device)


def _tasks(
    ray: Any, resources: Mapping[str, float], jobs: int | None, device: str | None
) -> Iterator[Submit]:
    cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0)) if device != "cpu" else 0
    side_by_side = jobs or gpus or max(1, cores // 4)
    threads = max(1, cores // side_by_side)
    environment = shared_threads(threads)
    task: Any = ray.remote(run_job).options(
        num_cpus=threads, num_gpus=min(1.0, gpus / side_by_side) if gpus else 0, max_retries=0
    )
    pending: list[Any] = []

    def submit(job: Job) -> Future[str | None]:
        reference = task.remote(job, environment)
        pending.append(reference)
        future: Future[str | None] = reference.future()
        return future

    try:
        yield submit
    finally:
        with suppress(Exception):  # a cluster that is gone has nothing left to cancel
            ready: Sequence[Any] = (
                ray.wait(pending, num_returns=len(pending), timeout=0)[0] if pending else []
            )
            for reference in pending:
                if reference not in ready:
                    ray.cancel(reference)
