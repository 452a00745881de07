"""Twelve minutes on a GPU: labels of one ResNet-34 U-Net at 256 pixels, with throughput and peak memory.

    python benchmarks/gpu.py --out gpu                  # prints JSON; called again, goes on where it stopped
    python benchmarks/gpu.py --out toy --toy            # the same in miniature, on any machine

Phantoms of `sparse.py`: one of forty raters on each image, and a crowd of seven. One seed, equal steps for all labels:
as many epochs as fit. How long an epoch takes is measured first, once for each label. What does not fit is said, not run.
Where one rater outlined each image no masks can be compared, so the two-step label is the given mask: not run again.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sparse
import torch

import mrprism
from mrprism.core.sample import MultiRaterSample, Task

JOBS = (
    ("crowd", "vote"),
    ("crowd", "outline"),
    ("crowd", "mrprism-outline"),
    ("forty-1", "vote"),
    ("forty-1", "mrprism-outline"),
)
TOYS = (("crowd", "outline"), ("forty-1", "mrprism-outline"))
FULL = {
    "backbone": "resnet34",
    "size": 256,
    "batch_size": 16,
    "most": 60,
    "cases": {"train": 240, "val": 8, "test": 40},
}
TOY = {
    "backbone": "small",
    "size": 32,
    "batch_size": 2,
    "most": 2,
    "cases": {"train": 4, "val": 2, "test": 2},
}
KEPT = 0.15  # of the time is kept for scoring


def main(arguments: Sequence[str] | None = None, now: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder of runs and results")
    parser.add_argument("--minutes", type=float, default=12.0, help="of this call, all in all")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--device")
    chosen = parser.parse_args(arguments)
    shape, began = (TOY if chosen.toy else FULL), now()
    all_jobs = TOYS if chosen.toy else JOBS
    device = chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen.out.mkdir(parents=True, exist_ok=True)
    file = chosen.out / "results.json"
    known: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    known.update(device=torch.cuda.get_device_name() if device == "cuda" else device, shape=shape)
    jobs, trials = known.setdefault("jobs", {}), known.setdefault("seconds_an_epoch", {})

    def left() -> float:
        return float(60 * chosen.minutes * (1 - KEPT) - (now() - began))

    def keep() -> None:
        part = file.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(file)

    samples = {kind: list(sparse.cases(kind, shape["size"], shape["cases"])) for kind, _ in all_jobs}
    for (
        kind,
        label,
    ) in all_jobs:  # the first epoch of a process is slow, so the trial of the first label has two
        name = f"{kind} {label}"
        if name not in trials and left() > 0:
            folder = chosen.out / "trials" / name.replace(" ", "-")
            if not trials:
                fit(samples[kind], label, folder.with_name("warm"), 1, shape, device)
            started = now()
            fit(samples[kind], label, folder, 1, shape, device)
            trials[name] = now() - started
            keep()
    todo = [
        f"{kind} {label}" for kind, label in all_jobs if jobs.get(f"{kind} {label}", {}).get("dice") is None
    ]
    if "epochs" not in known and len(trials) == len(all_jobs):
        known["epochs"] = int(min(shape["most"], left() / max(sum(trials.values()), 1e-9)))
        keep()
    for kind, label in all_jobs:
        name = f"{kind} {label}"
        if name not in todo:
            continue
        epochs = known.get("epochs", 0)
        if epochs < 1 or left() < epochs * trials[name]:
            jobs[name] = {"not_run": "the time would not have been enough"}
        else:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            run, started = chosen.out / "runs" / name.replace(" ", "-"), now()
            fit(samples[kind], label, run, epochs, shape, device)
            seconds = now() - started
            test = [case for case in samples[kind] if case.split == "test"]
            network, fused = sparse.scores(run, test, shape["size"])
            jobs[name] = {
                "dice": np.round(network, 2).tolist(),
                "fusion_of_given_masks": None if fused is None else np.round(fused, 2).tolist(),
                "seconds": round(seconds, 1),
                "images_a_second": round(epochs * shape["cases"]["train"] / max(seconds, 1e-9), 1),
                "peak_memory_mib": round(peak(device)),
            }
        keep()
    print(json.dumps(known, indent=1), flush=True)
    return known


def fit(
    samples: list[MultiRaterSample], label: str, out: Path, epochs: int, shape: dict[str, Any], device: str
) -> None:
    """Train, or go on where an earlier call was stopped."""
    raters = tuple(f"rater{number + 1}" for number in range(samples[0].masks.shape[0]))
    data = mrprism.Dataset.from_samples("phantoms", Task(3, ("disc", "cup"), raters), samples)
    method, options = sparse.LABELS[label]
    mrprism.train(
        data, method, out, backbone=shape["backbone"], size=shape["size"], epochs=epochs,
        batch_size=shape["batch_size"], learning_rate=1e-3, schedule="cosine", select="last", seed=0,
        device=device, quiet=True, resume=True, options=options,
    )  # fmt: skip


def peak(device: str) -> float:
    """MiB: of the GPU in this job, or, without one, of the process so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
