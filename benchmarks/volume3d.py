"""Volumes as they are beside their slices: the same U-Net, in three dimensions and in two.

    python benchmarks/volume3d.py                      # all, about half an hour of one core; writes volume3d.md
    python benchmarks/volume3d.py --seeds 0 --ways volumes --labels vote
    python benchmarks/volume3d.py --page               # the page from what was measured so far

A phantom of volumes of thick slices (crowd: two good raters, five noisy ones), of a seed that nothing was chosen on.
Small encoder, cosine, the last epoch kept: no reference is used for anything but the score, which is of whole
volumes against the truth. Every training sees each training voxel as often, which is about the same time. What is
measured is added to `volume3d.json`, one run after the other, so that it can be done in pieces.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mrprism
from mrprism.datasets.simulate import phantom_dataset
from mrprism.learn.evaluate import evaluate
from mrprism.learn.plan import Plan

SEED, SIZE, CASES, EPOCHS = 2026, 36, 40, 12
WAYS = ("volumes", "slices", "slices with neighbours")
LABELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vote": ("fused-label", {"label": "majority"}),
    "mrprism": ("mrprism", {}),
    "truth": ("fused-label", {"label": "reference"}),
}
NAMED = {"vote": "hard vote", "mrprism": "MrPrism", "truth": "the truth (a ceiling)"}
KEPT = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).with_suffix(".md")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--labels", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.page:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "volumes"
            phantom_dataset("crowd", size=SIZE, cases=CASES, seed=SEED, dims=3, out=data)
            for seed in given.seeds:
                for label in given.labels:
                    for way in given.ways:
                        keep(measured(data, Path(folder) / f"{way}-{label}-{seed}", way, label, seed))
    PAGE.write_text("\n".join(page(json.loads(KEPT.read_text()))) + "\n")


def measured(data: Path, out: Path, way: str, label: str, seed: int) -> dict[str, Any]:
    """One training, scored on the test cases."""
    method, options = LABELS[label]
    how: dict[str, Any] = {"size": SIZE, "slices": "z", "neighbours": int(way != "slices"), "batch_size": 8}
    if way == "volumes":
        made = mrprism.plan(data, backbone="small")
        # whole cases, without padding: what the plan pads to is half as large again as these small volumes
        patch = mrprism.open_dataset(data)[0].space
        how = {"plan": Plan(**(made.plan.model_dump() | {"patch": patch})), "batch_size": 2}
    started = time.process_time()
    run = mrprism.train(
        data, method, out, options=options, seed=seed, backbone="small", epochs=EPOCHS, learning_rate=1e-3,
        schedule="cosine", select="last", device="cpu", quiet=True, **how,
    )  # fmt: skip
    trained = time.process_time() - started
    rows = [r for r in evaluate(run, device="cpu", metrics=["dice", "hd95"]) if r.reads == "image"]
    scores = {
        f"{structure} {metric}": [
            r.value
            for r in rows
            if (r.structure, r.metric, r.target, r.recurrence) == (structure, metric, "reference", "final")
        ]
        for structure in ("organ", "lesion")
        for metric in ("dice", "hd95")
    }
    result = run.result()
    assert result is not None
    return {
        "way": way, "label": label, "seed": seed, "steps": result.steps, "seconds": trained,
        "parameters": result.parameters,
    } | {name: float(np.nanmean(values)) for name, values in scores.items()} | {
        "undefined": sum(math.isnan(v) for values in scores.values() for v in values)
    }  # fmt: skip


def keep(found: dict[str, Any]) -> None:
    """Add a run to what was measured, in the place of the same one measured before."""
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else []
    same = ("way", "label", "seed")
    kept = [one for one in kept if any(one[name] != found[name] for name in same)]
    KEPT.write_text(json.dumps([*kept, found], indent=1) + "\n")
    print(found, flush=True)


def page(kept: list[dict[str, Any]]) -> Iterator[str]:
    """What was measured, as a page."""
    depth = SIZE // 3
    yield "# Volumes as they are, beside their slices"
    yield ""
    yield from __doc__.partition("\n\n")[2].partition("\n\n")[2].strip().splitlines()
    yield ""
    yield (
        f"{CASES} volumes of {depth} × {SIZE} × {SIZE} voxels, 8 mm along slices and 2.7 mm in them: 24 to learn from, 4 for "
        f"validation, 12 to test; {EPOCHS} epochs. Dice in per cent, HD95 in millimetres: mean over test cases and seeds, "
        "in brackets the smallest and the largest seed's."
    )
    yield ""
    yield "| learns | from | seeds | organ, Dice@0.5 | organ, HD95 | lesion, Dice@0.5 | lesion, HD95 | steps | processor s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for label in LABELS:
        for way in WAYS:
            runs = [one for one in kept if (one["label"], one["way"]) == (label, way)]
            if runs:
                cells = [
                    spread([by * one[f"{structure} {metric}"] for one in runs])
                    for structure in ("organ", "lesion")
                    for metric, by in (("dice", 100), ("hd95", 1))
                ]
                seconds = np.mean([one["seconds"] for one in runs])
                yield f"| {NAMED[label]} | {way} | {len(runs)} | {' | '.join(cells)} | {runs[0]['steps']} | {seconds:.0f} |"
    done = {(one["label"], one["way"]) for one in kept}
    open_ = [f"{NAMED[label]} from {way}" for label in LABELS for way in WAYS if (label, way) not in done]
    if open_ or len({one["seed"] for one in kept}) < 3:
        yield ""
        yield f"A first look and no verdict. Not measured yet: {', '.join(open_) or 'more seeds'}."
    undefined = sum(one["undefined"] for one in kept)
    if undefined:
        yield ""
        yield f"{undefined} distances have no value, for an outline was empty, and are left out."
    yield ""
    yield f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, 1 thread."


def spread(values: list[float]) -> str:
    """Mean, smallest and largest."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
