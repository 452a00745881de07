"""What it would take to beat the vote of anonymous crowd workers: BU-BIL sets 1, 3, 4 and 6 against their gold.

Rules that look at one image at a time. Nothing that is fused sees the gold, but for the lines that say so: they are
limits, what a perfect rule of their kind would reach.

    MRPRISM_DATA=... python benchmarks/workers.py      # a minute; writes workers.md
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from mrprism.core.sample import MultiRaterSample
from mrprism.layouts import DATASETS
from mrprism.learn.confidence import read_masks
from mrprism.learn.soft_fusion import fuse_share, log_odds
from mrprism.metrics.overlap import dice

SETS = ("1", "3", "4", "6")


def rules(sample: MultiRaterSample) -> dict[str, float]:
    """Dice with the gold, by rules that look at one image's masks and at most at its gold."""
    assert sample.reference is not None
    masks, gold = sample.masks[:, 0], sample.reference[0]
    votes, count = masks.sum(0), len(masks)
    found = {"majority vote": dice(2 * votes > count, gold)}
    alike = np.array([[dice(a, b) for b in masks] for a in masks])
    for most in (5, 3):
        best = max(
            itertools.combinations(range(count), most), key=lambda those: alike[np.ix_(those, those)].sum()
        )
        found[f"majority of the {most} most alike"] = dice(2 * masks[list(best)].sum(0) > most, gold)
    found["3, 4 or 5 votes: whose outline lies on the strongest edge"] = dice(
        votes >= _sharpest(sample), gold
    )
    given = torch.from_numpy(sample.masks).float()[None]
    rated = torch.ones(given.shape[:3], dtype=torch.bool)
    trust = read_masks(given, rated, torch.from_numpy(sample.reference).float()[None])
    fused = fuse_share(given, rated, log_odds(trust.clamp(min=0.55)))[0, 0] > 0
    found["*limit:* each mask weighed by its agreement with the gold"] = dice(fused.numpy(), gold)
    found["*limit:* the best single mask of each image"] = max(dice(mask, gold) for mask in masks)
    found["*limit:* the best number of votes for each image"] = max(
        dice(votes >= least, gold) for least in range(1, count + 1)
    )
    return found


def _sharpest(sample: MultiRaterSample) -> int:
    edges = ndimage.gaussian_gradient_magnitude(sample.image.mean(0).astype(float), 1)
    votes = sample.masks[:, 0].sum(0)

    def strength(least: int) -> float:
        inside = votes >= least
        outline = inside ^ ndimage.binary_erosion(inside)
        return float(edges[outline].mean()) if outline.any() else -1.0

    return max((4, 3, 5), key=strength)


def main() -> None:
    source = Path(os.environ["MRPRISM_DATA"]) / "bu_bil"
    found: dict[str, list[float]] = {}
    for number in SETS:
        each = [rules(sample) for sample in DATASETS["bu-bil"](source, set=number, raters="crowd").samples]
        for name in each[0]:
            found.setdefault(name, []).append(100 * float(np.mean([row[name] for row in each])))
    lines = ["| | " + " | ".join(f"set {number}" for number in SETS) + " | mean | gain |", "|---" * 7 + "|"]
    vote = np.mean(found["majority vote"])
    for name, row in found.items():
        cells = " | ".join(f"{value:.2f}" for value in (*row, np.mean(row)))
        lines.append(f"| {name} | {cells} | {np.mean(row) - vote:+.2f} |")
    text = (
        "# Beating the vote of crowd workers\n\n`python benchmarks/workers.py` writes this page. Mean Dice with the gold in per "
        "cent, all images of each set; the gain is over the majority vote, mean of the four sets.\n\n"
    )
    Path(__file__).with_suffix(".md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
