"""The picture of the README, from a finished demo.

    python benchmarks/readme_picture.py demo docs/images/prism.png

The case shown is the one among the run's example cases on which the majority of the raters is furthest from
the truth, so that there is something to see; it is not chosen by how well MrPrism does on it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mrprism.metrics import dice
from mrprism.metrics.examples import Example, read_example
from mrprism.report.pictures import rater_colour

FOUND, TRUTH = "#12e2f0", "white"
CONFIDENCE = "viridis"


def main(demo: Path, goal: Path) -> None:
    """Two rows: from the raters to the answer, and the confidence in each rater."""
    examples = [read_example(file) for file in sorted((demo / "runs" / "mrprism" / "examples").glob("*.npz"))]
    case = min(examples, key=_majority_dice)
    raters = len(case.masks)
    window = _window(case)
    figure = Figure(figsize=(2.0 * raters, 4.75), layout="constrained", facecolor="white")
    panels = figure.subplots(2, raters)

    steps = [f"MrPrism, Rec{i}" for i in range(len(case.steps))]
    titles = ["image", f"{raters} raters", "their majority", *steps][:raters]
    answers = {"their majority": _majority(case)} | dict(zip(steps, case.steps, strict=True))
    for axes, title in zip(panels[0], titles, strict=True):
        axes.imshow(case.image.transpose(1, 2, 0))
        if title.endswith("raters"):
            for r, masks in enumerate(case.masks):
                for mask in masks:
                    _outline(axes, mask, rater_colour(r), 1.2)
        elif title != "image":
            for values in answers[title]:
                _outline(axes, values, "black", 2.8)
                _outline(axes, values, FOUND, 1.8)
            for mask in case.reference if case.reference is not None else ():
                _outline(axes, mask, TRUTH, 1.3, dashed=True)
        _frame(axes, title, window)

    assert case.confidence is not None
    cup = case.confidence[:, 1]
    scale = Normalize(0.5, 1)
    for r, axes in enumerate(panels[1]):
        axes.imshow(cup[r], cmap=CONFIDENCE, norm=scale)
        _outline(axes, case.masks[r, 1], "black", 2.6)
        _outline(axes, case.masks[r, 1], rater_colour(r), 1.6)
        _frame(axes, f"rater {r + 1}", window)
    bar = figure.colorbar(ScalarMappable(scale, CONFIDENCE), ax=panels[1], shrink=0.85, pad=0.01)
    bar.set_label("confidence in the\nrater, for the cup", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    goal.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(goal, dpi=100)
    print(f"{goal}: {case.name}, majority's Dice {_majority_dice(case):.3f}")


def _majority(case: Example) -> np.ndarray:
    return np.asarray(2 * case.masks.sum(axis=0) > case.rated.sum(axis=0)[:, None, None])


def _majority_dice(case: Example) -> float:
    assert case.reference is not None
    return float(
        np.mean([dice(ours, true) for ours, true in zip(_majority(case), case.reference, strict=True)])
    )


def _window(case: Example) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a square around all that was drawn."""
    rows, columns = np.nonzero(case.masks.any(axis=(0, 1)))
    side = 1.12 * max(np.ptp(rows), np.ptp(columns))
    height, width = case.image.shape[1:]
    side = min(side, height, width)
    left = np.clip((columns.min() + columns.max() - side) / 2, 0, width - side)
    top = np.clip((rows.min() + rows.max() - side) / 2, 0, height - side)
    return left, left + side, top + side, top


def _outline(axes: Any, values: np.ndarray, colour: str, width: float, *, dashed: bool = False) -> None:
    if (values > 0.5).any():
        style = "dashed" if dashed else "solid"
        axes.contour(values, levels=[0.5], colors=[colour], linewidths=width, linestyles=style)


def _frame(axes: Any, title: str, window: tuple[float, float, float, float]) -> None:
    left, right, bottom, top = window
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
