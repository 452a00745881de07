"""Two workers beside one: what `--jobs 2` gives `import`, `check`, `agree` and `fuse` over many small cases.

    python benchmarks/jobs.py scratch/ --cases 1000 --rounds 5      # on two free cores about six minutes

The cases are those of `many.py`. One and two workers take turns, with one thread each. On a machine that others use the
clock says little, so the page has beside it how the time of the processor was shared: what the command itself had, and
what its workers had. If nothing overlaps, two workers on two free cores take the command's own time and half of the
workers', one after the other; the last column is the gain from that. What overlaps makes it larger.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from many import COMMANDS, make

START = """
import json, resource, sys
from mrprism.cli import call
code = call(sys.argv[2:])
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
open(sys.argv[1], "w").write(json.dumps([one.ru_utime + one.ru_stime for one in used]))
sys.exit(code)
"""


class Took(NamedTuple):
    """One command once."""

    seconds: float  # on the clock
    command: float  # of the processor, by the command itself
    workers: float  # ... by its workers


def measured(words: list[str], note: Path) -> Took:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", START, str(note), *words], env=environment, capture_output=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 1):  # 1: check has something to say of such masks
        raise SystemExit(f"failed: mrprism {' '.join(words)}\n{done.stderr.decode()}")
    return Took(seconds, *json.loads(note.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    place = given.scratch / f"jobs-{given.cases}"
    shutil.rmtree(place, ignore_errors=True)
    make(place / "source", given.cases)
    took: dict[tuple[str, int], list[Took]] = {}
    for _ in range(given.rounds):
        for name, command in COMMANDS.items():
            for jobs in (1, 2):
                out = place / f"out-{jobs}"
                if name == "import":
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                words = command.format(source=place / "source", data=out / "data", out=out).split()
                if name == "agree" or name == "fuse":
                    shutil.rmtree(out / {"agree": "agreement", "fuse": "fused"}[name], ignore_errors=True)
                took.setdefault((name, jobs), []).append(
                    measured([*words, "--jobs", str(jobs)], place / "note")
                )
    print(
        "| | one, s | two, s | quicker by the clock | command, processor s | workers, processor s | quicker on two free cores |"
    )
    print("|---" * 7 + "|")
    for name in COMMANDS:
        one, two = (
            Took(*(statistics.median(values) for values in zip(*took[name, jobs], strict=True)))
            for jobs in (1, 2)
        )
        bound = (one.command + one.workers) / (two.command + two.workers / 2)
        print(
            f"| {name} | {one.seconds:.1f} | {two.seconds:.1f} | {one.seconds / two.seconds:.2f} | {two.command:.1f} of "
            f"{one.command:.1f} | {two.workers:.1f} | {bound:.2f} or more |"
        )
    print(
        f"\n{given.cases} cases, medians of {given.rounds} rounds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
