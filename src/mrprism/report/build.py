"""One self-contained HTML page about runs, drawn from what they left in their folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mrprism import __version__
from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.metrics import METRICS
from mrprism.metrics.claims import suffice
from mrprism.metrics.scores import FINAL, MEAN, RATER, REFERENCE, dice_of_cases, pick_examples
from mrprism.output.colours import CONFIDENCE_COLOURS, PREDICTION_COLOUR, SHARE_COLOURS, rater_colour
from mrprism.output.files import write_file
from mrprism.output.lock import alone_in
from mrprism.output.templates import templates
from mrprism.report import findings, pictures, plots, reading
from mrprism.report.pictures import Flat, Panel, Window
from mrprism.report.reading import Entry, Key, RunFolder

HERE = Path(__file__).parent
MOST_STEPS = 4  # recurrences shown side by side
MOST_RIVALS = 12  # other methods drawn on an example
MOST_CASES = 4
ENDS = (("less", "#30a5d8"), ("more", "#e8842c"))  # of a way in which draws vary
ROLES = ("best", "median", "worst")


@alone_in("out")
def build_report(runs: Sequence[str | Path], out: str | Path) -> Path:
    """Write a page about evaluated runs of one task: what was learned, a table, pictures.

    Everything is read from the folders' tables, logs and example cases; nothing is computed
    again. What a run does not have (recurrences, confidence, a reference, a log) leaves its
    section out or shows a dash.

    Args:
        runs: Run folders with at least `config.json` and `table.csv`. Runs that differ in nothing
            but the seed become one line, their mean.
        out: The HTML file; one that is there is replaced, a file of another kind is not.

    Returns:
        The path of the page.

    Raises:
        InputError: A folder is no evaluated run, the runs are of different tasks, or the page
            cannot be written.
    """
    out, places = Path(out), given.paths(runs, "run folders")
    if out.is_dir():
        raise InputError(f"{out} is a folder: name the HTML file to write")
    if plain_file(out).is_file() and not _is_page(out):
        raise InputError(f"'{out}' exists already and is not an HTML page: name another file for the report")
    folders = reading.read_runs(places)
    write_file(out, render(folders))
    return out


def _is_page(path: Path) -> bool:
    """Whether a file is HTML, or empty: a report in the place of a data set or a run's weights would destroy them."""
    with path.open("rb") as file:
        start = file.read(1000).lstrip().lower()
    return not start or start.startswith((b"<!doctype html", b"<html"))


def render(folders: Sequence[RunFolder]) -> str:
    """The page as text."""
    entries = reading.entries_of(folders)
    main = reading.main_entry(entries)
    structures = reading.structures_of(folders)
    raters = reading.raters_of(folders)
    anonymous = reading.anonymous(folders)
    colours = plots.method_colours(entries, main)
    cases = _cases(main, entries, structures, raters)
    patients = len(set(main.groups.values()))
    ranked = [] if anonymous else findings.rank_raters(main, raters, structures)
    environment = templates(HERE)
    environment.filters["number"] = findings.number
    environment.filters["rater_colour"] = rater_colour
    environment.globals.update(METRICS=METRICS, DASH=findings.DASH, isnan=math.isnan)
    median = next((case for case in cases if case.role == "median"), cases[0] if cases else None)
    page = environment.get_template("page.html.jinja").render(
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        dataset=str(folders[0].config.get("dataset", "")),
        headline=findings.headline(entries, main, structures),
        remarks=findings.remarks(entries, main, structures),
        table=findings.main_table(entries, structures),
        bold=sum(entry.rival and not entry.collapsed for entry in entries) > 1 and suffice(patients),
        test_cases=len(main.groups),
        patients=patients,
        missing=_missing(entries, structures),
        main=main,
        entries=entries,
        colours=colours,
        raters=raters,
        hero=median,
        cases=cases,
        confidence=_confidence(median, main, structures, raters) if median else None,
        recurrences=findings.recurrence_table(main, structures),
        recurrence_plot=None if main.collapsed else plots.recurrence_plot(main, entries, structures, colours),
        reliability_plot=plots.reliability_plot(entries, structures, colours),
        kept=len({name for run in main.runs for name in run.examples}),
        rater_map=None if anonymous else _rater_map(main, raters),
        ends=ENDS,
        training_plot=plots.training_plot(main, entries, colours),
        ranked=ranked,
        ranked_by=findings.ranked_by(main, raters, structures),
        rank_axes=_rank_axes(ranked),
        rank_agreement=findings.rank_agreement(ranked)
        if suffice(patients) and not main.collapsed
        else math.nan,
        anonymous=anonymous,
        share_colours=SHARE_COLOURS,
        confidence_colours=CONFIDENCE_COLOURS,
        bars={name: pictures.colour_bar(name) for name in (SHARE_COLOURS, CONFIDENCE_COLOURS)},
        settings=_settings(folders),
        version=__version__,
    )
    return page.strip() + "\n"


def _rater_map(main: Entry, raters: Sequence[str]) -> Markup | None:
    """Who draws like whom, as the first run of the method that keeps it has it."""
    apart = next((run.apart for run in main.runs if run.apart is not None), None)
    return None if apart is None else plots.rater_map(apart, raters)


def _missing(entries: Sequence[Entry], structures: Sequence[str]) -> list[str]:
    """Which numbers of the table leave cases out, one phrase each."""
    said: dict[tuple[str, str], int] = {}
    for target, metrics in findings.COLUMNS:
        for metric in metrics:
            for structure in structures:
                for entry in entries:
                    cell = findings.cell(entry, Key(structure, target, metric))
                    if cell.missing and cell.mean != findings.DASH:
                        worst = max(cell.missing, said.get((metric, structure), 0))
                        said[metric, structure] = worst
    return [f"{METRICS[metric].label} of the {s} in up to {n} cases" for (metric, s), n in said.items()]


# ---- example cases ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An example case with all its panels."""

    role: str  # "best", "median", "worst" or ""
    flat: Flat
    identifier: str
    definition: Markup
    window: Window
    hero: tuple[Panel, ...]
    raters: tuple[Panel, ...]
    steps: tuple[Panel, ...]
    rivals: tuple[Panel, ...]
    draws: tuple[Panel, ...]
    modes: tuple[Panel, ...]
    scored: str  # "Dice@0.5 disc · cup"


def _cases(
    main: Entry, entries: Sequence[Entry], structures: Sequence[str], raters: Sequence[str]
) -> list[Case]:
    """Best, median and worst as far as the run kept pictures of them, then others it kept."""
    kept = {name: example for run in main.runs for name, example in run.examples.items()}
    rows = [row for run in main.runs for row in run.rows if row.reads == main.reads]
    dices = dice_of_cases(rows)
    apart = not main.collapsed and len(set(dices.values())) > 1  # else none is better or worse than another
    picked = pick_examples(rows)
    roles = {case: role for role, case in picked.items() if apart and role in ROLES and case in kept}
    order = [*roles, *(name for name in kept if name not in roles)][:MOST_CASES]
    return [
        _case(
            roles.get(name, ""), pictures.flatten(kept[name]), f"case{i}", main, entries, structures, raters
        )
        for i, name in enumerate(order)
    ]


def _case(
    role: str,
    flat: Flat,
    identifier: str,
    main: Entry,
    entries: Sequence[Entry],
    structures: Sequence[str],
    raters: Sequence[str],
) -> Case:
    window, image = pictures.window_of(flat), pictures.use(identifier)
    target = REFERENCE if flat.reference is not None else MEAN
    against = "the reference" if target == REFERENCE else "the majority"
    hardest = _hardest(main, structures)
    c = structures.index(hardest)
    dashed = pictures.target_lines(flat)

    def note(entry: Entry, recurrence: str) -> str:
        values = [
            entry.values(Key(s, target, "dice", recurrence)).get(flat.name, math.nan) for s in structures
        ]
        return " · ".join(findings.number(value, "dice") for value in values)

    def drawn(title: str, probability: Any, entry: Entry, recurrence: str, colour: str = "") -> Panel:
        lines = [image, *dashed, *pictures.predicted_lines(probability, title)]
        return pictures.panel(title, lines, window, note=note(entry, recurrence), colour=colour)

    count = int(flat.rated.any(axis=1).sum())
    plain = pictures.panel("Image", [image], window)
    everyone = pictures.panel(
        f"{count} raters" if count != 1 else "1 rater", [image, *pictures.all_raters(flat, raters)], window
    )
    shares = pictures.panel(
        f"Votes for the {hardest}",
        [pictures.heat(flat.share(c), window, SHARE_COLOURS, 0.0, 1.0), *dashed[c : c + 1]],
        window,
    )
    probability = pictures.panel(
        f"Probability of the {hardest}",
        [pictures.heat(flat.probability[c], window, SHARE_COLOURS, 0.0, 1.0), *dashed[c : c + 1]],
        window,
    )
    steps = [
        drawn(f"Rec{i}" if len(flat.steps) > 1 else main.name, step, main, f"Rec{i}")
        for i, step in enumerate(flat.steps)
    ] or [drawn(main.name, flat.probability, main, FINAL)]
    steps = _some(steps, MOST_STEPS)
    rivals: list[Panel] = []
    for entry in entries:
        example = entry.example(flat.name) if entry is not main and entry.reads == "image" else None
        if example is not None and len(rivals) < MOST_RIVALS:
            other = pictures.flatten(example)
            if other.size == flat.size:
                rivals.append(drawn(entry.name, other.probability, entry, FINAL))
    hero = (
        [plain, everyone, *steps] if len(flat.steps) > 1 else [plain, everyone, shares, probability, *steps]
    )
    definition = pictures.image_definition(flat, window, identifier)
    if flat.draws is not None:  # once for all of them
        definition += pictures.group(f"{identifier}-target", dashed)
    return Case(
        role, flat, identifier, definition, window,
        tuple(hero), (plain, everyone, shares, probability), tuple(steps), tuple(rivals),
        _draws(flat, window, image, pictures.use(f"{identifier}-target")), _modes(flat, window, image),
        f"Dice@0.5 with {against}, {' · '.join(structures)}",
    )  # fmt: skip


def _draws(flat: Flat, window: Window, image: Markup, target: Markup) -> tuple[Panel, ...]:
    """Each draw that was kept, with the target dashed."""
    return tuple(
        pictures.panel(f"Draw {n}", [image, pictures.tint(draw, window, PREDICTION_COLOUR), target], window)
        for n, draw in enumerate(() if flat.draws is None else flat.draws, start=1)
    )


def _modes(flat: Flat, window: Window, image: Markup) -> tuple[Panel, ...]:
    """The main ways in which draws vary: the outline at either end of each."""
    panels = []
    for n, ends in enumerate(() if flat.modes is None else flat.modes, start=1):
        less, more = ends
        veils = [pictures.tint(more, window, ENDS[1][1]), pictures.tint(less, window, ENDS[0][1])]
        panels.append(pictures.panel(f"Way {n}", [image, *veils], window))
    return tuple(panels)


def _some(panels: list[Panel], most: int) -> list[Panel]:
    """At most so many, the first and the last among them."""
    if len(panels) <= most:
        return panels
    return [panels[round(i * (len(panels) - 1) / (most - 1))] for i in range(most)]


def _hardest(main: Entry, structures: Sequence[str]) -> str:
    """The structure with the lowest Dice, which says most."""

    def dice(structure: str) -> float:
        for target in (REFERENCE, MEAN):
            value = findings.mean_of(main, Key(structure, target, "dice"))
            if not math.isnan(value):
                return value
        return math.inf

    return min(structures, key=dice)


def _confidence(
    case: Case, main: Entry, structures: Sequence[str], raters: Sequence[str]
) -> list[tuple[str, list[Panel]]] | None:
    """For each structure, a map for each rater of the chance that they agree."""
    maps = case.flat.confidence
    if maps is None:
        return None
    rows = []
    for c, structure in enumerate(structures):
        panels = []
        for r, name in enumerate(raters):
            layers = [pictures.heat(maps[r, c], case.window, CONFIDENCE_COLOURS, 0.5, 1.0)]
            if case.flat.rated[r, c]:
                layers.append(pictures.cased(case.flat.masks[r, c], "own", name, rater_colour(r)))
            own = main.values(Key(structure, f"{RATER}{name}", "weight")).get(case.flat.name, math.nan)
            mean = findings.number(float(maps[r, c].mean()) if math.isnan(own) else own, "confidence")
            silent = "" if case.flat.masks[r, c].any() else ", drew nothing"
            note = mean + (silent if case.flat.rated[r, c] else ", did not do it")
            panels.append(
                pictures.panel(name, layers, case.window, note=note, says=f"Confidence in {name}",
                               colour=rater_colour(r))
            )  # fmt: skip
        rows.append((structure, panels))
    return rows


# ---- raters and settings ------------------------------------------------------------------------


def _rank_axes(ranked: Sequence[findings.RankedRater]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each column that has values, with a little room."""
    axes = {}
    for column in ("trust", "skill", "imitated"):
        values = [value for rater in ranked if not math.isnan(value := getattr(rater, column))]
        if values:
            room = 0.08 * (max(values) - min(values)) or 0.01
            axes[column] = (min(values) - room, max(values) + room)
    return axes


@dataclass(frozen=True)
class Settings:
    """What the runs have in common, and in what they differ."""

    common: Mapping[str, str]
    names: tuple[str, ...]
    differing: Mapping[str, tuple[str, ...]]  # setting to its value in each run


def _settings(folders: Sequence[RunFolder]) -> Settings:
    each = [reading.settings_of(run) | _result(run) for run in folders]
    keys = list(dict.fromkeys(key for settings in each for key in settings))
    rows = {key: tuple(settings.get(key, findings.DASH) for settings in each) for key in keys}
    return Settings(
        {key: values[0] for key, values in rows.items() if len(set(values)) == 1},
        tuple(run.name for run in folders),
        {key: values for key, values in rows.items() if len(set(values)) > 1},
    )


def _result(run: RunFolder) -> dict[str, str]:
    said = {}
    for key, name in (("parameters", "parameters"), ("device", "device"), ("chosen_epoch", "chosen epoch")):
        if (value := run.result.get(key)) is not None:
            said[name] = f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
    if isinstance(seconds := run.result.get("seconds"), (int, float)):
        said["training time"] = f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return said
