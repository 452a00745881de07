"""Runs mrprism commands in forks of one process that has everything imported, and kills them on time.

Reads one JSON object a line: the arguments of a command, the file its output goes to, and after how many
seconds it is killed. Answers with its exit code and how long it took. Processes of their own that a
comparison starts are forks as well.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

import torch
from toy import TOYS

from mrprism.cli import VERBS, call
from mrprism.compare import launch, one_run
from mrprism.learn.methods import METHODS

PATIENCE = 900.0  # seconds after which a command is taken to hang


class Fork:
    """What `mrprism.compare.launch` needs of a process, as a fork of this one."""

    def __init__(self, command: list[str], *, stdout: Any, env: dict[str, str], **_: object) -> None:
        ours, theirs = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(theirs)
            os.dup2(ours, 0)
            os.setsid()
            _speak_to(stdout.fileno())
            os.environ.update(env)
            sys.argv = ["one_run", command[-1]]
            _leave(one_run.main)
        os.close(ours)
        self.stdin = os.fdopen(theirs, "wb")
        self.code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                raise launch.subprocess.TimeoutExpired("one_run", timeout or PATIENCE)
            else:
                time.sleep(0.005)
        return self.code


def _speak_to(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _leave(do: Any) -> NoReturn:
    """Do it and end this fork; nothing of the server's own is run on the way out."""
    code = 1
    try:
        code = do()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def children(pid: int) -> list[int]:
    """Processes it started itself, where the system tells."""
    with suppress(OSError):
        threads = os.listdir(f"/proc/{pid}/task")
        found = [open(f"/proc/{pid}/task/{t}/children").read().split() for t in threads]  # noqa: SIM115
        return [int(child) for some in found for child in some]
    return []


def serve(order: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    with open(order["log"], "wb") as log:
        pid = os.fork()
        if pid == 0:
            _speak_to(log.fileno())
            _leave(lambda: call(order["arguments"]))
    kill_after = order["kill_after"]
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - started
        if done:
            return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}
        if seconds > (PATIENCE if kill_after is None else kill_after):
            below = children(pid) if order["with_children"] else []
            for one in (pid, *below):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            kill_after = PATIENCE
        time.sleep(0.001)


def main() -> None:
    torch.set_num_threads(1)
    for name in (
        *(f"cli.{module}" for module, _ in VERBS.values()),
        "layouts.writers",
        "fusion.folder",
        "report",
        "learn.train",
    ):
        importlib.import_module(f"mrprism.{name}")
    METHODS.update(TOYS)
    launch.subprocess.Popen = Fork  # type: ignore[misc, assignment]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
