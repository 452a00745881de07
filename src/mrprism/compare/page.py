"""The page of a comparison, in the look of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mrprism import __version__
from mrprism.compare import figures
from mrprism.compare.candidates import Given
from mrprism.compare.formats import explanation
from mrprism.compare.protocols import said_of
from mrprism.compare.results import Comparison, Result
from mrprism.compare.statistics import Against
from mrprism.compare.tables import Column, Table
from mrprism.learn.plan import Plan
from mrprism.metrics import METRICS
from mrprism.metrics.claims import ENOUGH, suffice, too_few
from mrprism.metrics.scores import REFERENCE
from mrprism.output.colours import rater_colour
from mrprism.output.templates import templates
from mrprism.report.findings import number

HERE = Path(__file__).parent
STYLES = (HERE.parent / "report" / "style.css", HERE / "compare.css")
WIDEST = 8  # pictures side by side
READS = {"image": "image", "masks": "masks", "both": "image and masks"}


def render(comparison: Comparison, tables: Sequence[Table]) -> str:
    """The page as text."""
    environment = templates(HERE)
    environment.filters.update(number=number, verdict=_verdict, columns=_columns, rater_colour=rater_colour)
    environment.globals.update(METRICS=METRICS, isnan=math.isnan, READS=READS)
    image = results_of(tables, "image")
    masks = results_of(tables, "masks")
    return environment.get_template("page.html.jinja").render(
        style=Markup("".join(file.read_text(encoding="utf-8") for file in STYLES)),
        plan=comparison.plan,
        groups=comparison.groups,
        headline=(first := headline(comparison, tables)),
        remarks=remarks(comparison, first),
        tables=[Shown(table, note(table, comparison)) for table in tables],
        cases=[
            (title, figure)
            for title, figure in (
                ("", figures.case_figure(comparison, image, "image")),
                ("Given the raters' masks", figures.case_figure(comparison, masks, "masks")),
            )
            if figure
        ],
        reliability=figures.reliability(comparison, image),
        rater_tables=figures.rater_tables(comparison, widest(tables)) if image else [],
        costs=figures.cost_lines(comparison, list(dict.fromkeys([*image, *masks]))),
        quality=figures.quality_target(comparison),
        settings=_settings(comparison),
        version=__version__,
    )


@dataclass(frozen=True)
class Shown:
    """A table with what stands around it."""

    table: Table
    note: str


def note(table: Table, comparison: Comparison) -> str:
    """What stands under a table."""
    said = [table.contents.remark, _how_many(comparison), explanation(table, len(comparison.plan.seeds))]
    missing = sum(cell.missing > 0 for cell in table.cells())
    if missing:
        said.append(f"{missing} of its numbers leave out cases in which the metric is not defined.")
    return " ".join(part for part in said if part)


def _how_many(comparison: Comparison) -> str:
    cases, patients = len(comparison.groups), len(set(comparison.groups.values()))
    return f"{_number_of(cases, 'test case')} of {_number_of(patients, 'patient')}." if cases else ""


def results_of(tables: Sequence[Table], given: Given) -> list[Result]:
    """Every method with such scores, in the order of the tables, the ceiling last."""
    lines = [
        line
        for table in tables
        for line in table.structures[0].lines
        if line.entry is not None and (table.masks or line.reads == "image")  # a control has no picture
    ]
    found = dict.fromkeys(line.result for line in lines if (line.reads == "image") == (given == "image"))
    return sorted(found, key=lambda result: result.candidate.ceiling)


def widest(tables: Sequence[Table]) -> Table:
    """The table that Figure 4 takes its methods from: the first of those that look at the image."""
    return next((table for table in tables if not table.masks), tables[0])


def _columns(count: int) -> int:
    """How many pictures stand side by side, so that the rows are about equally long."""
    return max(4, math.ceil(count / math.ceil(count / WIDEST))) if count else 1


def _verdict(against: Against | None, metric: str) -> str:
    """What a pointer over a number is told."""
    if against is None:
        return ""
    apart = against.difference
    scale, digits = (100, 1) if METRICS[metric].unit == "%" else (1, 4)
    if math.isnan(apart.low) or not suffice(apart.patients):
        return "too few patients to say how it compares with the best"
    mean, low, high = (f"{scale * value:+.{digits}f}".replace("-", "−") for value in apart[:3])
    p = "p < 0.001" if against.p < 0.001 else f"p = {against.p:.3f}"
    return f"the best minus this: {mean} ({low} to {high} for this pair alone), {p} among all pairs"


# ---- sentences ----------------------------------------------------------------------------------


def headline(comparison: Comparison, tables: Sequence[Table]) -> str:
    """Who is best, in one sentence that is as ready to say that nobody is."""
    table = next((table for table in tables if not table.masks), tables[0])
    target = figures.quality_target(comparison)
    against = "the reference" if target == REFERENCE else "the raters' majority"
    patients = len(set(comparison.groups.values()))
    start = f"On {_number_of(len(comparison.groups), 'test case')}"
    if patients != len(comparison.groups):
        start += f" of {_number_of(patients, 'patient')}"
    start += ", given the raters' masks" if table.masks else ""
    lines = [line for line in table.structures[0].lines if line.entry is not None]
    if lines and all(line.result.collapsed for line in lines):
        return f"{start}, every network collapsed: there is nothing to compare."
    parts: list[str] = []
    first_alone: dict[str, list[tuple[str, str]]] = {}  # method: structures and values
    for part in table.structures:
        place = next((i for i, column in enumerate(table.columns) if column == Column(target, "dice")), None)
        verdict = None if place is None else part.verdicts[place]
        if place is None or verdict is None:
            continue
        if not verdict.enough:
            return f"{start}, it cannot be said which method is best: {too_few(verdict.patients)}."
        dice = {line.label: number(line.cells[place].mean, "dice") for line in part.lines}
        if verdict.alone:
            first_alone.setdefault(verdict.best, []).append((part.structure, dice[verdict.best]))
        else:
            level = [label for label in dice if verdict.level(label)]
            parts.append(
                f"no method is best on the {part.structure}: {_level(level, dice, 1 + len(verdict.others))}"
            )
    parts = [outlines_best(label, found) for label, found in first_alone.items()] + parts
    if not parts:
        return "Too few methods have numbers yet to compare them."
    once = ", each trained once" if len(comparison.plan.seeds) == 1 and not table.masks else ""
    return f"{start}, {'; '.join(parts)} (Dice@0.5 with {against}{once})."


def outlines_best(label: str, found: Sequence[tuple[str, str]]) -> str:
    """A method that is best alone, the structures it is best on, and its Dice there, in words."""
    *others, last = [f"the {structure} ({value})" for structure, value in found]
    if others:
        return f"{label} outlines {', '.join(others)} and {last} best"
    structure, value = found[0]
    return f"{label} outlines the {structure} best ({value})"


NAMED = 3  # methods named in the first sentence, where more cannot be told apart


def _level(level: Sequence[str], dice: dict[str, str], count: int) -> str:
    """Which methods at the top cannot be told apart."""
    named = [f"{label} ({dice[label]})" for label in level]
    if len(named) <= NAMED:
        return f"no difference could be shown between {', '.join(named[:-1])} and {named[-1]}"
    values = [dice[label] for label in level]
    ends = f"{min(values, key=float)} to {max(values, key=float)}"
    return f"no difference could be shown between {len(level)} of {count} ({ends})"


def _number_of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def remarks(comparison: Comparison, above: str = "") -> list[str]:
    """What limits the tables.

    Args:
        above: The sentence that stands above and need not be said again.
    """
    said = []
    alike: dict[str, list[str]] = {}  # networks that collapsed in the same way
    for result in comparison.results.values():
        if result.collapsed:
            alike.setdefault(result.collapse, []).append(result.candidate.label)
    for how, labels in alike.items():
        out = "It is" if len(labels) == 1 else "They are"
        said.append(f"{', '.join(labels)} collapsed {how}. {out} out of the ranking.")
    failed = [r.candidate.label for r in comparison.results.values() if r.failed]
    if failed:
        said.append(f"Failed: {', '.join(failed)}; the tables say why.")
    impossible = [r.candidate.label for r in comparison.results.values() if r.impossible]
    if impossible:
        said.append(f"Not possible on these data: {', '.join(impossible)}.")
    waiting = [r for r in comparison.results.values() if not r.runs and not r.failed and not r.impossible]
    if waiting:
        said.append(f"Not trained yet: {', '.join(r.candidate.label for r in waiting)}.")
    said += said_of(comparison.plan)
    if made := list(comparison.plan.outside):
        their = "its" if len(made) == 1 else "their"
        said.append(
            f"{', '.join(made)} {'was' if len(made) == 1 else 'were'} made by another tool with a budget of {their} own; "
            "whether the test cases were seen there is not known here."
        )
    patients = len(set(comparison.groups.values()))
    if 0 < patients < ENOUGH:
        why = too_few(patients)
        said.append("Nothing is bold." if why in above else f"{why}: nothing is bold.")
    return said


def _settings(comparison: Comparison) -> dict[str, str]:
    plan = comparison.plan
    costs = [cost for result in comparison.results.values() for cost in result.costs()]
    said = {
        "data set": plan.dataset,
        "training, validation, test": f"{len(plan.train)}, {len(plan.val)}, {len(plan.test)} cases",
        "patients in test": str(len(set(comparison.groups.values()))),
        "raters": f"{len(plan.task.raters)}{' anonymous' if plan.task.anonymous else ''}",
        "seeds": ", ".join(map(str, plan.seeds)),
        **{name.replace("_", " "): _plain(value) for name, value in plan.budget},
        "device": ", ".join(dict.fromkeys(cost.device for cost in costs)) or "–",
        "threads a run": ", ".join(dict.fromkeys(str(cost.threads) for cost in costs)) or "–",
    }
    return said


def _plain(value: object) -> str:
    """A setting in words."""
    if value is None:
        return "none"
    if isinstance(value, Plan):
        finer = f" at {' × '.join(f'{mm:g}' for mm in value.spacing_mm)} mm" if value.spacing_mm else ""
        return f"patches of {' × '.join(map(str, value.patch))}{finer}, in place of size"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
