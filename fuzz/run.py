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
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    engine = given.engine or ("atheris" if importlib.util.find_spec("atheris") else "random")
    seconds = max(1, round(60 * given.minutes))
    if given.one:
        return (with_atheris if engine == "atheris" else at_random)(given.targets[0], seconds)
    failed = []
    print(
        "| target | engine | seconds | executions | peak memory, MiB | |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name in given.targets or names():
        command = [
            sys.executable,
            __file__,
            "--one",
            "--engine",
            engine,
            "--minutes",
            str(given.minutes),
            name,
        ]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        found = {
            key: re.findall(rf"{key}:? +(\d+)", said) for key in ("number_of_executed_units", "peak_rss_mb")
        }
        executions, memory = (values[-1] if values else "?" for values in found.values())
        verdict = "no find" if done.returncode == 0 else "FAILED"
        print(
            f"| {name} | {engine} | {time.monotonic() - started:.0f} | {executions} | {memory} | {verdict} |",
            flush=True,
        )
        if done.returncode:
            failed.append(name)
            print(said[-3000:], file=sys.stderr)
    return 1 if failed else 0


def names() -> list[str]:
    from targets import TARGETS

    return list(TARGETS)


def with_atheris(name: str, seconds: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["mrprism", "PIL", "tifffile", "nibabel"]):
        from targets import TARGETS
    target = TARGETS[name]
    finds = HERE / "finds"
    finds.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={SLOWEST}",
            f"-rss_limit_mb={MEMORY}",
            "-max_len=65536",
        ]
        options += ["-print_final_stats=1", f"-artifact_prefix={finds / name}-", "-seed=1", corpus]
        atheris.Setup([sys.argv[0], *options], lambda data: target(data) and None)
        atheris.Fuzz()
    return 0


def at_random(name: str, seconds: int) -> int:
    import resource

    from mutate import mutated
    from targets import TARGETS

    def hangs(*_: object) -> None:
        raise TimeoutError(f"more than {SLOWEST} s for one input")

    signal.signal(signal.SIGALRM, hangs)
    target, draw = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    until, count, peak = time.monotonic() + seconds, 0, 0.0
    while time.monotonic() < until:
        data = mutated(seeds, draw)
        signal.alarm(SLOWEST)
        try:
            read = target(data)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
                2**20 if sys.platform == "darwin" else 2**10
            )
            if peak > MEMORY:
                raise MemoryError(f"{peak:.0f} MiB")
        except BaseException:
            (HERE / "finds").mkdir(exist_ok=True)
            (HERE / "finds" / f"{name}-{count}").write_bytes(data)
            raise
        finally:
            signal.alarm(0)
        count += 1
        if read and len(seeds) < 200 and draw.random() < 0.05:
            seeds.append(data)  # changed and still read: go on from there
    print(f"number_of_executed_units: {count}\npeak_rss_mb: {peak:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
