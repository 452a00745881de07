"""Pictures of a comparison: the same cases of every method, each rater alone, quality beside cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from mrprism.compare.candidates import CEILING, Given
from mrprism.compare.results import Comparison, Result, mean_seconds
from mrprism.compare.tables import CEILING_LABEL, Table
from mrprism.metrics.overlap import above, dice
from mrprism.metrics.scores import FINAL, MEAN, RATER, REFERENCE
from mrprism.report import pictures
from mrprism.report.findings import mean_of, number
from mrprism.report.pictures import Flat, Panel, Window
from mrprism.report.plots import METHOD_COLOURS, reliability_plot
from mrprism.report.reading import Entry, Key

# ---- the same cases of every method (the paper's Figures 5 and 6) --------------------------------


@dataclass(frozen=True)
class CaseRow:
    """One case: the image, the raters, and what each method made of it."""

    name: str
    definition: Markup
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class CaseFigure:
    rows: tuple[CaseRow, ...]
    target: str  # what the dashed lines are
    note: str  # what the numbers under the pictures are


@dataclass(frozen=True)
class ShownCase:
    """What one row of the figure is made of."""

    case: Flat
    window: Window
    methods: tuple[tuple[str, Flat], ...]  # title and answer


def shown_cases(comparison: Comparison, results: Sequence[Result], given: Given) -> list[ShownCase]:
    """The cases of which every run kept a picture."""
    shown = [(result, result.shown(given)) for result in results]
    shown = [(result, examples) for result, examples in shown if examples]
    names = [name for name in comparison.plan.shown if shown and all(name in e for _, e in shown)]
    rows = []
    for name in names:
        first = pictures.flatten(shown[0][1][name])
        window = pictures.window_of(replace(first, probability=np.zeros_like(first.probability)))
        methods = tuple((_title(result, given), pictures.flatten(e[name])) for result, e in shown)
        rows.append(ShownCase(first, window, methods))
    return rows


def case_figure(comparison: Comparison, results: Sequence[Result], given: Given) -> CaseFigure | None:
    """Rows of cases, columns of methods; None where no run kept pictures."""
    rows = []
    shown = shown_cases(comparison, results, given)
    for i, row in enumerate(shown):
        panels = _panels(row, f"case{i}", comparison.plan.task.raters)
        definition = pictures.image_definition(row.case, row.window, f"case{i}")
        rows.append(CaseRow(row.case.name, definition, tuple(panels)))
    if not rows:
        return None
    target = shown[0].case.target_name
    return CaseFigure(tuple(rows), target, f"Dice@0.5 with the {target}: {' · '.join(comparison.structures)}")


def _title(result: Result, given: Given) -> str:
    if result.candidate.ceiling:
        return CEILING_LABEL
    return "DivP" if given == "masks" and result.candidate.method == "mrprism" else result.candidate.label


def _panels(row: ShownCase, identifier: str, raters: Sequence[str]) -> list[Panel]:
    case, window = row.case, row.window
    image = pictures.use(identifier)
    dashed = pictures.target_lines(case)
    everyone = [image, *pictures.all_raters(case, raters)]
    panels = [pictures.panel(count_raters(case), everyone, window, note=case.name)]
    for title, flat in row.methods:
        layers = [image, *dashed, *pictures.predicted_lines(flat.probability, title)]
        panels.append(pictures.panel(title, layers, window, note=dices(flat)))
    return panels


def count_raters(case: Flat) -> str:
    """How many rated a case, in words."""
    count = int(case.rated.any(axis=1).sum())
    return f"{count} rater" if count == 1 else f"{count} raters"


def dices(flat: Flat) -> str:
    """Dice of each structure with the target."""
    said = []
    for c, probability in enumerate(flat.probability):
        said.append(number(dice(above(probability, 0.5), flat.target[c]), "dice"))
    return " · ".join(said)


# ---- each rater alone (Figure 4) -----------------------------------------------------------------


@dataclass(frozen=True)
class RaterCell:
    text: str
    shade: str  # background


@dataclass(frozen=True)
class RaterTable:
    """Dice of each method's answer with each single rater."""

    structure: str
    raters: tuple[str, ...]
    lines: tuple[tuple[str, tuple[RaterCell, ...], str, str], ...]  # method, cells, lowest, mean


def rater_tables(comparison: Comparison, table: Table) -> list[RaterTable]:
    """Figure 4 as numbers on shades, one scale a structure; empty where raters are anonymous."""
    if comparison.plan.task.anonymous:
        return []
    raters = comparison.plan.task.raters
    listed = {
        line.label if line.recurrence == FINAL else line.result.candidate.label: line
        for line in table.structures[0].lines
        if line.entry is not None
    }
    collapsed = {name for name, line in listed.items() if line.result.collapsed}
    found = []
    for structure in comparison.structures:
        values = {
            name: [mean_of(line.entry, Key(structure, RATER + rater, "dice")) for rater in raters]
            for name, line in listed.items()
            if line.entry is not None
        }
        known = [
            v for name, row in values.items() for v in row if name not in collapsed and not math.isnan(v)
        ]
        if all(math.isnan(v) for row in values.values() for v in row):
            continue
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        lines = tuple(
            (
                f"{name} (collapsed)" if name in collapsed else name,
                tuple(
                    RaterCell(number(v, "dice"), shade(math.nan if name in collapsed else v, low, high))
                    for v in row
                ),
                *_ends(row),
            )
            for name, row in values.items()
        )
        found.append(RaterTable(structure, raters, lines))
    return found


def _ends(row: Sequence[float]) -> tuple[str, str]:
    known = [v for v in row if not math.isnan(v)] or [math.nan]
    return number(min(known), "dice"), number(float(np.mean(known)), "dice")


def shade(value: float, low: float, high: float) -> str:
    """A blue that is the stronger the higher the value; black text stays readable on all of them."""
    if math.isnan(value):
        return "transparent"
    share = (value - low) / (high - low) if high > low else 0.5
    light, strong = np.array([247, 249, 252]), np.array([139, 181, 222])
    red, green, blue = (round(float(v)) for v in light + share * (strong - light))
    return f"#{red:02x}{green:02x}{blue:02x}"


# ---- reliability --------------------------------------------------------------------------------


def reliability(comparison: Comparison, results: Sequence[Result]) -> Markup | None:
    """Share of votes against predicted probability over the cases shown, for as many as there are colours."""
    entries = []
    for result in results:
        entry, examples = result.entry("image"), result.shown("image")
        if entry is not None and examples:
            run = replace(entry.runs[0], examples=examples)
            entries.append(Entry(_title(result, "image"), "image", (run,)))
    entries.sort(key=lambda entry: _brier(entry, comparison))
    colours = {entry.name: colour for entry, colour in zip(entries, METHOD_COLOURS, strict=False)}
    shown = [entry for entry in entries if entry.name in colours]
    return reliability_plot(shown, comparison.structures, colours) if shown else None


def _brier(entry: Entry, comparison: Comparison) -> float:
    found = [mean_of(entry, Key(structure, MEAN, "brier")) for structure in comparison.structures]
    return float(np.nan_to_num(np.mean(found), nan=np.inf))


# ---- quality beside cost ------------------------------------------------------------------------


@dataclass(frozen=True)
class CostLine:
    label: str
    dice: tuple[str, ...]  # one a structure
    parameters: str
    training: str
    milliseconds: str
    memory: str


def quality_target(comparison: Comparison) -> str:
    """What Dice is held against where there is room for one number."""
    return REFERENCE if REFERENCE in comparison.targets else MEAN


def cost_lines(comparison: Comparison, results: Sequence[Result]) -> list[CostLine]:
    """What each method costs, and its Dice."""
    lines = []
    for result in results:
        entry = result.entry("image") or result.entry("masks")
        costs = result.costs()
        if entry is None or not costs:
            continue
        parameters = next((r.result.get("parameters") for r in result.runs.values() if r.result), None)
        lines.append(
            CostLine(
                CEILING_LABEL if result.candidate.key == CEILING.key else result.candidate.label,
                tuple(number(_dice(entry, s, comparison), "dice") for s in comparison.structures),
                f"{parameters / 1e6:.2f} M" if isinstance(parameters, int) else "–",
                duration(mean_seconds(result)),
                f"{float(np.mean([cost.milliseconds for cost in costs])):.1f}",
                _memory(max(cost.memory_mib for cost in costs)),
            )
        )
    return lines


def _dice(entry: Entry, structure: str, comparison: Comparison) -> float:
    return mean_of(entry, Key(structure, quality_target(comparison), "dice"))


def duration(seconds: float) -> str:
    """A time as people say it."""
    if math.isnan(seconds):
        return "–"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _memory(mib: float) -> str:
    if math.isnan(mib):
        return "–"
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


# ---- the cases to show --------------------------------------------------------------------------


def most_telling(names: Sequence[str], disagreement: Mapping[str, float], count: int = 4) -> list[str]:
    """Cases from the least to the most disputed, evenly in between; chosen before anything is trained."""
    ranked = sorted(names, key=lambda name: (disagreement[name], name))
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked)))
    return [ranked[round(float(place))] for place in places]


def disputed(masks: np.ndarray, rated: np.ndarray) -> float:
    """Share of the pixels anybody marked on which the raters differ, mean over structures."""
    shares = []
    for c in range(masks.shape[1]):
        drawn = masks[rated[:, c], c]
        if len(drawn) and (marked := drawn.any(axis=0)).any():
            shares.append(float((marked & ~drawn.all(axis=0)).sum() / marked.sum()))
    return float(np.mean(shares)) if shares else 0.0
