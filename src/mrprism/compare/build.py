"""A comparison from the command to the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrprism.compare import figures, launch
from mrprism.compare.candidates import choose
from mrprism.compare.formats import to_csv, to_latex, to_markdown
from mrprism.compare.launch import On, Submit
from mrprism.compare.outside import check_names, find_rows, keep_row, outside, score_row
from mrprism.compare.page import note as note_under
from mrprism.compare.page import render
from mrprism.compare.paper import write_figures
from mrprism.compare.plan import FILE, Budget, Plan, jobs_of, join, make_plan, native, read_plan, write_plan
from mrprism.compare.protocols import protocol_of
from mrprism.compare.results import Comparison, read_comparison
from mrprism.compare.sweep import sweep
from mrprism.compare.tables import Table, make_tables
from mrprism.core import given
from mrprism.core.brief import counted
from mrprism.core.errors import InputError, unknown
from mrprism.core.files import plain_file
from mrprism.core.rows import Rows
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.keep import keep_dataset
from mrprism.learn.bounds import MOST_DRAWS
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.folders import complete_set
from mrprism.output.lock import alone_in

WRITTEN = ("compare.html", "table*.csv", "table*.tex", "table*.md", "figure*.svg", "figure*.pdf")
DATA = "data"  # where a data set from memory is kept
MOST_READ = 200  # test cases looked at to pick those that are shown


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to."""

    page: Path
    tables: tuple[Table, ...]
    failed: dict[str, str]  # run to why
    impossible: dict[str, str]  # candidate to why
    collapsed: dict[str, str]  # candidate's name to why its numbers mean nothing

    def __repr__(self) -> str:
        lost = f", {len(self.failed)} failed" if self.failed else ""
        return f"Outcome('{self.page}', {counted(len(self.tables), 'table')}{lost})"

    def to_frame(self) -> Any:
        """All scores as a `pandas.DataFrame`, a row for each method, structure, target and metric.

        Raises:
            InputError: pandas is not installed.
        """
        scores: Any = as_records(self)["scores"]
        return Rows(scores).to_frame()


@alone_in("out")
def compare(
    dataset: Dataset | str | Path,
    out: str | Path,
    *,
    methods: str = "table1",
    rows: Sequence[str] | Mapping[str, str | Path] = (),
    protocol: str | None = None,
    draws: int | None = None,
    seeds: Sequence[int] = (0,),
    budget: Budget | None = None,
    jobs: int | None = None,
    on: On = "local",
    device: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train what is missing of a comparison, and write its tables and its page.

    Runs lie in `out`/runs/METHOD[-OPTION=VALUE]/seedK. What is finished is kept, what was interrupted goes on
    from its checkpoint, what failed is tried again. Methods and seeds may be added later; another budget
    or other data are refused.

    Args:
        dataset: A data set, or its path. One in memory, or a part of one, is written to `out`/data for the runs.
        methods: "table1" ... "table4", "all", or methods with commas between, each with options if
            wanted, as in "mrnet,mrprism:recurrences=4".
        rows: Answers of other tools to stand in the tables, name to folder or as "NAME=FOLDER"; which files are looked
            for says `mrprism.compare.answers`. They are read and scored before anything is trained.
        protocol: A name of `mrprism.compare.protocols.PROTOCOLS`, which fixes split, size, draws and metrics.
        budget: What every method is given alike. Volumes are planned for, unless it names `slices`, `size` or a plan.
        draws: Outlines drawn by methods that draw; None: as the protocol says, else each method's own number.
        jobs: Runs side by side; None: one a GPU, or one for every four cores.
        on: "local": processes of this machine; "ray": tasks of a Ray cluster.

    Raises:
        InputError: A setting is wrong, budgets would be mixed, or none of the methods can run.
        KeyboardInterrupt: After Ctrl-C, once the runs under way have saved.
    """
    out = Path(out)
    if out.is_file():
        raise InputError(f"{out} is a file: name a folder for the comparison")
    seeds = [given.whole(seed, "a seed") for seed in given.several(seeds, "seeds")]
    jobs = None if jobs is None else given.whole(jobs, "--jobs", -(10**9))
    if on not in ("local", "ray"):
        raise unknown("place to run on", on, ("local", "ray"))
    if draws is not None and not 1 <= draws <= MOST_DRAWS:
        raise InputError(f"the number of draws is {draws}; expected 1 to {MOST_DRAWS}")
    given.one_of(methods, str, 'methods as one text, such as "mrnet,mrprism:recurrences=4"')
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {jobs}")
    if not seeds:
        raise InputError("a comparison needs at least one seed")
    choice = choose(methods)
    elsewhere = outside(rows)
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    whole = data.path is not None and data.manifest is not None and len(data) == len(data.manifest.cases)
    kept_at = None if whole else out / DATA
    before = read_plan(out).budget if plain_file(out / FILE).is_file() else None
    budget = native(budget or Budget(), data, before, device)
    if (fixed := protocol_of(protocol)) is None:
        new = make_plan(data, budget, choice, seeds, (), kept_at).model_copy(update={"draws": draws})
    else:
        draws, budget = fixed.number_of_draws(draws), fixed.budget(budget)
        split = fixed.split(data, budget.split_seed)
        new = make_plan(data, budget, choice, seeds, (), kept_at, split)
        new = new.model_copy(update={"protocol": fixed.name, "draws": draws})
    remove_leftovers(out)
    if plain_file(out / FILE).is_file():
        plan = join(read_plan(out), new, out)
    else:
        if out.is_dir() and any(path.name != ".lock" for path in out.iterdir()):
            raise InputError(f"{out} already holds files that are not a comparison: name another folder")
        plan = new.model_copy(update={"shown": pick_shown(data, new)})
    if fixed is not None:  # of all its seeds and methods, those of earlier calls too
        plan = plan.model_copy(update={"apart": tuple(fixed.apart(data, plan))})
    _check_any(plan, choice.candidates(plan.has_reference))
    check_names({**plan.outside, **elsewhere}, plan.candidates())
    answers = find_rows(elsewhere, plan, data)
    scored = [score_row(name, folder, answers[name], plan, data) for name, folder in elsewhere.items()]
    folders = {name: str(folder.resolve()) for name, folder in elsewhere.items()}
    plan = plan.model_copy(update={"outside": {**plan.outside, **folders}})
    if not whole:
        keep_dataset(data, out / DATA)
    for key in sorted(new.impossible):
        _say(f"left out: {new.impossible[key]}", quiet)
    write_plan(plan, out)
    for row in scored:
        keep_row(row, plan, out)
    work = jobs_of(plan, out, choice.candidates(plan.has_reference), new.seeds, device)
    side_by_side = jobs or launch.default_jobs(device)
    with _place(on, jobs, side_by_side, device) as submit:
        try:
            failed = sweep(work, submit, side_by_side, quiet=quiet)
        except KeyboardInterrupt as stop:
            raise type(stop)(f"stopped; the same command goes on with {out}") from None
    page, tables = write_comparison(out)
    results = read_comparison(out).results.values()
    collapsed = {result.candidate.label: result.collapse for result in results if result.collapsed}
    return Outcome(page, tuple(tables), failed, dict(plan.impossible), collapsed)


def _place(on: On, jobs: int | None, side_by_side: int, device: str | None) -> AbstractContextManager[Submit]:
    return launch.on_ray(jobs, device) if on == "ray" else launch.local(side_by_side)


def _check_any(plan: Plan, candidates: Sequence[Any]) -> None:
    own = [c for c in candidates if c.key in plan.impossible]
    if len(own) == len(candidates):
        why = plan.impossible[own[0].key]
        raise InputError(f"none of the methods can run on data set '{plan.dataset}': {why}")


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        from mrprism.output.console import console

        console(stderr=True, soft_wrap=True).print(text)


def pick_shown(dataset: Dataset, plan: Plan) -> tuple[str, ...]:
    """Four test cases from the least to the most disputed."""
    names = plan.test[:MOST_READ]
    disagreement = {}
    for name in names:
        sample = dataset[name]
        disagreement[name] = figures.disputed(sample.masks, sample.rated)
    return tuple(figures.most_telling(names, disagreement))


@alone_in("out")
def write_comparison(out: str | Path) -> tuple[Path, list[Table]]:
    """Write compare.html, each table as CSV and LaTeX, and the figures, from a comparison's folder.

    They take the places of older ones all together. Nothing is trained; a folder whose sweep was stopped gives a page about what is there.
    """
    out = Path(out)
    comparison = read_comparison(out)
    tables = make_tables(comparison)
    page = out / "compare.html"
    with complete_set(out, "tables", WRITTEN, last=(page.name,), known=True) as new:
        _write(comparison, tables, new)
    return page, tables


def _write(comparison: Comparison, tables: Sequence[Table], new: Path) -> None:
    for table in tables:
        note = note_under(table, comparison)
        write_file(new / f"{table.contents.name}.csv", to_csv(table), durable=False)
        write_file(new / f"{table.contents.name}.tex", to_latex(table, note), durable=False)
        write_file(new / f"{table.contents.name}.md", to_markdown(table, note), durable=False)
    write_figures(comparison, tables, new)
    write_file(new / "compare.html", render(comparison, tables), durable=False)


def as_records(outcome: Outcome) -> dict[str, object]:
    """An outcome as plain values, for JSON; None where there is no number."""
    lines = [
        {
            "table": table.contents.name,
            "structure": part.structure,
            "method": line.label,
            "run": line.result.candidate.key,
            "recurrence": line.recurrence,
            "reads": line.reads,
            "target": column.target,
            "metric": column.metric,
            "mean": _plain(cell.mean),
            "sd_over_seeds": _plain(cell.spread),
            "best": cell.best,
            "level_with_best": cell.level,
        }
        for table in outcome.tables
        for part in table.structures
        for line in part.lines
        for column, cell in zip(table.columns, line.cells, strict=True)
        if line.entry is not None
    ]
    said = {"failed": outcome.failed, "impossible": outcome.impossible, "collapsed": outcome.collapsed}
    return {"page": str(outcome.page), "scores": lines, **said}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
