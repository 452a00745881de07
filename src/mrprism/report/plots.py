"""Plots as inline SVG, drawn by matplotlib at the size they are read at."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from markupsafe import Markup

from mrprism.metrics import reliability
from mrprism.metrics.scores import MEAN, REFERENCE
from mrprism.output.colours import PREDICTION_COLOUR, rater_colour
from mrprism.report.findings import change, mean_of
from mrprism.report.reading import Entry, Key

INK, MUTED, GRID = "#1c2430", "#5d6778", "#e3e7ed"
METHOD_COLOURS = ("#30638e", "#c98a06", "#00798c", "#7a4988", "#6a8d3a", "#8d6a4f", "#4a5568", "#b0578d")
LEGEND_LINES = 12  # beside a plot, in letters of full size
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mrprism",  # the same page from the same runs
    "text.parse_math": False,  # names of raters and methods are no formulas
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 12.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelpad": 8,
    "axes.edgecolor": "#b8c0cc",
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}


@contextmanager
def styled() -> Iterator[None]:
    """What is drawn meanwhile looks like the pages."""
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font without a sign that stands in somebody's name
        yield


@contextmanager
def _drawing(width: int, height: int, panels: int) -> Iterator[tuple[Any, list[Any]]]:
    """A figure of so many CSS pixels with its axes side by side."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(width / 72, height / 72))
        yield figure, list(np.atleast_1d(figure.subplots(1, panels)))


def _svg(figure: Any, says: str) -> Markup:
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'^<svg[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg class="plot" viewBox="\1">', text)
    return Markup('<div role="img" aria-label="{}">{}</div>').format(says, Markup(text))


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Heights as near as possible to the wanted ones and at least `gap` from each other."""
    order = np.argsort(wanted, kind="stable")
    placed = [wanted[i] for i in order]
    for _ in range(200):
        moved = False
        for i in range(len(placed) - 1):
            lacking = gap - (placed[i + 1] - placed[i])
            if lacking > 1e-9 * gap:
                placed[i] -= lacking / 2
                placed[i + 1] += lacking / 2
                moved = True
        if not moved:
            break
    heights = [0.0] * len(wanted)
    for place, i in zip(placed, order, strict=True):
        heights[i] = place
    return heights


def _label_lines(axes: Any, ends: Sequence[tuple[float, str, str]], x: float, height: int) -> None:
    """Names at the ends of lines, pushed apart where they would overlap; (y, name, colour)."""
    low, high = axes.get_ylim()
    per_pixel = (high - low) / height
    places = _apart([y for y, _, _ in ends], 15 * per_pixel)
    for (y, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name if len(name) <= 27 else name[:26] + "…",
            (x, y), xytext=(14, (place - y) / per_pixel), textcoords="offset points",
            color=colour, va="center", fontsize=12, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8},
        )  # fmt: skip


def recurrence_plot(
    main: Entry, entries: Sequence[Entry], structures: Sequence[str], colours: Mapping[str, str]
) -> Markup | None:
    """`draw_recurrences` as part of a page; None where there is nothing to draw."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(1100 / 72, 300 / 72))
        if not draw_recurrences(figure, main, entries, structures, colours):
            return None
        return _svg(figure, f"Dice of {main.name} for each recurrence")


def draw_recurrences(
    figure: Any,
    main: Entry,
    entries: Sequence[Entry],
    structures: Sequence[str],
    colours: Mapping[str, str],
) -> bool:
    """Dice of each recurrence, with the other methods' final answers as levels.

    Returns:
        Whether there was anything to draw.
    """
    target = REFERENCE if REFERENCE in main.targets else MEAN
    shown = [s for s in structures if len(_steps(main, s, target)) > 1][:3]
    if not shown:
        return False
    figure.set_layout_engine("none")
    panels = np.atleast_1d(figure.subplots(1, len(shown)))
    for axes, structure in zip(panels, shown, strict=True):
        steps = _steps(main, structure, target)
        names = list(steps)
        means = np.array([steps[name][0] for name in names])
        x = np.arange(len(names))
        axes.errorbar(
            x, means, yerr=np.array([steps[name][1] for name in names]).T, color=colours[main.name],
            lw=2.2, marker="o", ms=7, mec="white", mew=1.2, elinewidth=1.4, capsize=3, zorder=3,
        )  # fmt: skip
        ends = [(means[-1], main.name, colours[main.name])]
        for entry in entries:
            level = 100 * mean_of(entry, Key(structure, target, "dice"))
            if entry is not main and entry.reads == "image" and not math.isnan(level):
                axes.axhline(level, color=colours[entry.name], lw=1.4, ls=(0, (4, 3)), zorder=2)
                ends.append((level, entry.name, colours[entry.name]))
        axes.set_xticks(x, names)
        axes.set_xlim(-0.3, len(names) - 0.85)
        axes.margins(y=0.12)
        axes.set_title(structure)
        axes.set_ylabel("Dice@0.5")
        axes.yaxis.set_major_locator(_ticker().MaxNLocator(5))
        _label_lines(axes, ends, len(names) - 0.85, 225)
    room = 0.19 if len(shown) > 1 else 0.2
    figure.subplots_adjust(left=0.06, right=1 - room, top=0.88, bottom=0.12, wspace=0.85)
    return True


def _steps(entry: Entry, structure: str, target: str) -> dict[str, tuple[float, tuple[float, float]]]:
    """Recurrence to mean Dice times 100, and how far its change since the first may be off, down and up."""
    found = {}
    for recurrence in entry.recurrences:
        key = Key(structure, target, "dice", recurrence)
        mean = mean_of(entry, key)
        if math.isnan(mean):
            continue
        moved = change(entry, key, entry.recurrences[0])
        reach = (moved.mean - moved.low, moved.high - moved.mean)
        found[recurrence] = (
            100 * mean,
            tuple(100 * max(r, 0.0) if not math.isnan(r) else 0.0 for r in reach),
        )
    return found  # type: ignore[return-value]


def reliability_plot(
    entries: Sequence[Entry], structures: Sequence[str], colours: Mapping[str, str]
) -> Markup | None:
    """Share of votes against predicted probability, over the example cases the runs kept."""
    shown = list(structures[:3])
    with _drawing(1100, 330, len(shown)) as (figure, panels):
        for axes, structure in zip(panels, shown, strict=True):
            axes.plot([0, 1], [0, 1], color="#9aa4b2", lw=1.2, ls=(0, (4, 3)), zorder=1)
            for entry in reversed(entries):  # what comes first in the table lies on top
                curve = _reliability(entry, structures.index(structure)) if entry.reads == "image" else None
                after = _reliability(entry, structures.index(structure), calibrated=True) if curve else None
                if after is not None and entry is entries[0]:
                    label = f"{entry.name}, calibrated"
                    axes.plot(
                        *after,
                        color=colours[entry.name],
                        lw=1.5,
                        ls=(0, (4, 2)),
                        marker="o",
                        mfc="white",
                        ms=4.5,
                        label=label,
                    )
                if curve is not None:
                    axes.plot(*curve, color=colours[entry.name], lw=1.8, marker="o", ms=4.5, label=entry.name)
            axes.set_title(structure)
            axes.set_xlabel("predicted probability")
            axes.set_ylabel("share of votes")
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.02)
            axes.set_box_aspect(1)
        handles, labels = (list(reversed(part)) for part in panels[0].get_legend_handles_labels())
        if not handles:
            return None
        width = min(0.25, 0.66 / len(shown))  # the rest is the legend's
        figure.subplots_adjust(left=0.05, right=0.05 + width * len(shown), top=0.9, bottom=0.15, wspace=0.3)
        tight = len(labels) > LEGEND_LINES
        figure.legend(
            handles, [name if len(name) <= 30 else name[:29] + "…" for name in labels], frameon=False,
            loc="upper left", bbox_to_anchor=(0.06 + width * len(shown), 0.98 if tight else 0.92),
            fontsize=10 if tight else 12, labelspacing=0.25 if tight else 0.7,
        )  # fmt: skip
        return _svg(figure, "Reliability: share of votes against predicted probability")


def _reliability(entry: Entry, c: int, *, calibrated: bool = False) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean probability and mean share of votes in ten bins, pooled over the examples of an entry."""
    pixels, probability, frequency = np.zeros((3, 10))
    for run in entry.runs:
        for example in run.examples.values():
            rated = example.rated[:, c]
            values = example.calibrated if calibrated else example.probability
            if rated.any() and values is not None:
                votes = example.masks[rated, c].sum(axis=0, dtype=np.int64)
                curve = reliability(values[c], votes, int(rated.sum()), bins=10)
                pixels += curve.pixels
                probability += curve.pixels * np.nan_to_num(curve.probability)
                frequency += curve.pixels * np.nan_to_num(curve.frequency)
    enough = pixels >= 20  # fewer pixels say nothing
    if not enough.any():
        return None
    return probability[enough] / pixels[enough], frequency[enough] / pixels[enough]


def rater_map(apart: np.ndarray, raters: Sequence[str]) -> Markup | None:
    """Raters as points, as far from each other as a method has them, as well as that can be in the plane."""
    if len(raters) < 3:
        return None
    points, kept = in_the_plane(apart)
    with _drawing(640, 380, 1) as (figure, panels):
        axes = panels[0]
        for r, name in enumerate(raters):
            axes.scatter(*points[r], s=90, color=rater_colour(r), zorder=3, edgecolors="white", linewidths=1)
            axes.annotate(
                name if len(name) <= 27 else name[:26] + "…", points[r], xytext=(9, 0),
                textcoords="offset points", va="center", fontsize=12, zorder=4,
            )  # fmt: skip
        axes.set_aspect("equal", "datalim")
        axes.margins(0.15)
        axes.grid(visible=False)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        figure.subplots_adjust(left=0.02, right=0.86, top=0.97, bottom=0.03)
        return _svg(figure, f"Raters by how they draw; {100 * kept:.0f} % of the squared distances are kept")


def in_the_plane(apart: np.ndarray) -> tuple[np.ndarray, float]:
    """Points of the plane whose distances are near to these, and the share of the squared distances they keep.

    Source: Torgerson, "Multidimensional scaling: I. Theory and method", Psychometrika 17, 1952.
    """
    squared = apart**2
    count = len(apart)
    centre = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-centre @ squared @ centre / 2)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    points = vectors[:, :2] * np.sqrt(values[:2])
    # vectors have no sign of their own: whoever comes first lies left and above
    points = points * np.where(points[0] * [1, -1] > 0, -1, 1)
    return points, float(values[:2].sum() / max(values.sum(), 1e-300))


def training_plot(main: Entry, entries: Sequence[Entry], colours: Mapping[str, str]) -> Markup | None:
    """Loss terms of the main run, and the validation score of every run, over epochs."""
    terms = _terms(main)
    validation = {entry.name: _validation(entry) for entry in entries if entry.reads == "image"}
    validation = {name: curve for name, curve in validation.items() if len(curve)}
    if not terms and not validation:
        return None
    panels = bool(terms) + bool(validation)
    with _drawing(1100, 300, panels) as (figure, axes):
        if terms:
            first = axes[0]
            ends = []
            for (name, curve), colour in zip(terms.items(), _cycle(), strict=False):
                first.plot(*curve.T, color=colour, lw=1.8)
                ends.append((float(curve[-1, 1]), name, colour))
            first.set_title(f"Loss terms of {main.name}")
            _finish_curve(first, "mean over the epoch", ends, max(curve[-1, 0] for curve in terms.values()))
        if validation:
            last = axes[-1]
            ends = []
            for name, curve in validation.items():
                last.plot(curve[:, 0], 100 * curve[:, 1], color=colours[name], lw=1.8)
                ends.append((float(100 * curve[-1, 1]), name, colours[name]))
            last.set_title("Validation")
            _finish_curve(
                last, _validation_label(main), ends, max(curve[-1, 0] for curve in validation.values())
            )
        figure.subplots_adjust(left=0.06, right=0.8, top=0.88, bottom=0.16, wspace=0.85)
        return _svg(figure, "Training curves")


def _finish_curve(axes: Any, label: str, ends: Sequence[tuple[float, str, str]], last: float) -> None:
    axes.set_ylabel(label)
    axes.set_xlabel("epoch")
    axes.set_xlim(0, max(last, 1))
    axes.margins(y=0.08)
    axes.yaxis.set_major_locator(_ticker().MaxNLocator(5))
    axes.xaxis.set_major_locator(_ticker().MaxNLocator(6, integer=True))
    _label_lines(axes, ends, max(last, 1), 216)


def _terms(entry: Entry) -> dict[str, np.ndarray]:
    """Loss term to (epoch, mean) of the first run."""
    sums: dict[str, dict[int, list[float]]] = {}
    for line in entry.runs[0].log:
        terms, epoch = line.get("terms"), line.get("epoch")
        if isinstance(terms, dict) and isinstance(epoch, int):
            for name, value in terms.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    sums.setdefault(str(name), {}).setdefault(epoch, []).append(float(value))
    return {
        name: np.array([(epoch, np.mean(values)) for epoch, values in epochs.items()])
        for name, epochs in sums.items()
    }


def _validation(entry: Entry) -> np.ndarray:
    """(epoch, score) of an entry's first run."""
    points = []
    for line in entry.runs[0].log:
        found = line.get("validation")
        if isinstance(found, dict) and isinstance(found.get("score"), (int, float)):
            points.append((float(line.get("epoch", 0)), float(found["score"])))
    return np.array(points).reshape(-1, 2)


def _validation_label(entry: Entry) -> str:
    for line in entry.runs[0].log:
        found = line.get("validation")
        if isinstance(found, dict):
            return (
                "Dice@0.5 with the reference"
                if found.get("target") == REFERENCE
                else "soft Dice with the raters"
            )
    return "score"


def method_colours(entries: Sequence[Entry], main: Entry) -> dict[str, str]:
    """The colour of each line: the main method has that of predictions."""
    others = [entry.name for entry in entries if entry is not main]
    return {main.name: PREDICTION_COLOUR} | {
        name: METHOD_COLOURS[i % len(METHOD_COLOURS)] for i, name in enumerate(others)
    }


def _cycle() -> Iterator[str]:
    while True:
        yield from METHOD_COLOURS


def _ticker() -> Any:
    from matplotlib import ticker

    return ticker
