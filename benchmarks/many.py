"""Thousands of small cases: what import, check, agree and fuse take for each thousand of them.

    python benchmarks/many.py scratch/        # on two cores about six minutes; writes many.md

A case is a picture of 64 × 64 pixels and three raters' masks of one structure, as PNG. Each command is a process of its
own with one thread. Time is what it has of the processor, so that a busy machine changes little; memory is the most it
held at any moment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image

SIZES = (1000, 3000, 10_000)
SIDE, RATERS = 64, 3
COMMANDS = {
    "import": "import folder {source} {data}",
    "check": "check {data} --out {out}/check.html",
    "agree": "agree {data} --out {out}/agreement",
    "fuse": "fuse {data} --method majority --out {out}/fused",
}
Row = tuple[int, str, float, float]  # cases, command, seconds of the processor, MB


def make(root: Path, cases: int) -> None:
    """A folder of images and one of masks for each rater: discs whose place and size differ a little."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    for name in ("images", *(f"r{rater}" for rater in range(RATERS))):
        (root / name).mkdir(parents=True, exist_ok=True)
    for case in range(cases):
        image = draw.integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
        PIL.Image.fromarray(image).save(root / f"images/c{case:05}.png")
        row, column = draw.integers(20, 44, 2)
        radius = draw.integers(8, 16)
        for rater in range(RATERS):
            near = (y - row - draw.normal()) ** 2 + (x - column - draw.normal()) ** 2
            mask = near < (radius + draw.normal()) ** 2
            PIL.Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(root / f"r{rater}/c{case:05}.png")


def measured(command: str) -> tuple[float, float]:
    """Seconds of the processor, and MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "mrprism", *command.split()],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    warned = command.startswith("check")  # ends with 1, for it has something to say of such masks
    if os.waitstatus_to_exitcode(status) not in ((0, 1) if warned else (0,)):
        raise SystemExit(f"failed: mrprism {command}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def page(rows: Iterable[Row]) -> str:
    """The table as Markdown."""
    found = {(cases, command): (seconds, memory) for cases, command, seconds, memory in rows}
    sizes = sorted({cases for cases, _ in found})
    lines = [
        "| | " + " | ".join(f"{cases:,} cases" for cases in sizes) + " | memory for each |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for command in COMMANDS:
        here = [found[cases, command] for cases in sizes]
        cells = [
            f"{seconds:.0f} s ({1000 * seconds / cases:.1f} s a thousand), {memory:.0f} MB"
            for cases, (seconds, memory) in zip(sizes, here, strict=True)
        ]
        grows = 1000 * (here[-1][1] - here[0][1]) / max(1, sizes[-1] - sizes[0])
        lines.append(f"| {command} | {' | '.join(cells)} | {grows:.0f} kB |")
    about = __doc__ or ""
    return (
        "# Thousands of small cases\n\n`python benchmarks/many.py FOLDER` writes this page. " + about.split("\n\n")[2].strip()
        + " The last column is what the largest number of cases takes more than the smallest, for each case.\n\n"
        + "\n".join(lines) + "\n"
    )  # fmt: skip


def main() -> None:
    scratch = Path(sys.argv[1])
    rows: list[Row] = []
    for cases in SIZES:
        place = scratch / str(cases)
        shutil.rmtree(place, ignore_errors=True)
        make(place / "source", cases)
        (place / "out").mkdir()
        for name, command in COMMANDS.items():
            given = command.format(source=place / "source", data=place / "data", out=place / "out")
            rows.append((cases, name, *measured(given)))
            print(*rows[-1])
    Path(__file__).with_suffix(".md").write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
