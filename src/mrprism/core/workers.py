"""A function of one case, done for all of them in order: here, by processes of this machine, or on a Ray cluster.

    for result in in_order(task, range(len(cases)), Workers(jobs=4)):
        ...

Results come in the order of the cases, whoever did them, so what is made of them is the same bit for bit. With one job
and no cluster it is a plain loop. What workers say on standard error, and their warnings, come with the result of their
case; an error is raised when its turn comes. A few cases for each worker are under way at any time. A worker that dies is
replaced and its case done again; workers end when the loop does, whatever ends it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from mrprism.core import given
from mrprism.core.cluster import cluster
from mrprism.core.errors import InputError, WorkersLost
from mrprism.core.threads import shared_threads
from mrprism.core.worker import Doer, Outcome, receive, send

On = Literal["local", "ray"]
Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 3  # cases for each worker that are under way, or done and waiting for an earlier one
TRIES = 3  # workers that may die of one case
START = "from mrprism.core.worker import main; raise SystemExit(main())"
PATIENCE = 10  # seconds in which a worker that is asked to end cleans up


@dataclass(frozen=True)
class Workers:
    """How many do the work, and where.

    Args:
        jobs: None: one process here, or one for each core of a cluster.
    """

    jobs: int | None = None
    on: str = "local"  # or "ray"

    def __post_init__(self) -> None:
        if self.jobs is not None:
            object.__setattr__(self, "jobs", given.whole(self.jobs, "jobs", least=1))
        if self.on not in ("local", "ray"):
            raise InputError(f"work is done on 'local' or on 'ray', not on {given.said(self.on)}")

    @property
    def alone(self) -> bool:
        """Whether all is done by this very process."""
        return self.on == "local" and (self.jobs or 1) == 1


ALONE = Workers()


def in_order(
    task: Callable[[Item], Result],
    items: Iterable[Item],
    workers: Workers = ALONE,
    *,
    named: Callable[[Item], str] = str,
) -> Generator[Result, None, None]:
    """What the task makes of each item, one after the other.

    Close the iterator, or read it to its end, before anything is done about what its workers may have left.

    Args:
        task: Can be pickled, and so can what it is given and what it returns, unless there is one worker.
        named: What an item is called, where no worker survives it.

    Raises:
        InputError: The task cannot be given to another process; whatever the task raises, where its turn comes.
        WorkersLost: Several workers died of one item.
    """
    if workers.alone:
        yield from map(task, items)
        return
    try:
        packed = pickle.dumps(task)
    except Exception as error:
        raise InputError(
            f"these cases cannot be handed to other processes ({type(error).__name__}: {error}); "
            "leave out --jobs and --on, or put them on disk with write_dataset"
        ) from error
    with _crew(packed, workers, items) as (submit, count):
        waiting: deque[Future[bytes]] = deque()
        for item in items:
            waiting.append(submit(item, named(item)))
            if len(waiting) >= AHEAD * count:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(future: Future[bytes]) -> Any:
    """What a worker found, said as if it had been found here."""
    while not future.done():  # a wait without an end cannot be interrupted everywhere
        wait([future], timeout=0.5)
    outcome: Outcome = pickle.loads(future.result())
    if outcome.said:
        print(outcome.said, end="", file=sys.stderr)
    for message, category, file, line in outcome.warned:
        warnings.warn_explicit(message, category, file, line, registry=_SHOWN)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


_SHOWN: dict[Any, Any] = {}  # warnings that were shown, each of which is shown once


class _Lost(Exception):  # noqa: N818
    """A worker died; its text says how."""


@runtime_checkable
class _Worker(Protocol):
    """Somebody who does one case at a time."""

    def do(self, packed: bytes) -> bytes: ...
    def ask_to_end(self) -> None: ...
    def end(self) -> None: ...


Hire = Callable[[], _Worker]


@contextmanager
def _crew(
    packed: bytes, workers: Workers, items: Iterable[Any]
) -> Iterator[tuple[Callable[[Any, str], Future[bytes]], int]]:
    """What gives an item, and its name, to the next free worker, and how many workers there are at most."""
    most = len(items) if isinstance(items, Sequence) else None
    places: AbstractContextManager[tuple[Hire, int]] = (
        _local(packed, workers.jobs or 1, most)
        if workers.on == "local"
        else _on_ray(packed, workers.jobs, most)
    )
    with places as (hire, count):
        team = _Team(hire)
        with ThreadPoolExecutor(count) as pool:
            try:
                yield lambda item, name: pool.submit(team.do, item, name), count
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                team.end()


class _Team:
    """Workers, hired as they are needed; a dead one is replaced."""

    def __init__(self, hire: Hire) -> None:
        self.hire = hire
        self.free: list[_Worker] = []
        self.all: list[_Worker] = []
        self.ended = False
        self.lock = threading.Lock()

    def do(self, item: Any, name: str) -> bytes:
        """Have an item done by somebody who is free.

        Raises:
            WorkersLost: Everybody who tried died.
        """
        packed = pickle.dumps(item)
        why = ""
        for _ in range(TRIES):
            with self.lock:
                if self.ended:
                    raise CancelledError
                if not self.free:
                    self.free.append(self.hire())
                    self.all.append(self.free[-1])
                worker = self.free.pop()
            try:
                done = worker.do(packed)
            except _Lost as lost:
                why = str(lost)
                with self.lock:
                    if self.ended:
                        raise CancelledError from None
                    self.all.remove(worker)
                worker.end()
                continue
            with self.lock:
                self.free.append(worker)
            return done
        raise WorkersLost(
            f"{TRIES} processes died one after the other of case '{name}': {why}; "
            "fewer --jobs leave each of them more memory"
        )

    def end(self) -> None:
        """End all of them, in the middle of what they do."""
        with self.lock:
            self.ended = True
        for worker in self.all:
            worker.ask_to_end()
        for worker in self.all:
            worker.end()


class _Process:
    """A worker in a process of this machine."""

    def __init__(self, packed: bytes, environment: Mapping[str, str]) -> None:
        places = os.pathsep.join(place or os.getcwd() for place in sys.path)  # "" is where we are
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START],
            stdin=subprocess.PIPE,  # its end tells the process that we are gone
            stdout=subprocess.PIPE,
            env={**os.environ, **environment, "PYTHONPATH": places},
            start_new_session=True,  # Ctrl-C comes to us, and we tell it
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.given, self.answers = self.process.stdin, self.process.stdout
        self._send(packed)

    def _send(self, message: bytes) -> None:
        with suppress(OSError, ValueError):  # it is gone, as its missing answer will tell
            send(self.given, message)

    def do(self, packed: bytes) -> bytes:
        self._send(packed)
        answer = receive(self.answers)
        if answer is None:
            self.ask_to_end()
            code = self.process.wait()
            hint = ", perhaps for want of memory" if code == -9 else ""
            raise _Lost(f"ended by signal {-code}{hint}" if code < 0 else f"exit code {code}")
        return answer

    def ask_to_end(self) -> None:
        with suppress(OSError):
            self.given.close()

    def end(self) -> None:
        self.ask_to_end()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()


@contextmanager
def _local(packed: bytes, jobs: int, most: int | None) -> Iterator[tuple[Hire, int]]:
    """Processes of this machine, the cores shared out evenly unless the user said otherwise."""
    count = max(1, jobs if most is None else min(jobs, most))
    threads = shared_threads(max(1, (os.cpu_count() or 1) // count))
    yield lambda: _Process(packed, threads), count


class _Actor:
    """A worker on a Ray cluster."""

    def __init__(self, ray: Any, kind: Any, packed: Any) -> None:
        self.ray, self.actor = ray, kind.remote(packed)

    def do(self, packed: bytes) -> bytes:
        try:
            answer: bytes = self.ray.get(self.actor.do.remote(packed))
        except self.ray.exceptions.RayError as error:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            raise _Lost(f"{type(error).__name__}: {first[:200]}") from error
        return answer

    def ask_to_end(self) -> None:
        with suppress(Exception):  # a cluster that is gone has nothing left to end
            self.ray.kill(self.actor)

    def end(self) -> None:
        self.ask_to_end()


@contextmanager
def _on_ray(packed: bytes, jobs: int | None, most: int | None) -> Iterator[tuple[Hire, int]]:
    """Workers anywhere on a Ray cluster, one for each core unless the user said otherwise."""
    with cluster() as (ray, has):
        cores = max(1, int(has.get("CPU", 1)))
        count = max(1, min(jobs or cores, cores, cores if most is None else most))
        environment = {"env_vars": shared_threads(max(1, cores // count))}
        kind = ray.remote(Doer).options(num_cpus=1, max_restarts=0, runtime_env=environment)
        held = ray.put(packed)
        yield lambda: _Actor(ray, kind, held), count
