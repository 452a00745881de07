"""Memory and time of whole volumes: 512 × 512 × 300 voxels, four raters, checked, fused, learned from, predicted.

    python benchmarks/volume.py            # some gigabytes of temporary files; writes benchmarks/volume.md
    python benchmarks/volume.py --depth 40 --width 128 --out /tmp/small.md

Three patients are drawn (one to learn from, one to choose on, one to test on), as compressed NIfTI files of
16 bit with a mask of each rater. Each command runs as a process of its own; its peak memory is what the
system counted as resident (`ru_maxrss` of that process alone).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

RATERS = {"ann": 0.0, "bob": 1.5, "cy": -1.5, "dee": 3.0}  # pixels outside (or inside) the true edge
LIMIT_GB = 4.0


@dataclass(frozen=True)
class Measured:
    """One command."""

    name: str
    shown: str
    gigabytes: float
    seconds: float
    processor_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=300)
    parser.add_argument("--size", type=int, default=128, help="pixels the network sees")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volume-") as folder:
        os.chdir(folder)
        # in a process of its own: a process begins with the peak of the one that started it
        drawing = multiprocessing.get_context("spawn").Process(
            target=draw, args=(Path("ct"), given.width, given.depth)
        )
        drawing.start()
        drawing.join()
        stored = sum(file.stat().st_size for file in Path("ct").rglob("*.nii.gz")) / 1e9
        train = f"--slices axial --neighbours 1 --size {given.size} --backbone small --epochs 1 --device cpu"
        commands = {
            "check": "check ct",
            "fuse": "fuse ct --method staple --out fused",
            "train": f"train ct --out run {train} --no-evaluate --quiet",
            "predict": "predict run ct/images/test.nii.gz --out outlines --device cpu",
            "evaluate": "evaluate run --device cpu --quiet",
        }
        measured = []
        for name, command in commands.items():
            measured.append(measure(name, command))
            print(measured[-1], flush=True)
        check_result(Path("outlines/test"), Path("ct/images/test.nii.gz"))
        given.out.write_text(page(measured, given, stored), encoding="utf-8")


def measure(name: str, command: str) -> Measured:
    """Run `mrprism COMMAND` and ask the system what it took."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "mrprism", *command.split()], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"mrprism {command} failed")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    used = usage.ru_utime + usage.ru_stime
    return Measured(name, f"mrprism {command}", peak, time.monotonic() - started, used)


def draw(folder: Path, width: int, depth: int) -> None:
    """Three volumes with an organ that each rater outlines a little further out or in."""
    cases = []
    for number, split in enumerate(("train", "val", "test")):
        random = np.random.default_rng(number)
        low = random.normal(size=(depth // 10 + 2, 12, 12))
        wobble = 6 * ndimage.zoom(low, (depth / len(low), width / 12, width / 12), order=1).astype(np.float32)
        z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (depth, width, width))
        away = np.sqrt((z[:, None, None] / 0.7) ** 2 + (y[:, None] / 0.45) ** 2 + (x / 0.35) ** 2)
        edge = (1 - away) * width / 6 + wobble[:depth, :width, :width]  # about pixels inside the organ
        del away, wobble
        image = (200 * (edge > 0) + 40 * (np.abs(x) + np.abs(y)[:, None]) - 100).astype(np.int16)
        image += random.integers(-60, 60, image.shape, dtype=np.int16)
        save(folder / "images" / f"{split}.nii.gz", image)
        masks = {}
        for rater, further in RATERS.items():
            masks[rater] = {"organ": f"masks/{rater}/{split}.nii.gz"}
            shaken = edge + further + random.normal(0, 0.7, edge.shape[:1])[:, None, None].astype(np.float32)
            save(folder / masks[rater]["organ"], (shaken > 0).astype(np.uint8))
        cases.append({"name": split, "image": f"images/{split}.nii.gz", "masks": masks, "split": split})
    about = {
        "format": "mrprism-dataset/1",
        "name": "volumes",
        "channels": ["CT"],
        "structures": ["organ"],
        "raters": list(RATERS),
        "window": [-200, 400],
        "cases": cases,
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=1))


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.T, np.diag([-0.8, -0.8, 1.0, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.openers.Opener.default_compresslevel = 1
    nibabel.save(image, path)


def check_result(folder: Path, image: Path) -> None:
    """What was predicted lies where the image lies."""
    like, found = nibabel.load(image), nibabel.load(folder / "mask_organ.nii.gz")
    if like.shape != found.shape or not np.allclose(like.affine, found.affine):
        raise SystemExit(f"{folder}: {found.shape} instead of {like.shape}, or another place")


def page(measured: list[Measured], given: argparse.Namespace, stored: float) -> str:
    worst = max(measured, key=lambda one: one.gigabytes)
    rows = [
        f"| {one.name} | {one.gigabytes:.2f} | {one.seconds:.0f} | {one.processor_seconds:.0f} | `{one.shown}` |"
        for one in measured
    ]
    over = ", ".join(f"`{one.name}`" for one in measured if one.gigabytes >= LIMIT_GB)
    held = f"All but {over} stay" if over else "Everything stays"
    lines = [
        "# Whole volumes",
        "",
        f"`python benchmarks/volume.py` draws three volumes of {given.width} × {given.width} × {given.depth} voxels",
        f"(16 bit) with masks of {len(RATERS)} raters, {stored:.1f} GB of compressed NIfTI, and runs each command as a",
        "process of its own. `check`, `fuse` and `train` go through all of them (`train` through two), `predict` and",
        "`evaluate` through one. One epoch is all slices of one volume, each with a neighbour on both sides, at",
        f"{given.size} × {given.size} pixels, by MrPrism with the small encoder.",
        "",
        "| command | peak memory, GB | seconds | processor seconds | |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"{held} under {LIMIT_GB:g} GB; most takes `{worst.name}`, {worst.gigabytes:.2f} GB. Peak memory is",
        "`ru_maxrss` of the process. Seconds are of a busy machine shared with other work; processor seconds are",
        "the better measure.",
        "",
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} thread(s), {time.strftime('%Y-%m-%d')}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
