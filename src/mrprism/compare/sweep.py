"""Doing the runs of a comparison, with a word on how far the whole of it is."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mrprism.compare.launch import Submit, SweepStopped
from mrprism.compare.plan import Job
from mrprism.core.errors import InputError
from mrprism.learn.settings import steps_per_epoch
from mrprism.output.console import console
from mrprism.output.files import write_file

TAIL = 4096  # bytes of a log, enough for its last line


def sweep(jobs: Sequence[Job], submit: Submit, side_by_side: int, *, quiet: bool = False) -> dict[str, str]:
    """Do every job that is not done yet.

    Returns:
        For each failed run, its folder's key and name to why.
    """
    missing = [job for job in jobs if not job.done()]
    failed: dict[str, str] = {}
    with _Display(jobs, missing, side_by_side, quiet) as display:
        running: dict[Future[str | None], Job] = {submit(job): job for job in missing}
        while running:
            finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in finished:
                job = running.pop(future)
                why = _why(future, job)
                if why is not None:
                    failed[f"{job.key}/{job.run.name}"] = why
                display.finished(job, why)
            display.show()
    return failed


def _why(future: Future[str | None], job: Job) -> str | None:
    """Why a run failed, also where the process it took place in is gone and cannot say; None if it did not."""
    try:
        return future.result()
    except SweepStopped:
        raise
    except Exception as error:  # the clusters' own: a worker killed, a node gone, no memory
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        why = f"its worker was lost ({type(error).__name__}{f': {first[:200]}' if first else ''})"
        with suppress(InputError):
            write_file(job.failure, f"{why}\n")
        return why


def last_step(log: Path) -> int:
    """The step of the last whole line of a run's log; 0 where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


class UnderWay(NamedTuple):
    """A run in progress."""

    key: str
    seconds: float  # since it began in this sweep
    first: float  # share of its steps that was done then
    share: float  # share that is done now


def seconds_left(
    waiting: Sequence[str],
    running: Sequence[UnderWay],
    known: Mapping[str, Sequence[float]],
    side_by_side: int,
) -> float:
    """How long the sweep will take from here; NaN while nothing is known.

    Args:
        waiting: Key of each run not begun.
        known: Key to the seconds of finished runs. A method never seen takes the mean of the others.
    """
    estimates = {key: sum(seconds) / len(seconds) for key, seconds in known.items() if seconds}
    for run in running:
        if run.share > run.first and run.key not in estimates:
            estimates[run.key] = run.seconds / (run.share - run.first)
    if not estimates:
        return math.nan
    usual = sum(estimates.values()) / len(estimates)
    left = [max(0.0, estimates.get(run.key, usual) * (1 - run.first) - run.seconds) for run in running]
    total = sum(left) + sum(estimates.get(key, usual) for key in waiting)
    return max([total / side_by_side, *left])


@dataclass
class _Display:
    """A bar for the sweep and a line for each run on a terminal; elsewhere a line when a run ends."""

    jobs: Sequence[Job]
    missing: Sequence[Job]
    side_by_side: int
    quiet: bool
    taken: dict[str, list[float]] = field(default_factory=dict)
    ended: set[Path] = field(default_factory=set)
    begun: dict[Path, tuple[float, float]] = field(default_factory=dict)
    lines: dict[Path, TaskID] = field(default_factory=dict)
    started: float = field(default_factory=lambda: time.time() - 1)

    def __enter__(self) -> _Display:
        self.console = console(stderr=True, soft_wrap=True)
        self.bars: Progress | None = None
        reused = len(self.jobs) - len(self.missing)
        kept = f", {reused} kept from before" if reused else ""
        together = min(self.side_by_side, len(self.missing) or 1)
        self.say(f"{len(self.jobs)} runs{kept}; {together} side by side")
        if self.console.is_terminal and not self.quiet and self.missing:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
            self.bars = Progress(*columns, console=self.console, transient=True)
            self.whole = self.bars.add_task("comparison", total=len(self.missing), note="")
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars:
            self.bars.stop()

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text)

    def finished(self, job: Job, why: str | None) -> None:
        self._under_way()
        self.ended.add(job.run)
        seconds = time.monotonic() - self.begun.get(job.run, (time.monotonic(), 0.0))[0]
        if why is None and seconds > 0:
            self.taken.setdefault(job.key, []).append(seconds)
        if self.bars and job.run in self.lines:
            self.bars.remove_task(self.lines.pop(job.run))
        place = f"{len(self.ended)}/{len(self.missing)} {job.key} seed {job.seed}"
        left = self._left()
        rest = f", {clock(left)} left" if not math.isnan(left) and len(self.ended) < len(self.missing) else ""
        self.say(f"{place}: failed: {why}" if why else f"{place}: done in {clock(seconds)}{rest}")

    def show(self) -> None:
        """Look where the runs are."""
        running = self._under_way()
        if not self.bars:
            return
        for path, run in running.items():
            if path not in self.lines:
                name = f"  {run.key} {path.name}"
                self.lines[path] = self.bars.add_task(name, total=1.0, note="")
            self.bars.update(self.lines[path], completed=run.share, note=f"{100 * run.share:.0f} %")
        left = self._left()
        rest = "" if math.isnan(left) else f", {clock(left)} left"
        note = f"{len(self.ended)}/{len(self.missing)} runs{rest}"
        done = len(self.ended) + sum(run.share for run in running.values())
        self.bars.update(self.whole, completed=done, note=note)

    def _under_way(self) -> dict[Path, UnderWay]:
        """The runs that have begun in this sweep: their output is then written anew."""
        running = {}
        for job in self.missing:
            if job.run in self.ended or not job.log.is_file() or job.log.stat().st_mtime < self.started:
                continue
            each = 1 if job.budget.plan is None else job.budget.plan.patches_per_case
            steps = job.budget.epochs * steps_per_epoch(each * len(job.train), job.budget.batch_size)
            share = min(1.0, last_step(job.run / "log.jsonl") / steps)
            begun, first = self.begun.setdefault(job.run, (time.monotonic(), share))
            running[job.run] = UnderWay(job.key, time.monotonic() - begun, first, share)
        return running

    def _left(self) -> float:
        running = self._under_way()
        waiting = [job.key for job in self.missing if job.run not in {*self.ended, *running}]
        return seconds_left(waiting, list(running.values()), self.taken, self.side_by_side)


def clock(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
