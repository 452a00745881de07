"""Fuzz everything that reads bytes from outside.

    python fuzz/run.py --minutes 10              # every target, ten minutes each
    python fuzz/run.py --minutes 1 coco cvat     # some of them

With atheris (pip install atheris) inputs are guided by what code they reach; without it they are plain random changes of
sound ones. A target fails by raising anything but InputError, by taking more than 10 s for one input or more than
1 GB of memory; the input that did it is kept in fuzz/finds/. Each target runs in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from targets import Target

HERE = Path(__file__).resolve().parent
SLOWEST = 10  # seconds for one input
MEMORY = 1024  # MiB


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", help="all unless told")
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("--engine", choices=["atheris", "random"], help="atheris where it is installed")
    given = parser.parse_args()
    engine = given.engine or ("atheris" if importlib.util.find_spec("atheris") else "random")
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["mrprism", "PIL", "tifffile", "nibabel"]):
            from targets import TARGETS, scratch
    else:
        from targets import TARGETS, scratch
    scratch()  # before there are several processes, so that one of them removes it
    for name in given.targets:
        if name not in TARGETS:
            parser.error(f"unknown target '{name}'; known: {', '.join(TARGETS)}")
    fuzz = with_atheris if engine == "atheris" else at_random
    print(
        "| target | engine | seconds | on the processor | executions | peak memory, MiB | |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    chosen = given.targets or list(TARGETS)
    return max([in_a_fork(name, TARGETS[name], fuzz, round(60 * given.minutes)) for name in chosen])


def in_a_fork(name: str, target: Target, fuzz: Callable[[str, Target, int], None], seconds: int) -> int:
    """Fuzz one target, print its line of the table, and say whether it failed."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                fuzz(name, target, max(1, seconds))
                code = 0
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status, used = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read().decode(errors="replace")
    found = {key: re.findall(rf"{key}:? +(\d+)", said) for key in ("number_of_executed_units", "peak_rss_mb")}
    executions, memory = (values[-1] if values else "?" for values in found.values())
    engine = "atheris" if fuzz is with_atheris else "random"
    verdict = "no find" if code == 0 else "FAILED"
    took = time.monotonic() - started
    busy = used.ru_utime + used.ru_stime
    print(
        f"| {name} | {engine} | {took:.0f} | {busy:.0f} | {executions} | {memory} | {verdict} |", flush=True
    )
    if code:
        print(said[-3000:], file=sys.stderr)
    return int(code != 0)


def peak() -> float:
    """The most memory this process has held, MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def with_atheris(name: str, target: Target, seconds: int) -> None:
    import atheris

    def held() -> float:
        statm = Path("/proc/self/statm")  # Linux only: elsewhere what atheris gathers counts, too
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20 if statm.exists() else 0.0

    def one(data: bytes) -> None:
        target(data)
        if (most := peak()) > MEMORY:
            gathered = max(0.0, held() - begun)  # by atheris's own traces, up to 15 kB for each input
            if most - gathered > MEMORY:
                raise MemoryError(f"{most:.0f} MiB, of which atheris at most {gathered:.0f}")

    finds = HERE / "finds"
    finds.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={SLOWEST}",
            "-rss_limit_mb=0",
            f"-malloc_limit_mb={MEMORY}",
            "-max_len=65536",
        ]
        options += ["-print_final_stats=1", f"-artifact_prefix={finds / name}-", "-seed=1", corpus]
        begun = held()
        atheris.Setup([sys.argv[0], *options], one)
        atheris.Fuzz()  # ends the process


def at_random(name: str, target: Target, seconds: int) -> None:
    from mutate import mutated

    def hangs(*_: object) -> None:
        raise TimeoutError(f"more than {SLOWEST} s for one input")

    signal.signal(signal.SIGALRM, hangs)
    draw = random.Random(name)
    seeds = target.seeds()
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = mutated(seeds, draw)
        signal.alarm(SLOWEST)
        try:
            read = target(data)
            if peak() > MEMORY:
                raise MemoryError(f"{peak():.0f} MiB")
        except BaseException:
            (HERE / "finds").mkdir(exist_ok=True)
            (HERE / "finds" / f"{name}-{count}").write_bytes(data)
            raise
        finally:
            signal.alarm(0)
        count += 1
        if read and len(seeds) < 200 and draw.random() < 0.05:
            seeds.append(data)  # changed and still read: go on from there
    print(f"number_of_executed_units: {count}\npeak_rss_mb: {peak():.0f}")


if __name__ == "__main__":
    sys.exit(main())
