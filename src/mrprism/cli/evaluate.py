"""`mrprism evaluate`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrprism.cli.many import Jobs, On

if TYPE_CHECKING:
    from rich.table import Table

    from mrprism.learn.run import Run
    from mrprism.metrics.scores import Row, Summary

SPREAD = ("ged", "ged_v", "hm_iou", "coverage", "diversity")
SHOWN = ("soft_dice", "dice", "ece", "brier", "hd95")


def run(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    dataset: Annotated[
        Path | None, typer.Option(help="Where the data set is, if it is not where it was at training.")
    ] = None,
    split: Annotated[
        Literal["test", "val", "train", "all"],
        typer.Option(help="Which cases to score. all: every case of another data set."),
    ] = "test",
    reference: Annotated[
        Literal["dataset", "decisions"] | None,
        typer.Option(
            help="The data set's own references, or what was settled in mrprism view --adjudicate; by default as at "
            "training."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="For methods that draw: how many outlines of each case; by default as many as at training. Scores such "
            "as GED depend on it."
        ),
    ] = None,
    jobs: Jobs = None,
    on: On = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print means and spreads as JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="Print nothing. The table is in the run folder.")] = False,
) -> None:
    """Score a run on its test cases, each at its own size.

    Every number goes to RUN/table.csv, with one row for each case, structure, recurrence, target and metric. Some cases,
    with all that was predicted, go to RUN/examples for the report. The column "reads" says what the method was shown.
    Rows with "both" fuse the cases' own masks with the learned confidence. They know more than rows that saw the image
    only, so do not compare the two.

    Example: mrprism evaluate runs/prism --json
    """
    show_scores(
        run,
        dataset,
        split=split,
        device=device,
        draws=draws,
        quiet=quiet,
        as_json=as_json,
        reference=reference,
        jobs=jobs,
        on=on,
    )


def show_scores(
    run: Path | Run,
    dataset: Path | None,
    *,
    split: str,
    device: str | None,
    quiet: bool,
    as_json: bool,
    reference: str | None = None,
    draws: int | None = None,
    jobs: int | None = None,
    on: Literal["local", "ray"] = "local",
) -> None:
    """Evaluate and print."""
    from rich.progress import Progress

    from mrprism.learn.evaluate import evaluate
    from mrprism.learn.run import Run
    from mrprism.output.console import console

    config = (run if isinstance(run, Run) else Run.open(run)).config
    if config.note is not None:
        print(f"note: {config.note}", file=sys.stderr)
    out = console(stderr=True)
    with Progress(console=out, transient=True, disable=quiet or not out.is_terminal) as progress:
        task = progress.add_task("scoring", total=None)
        rows = evaluate(
            run,
            dataset,
            split=split,
            device=device,
            reference=reference,
            draws=draws,
            jobs=jobs,
            on=on,
            each=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps(_summaries(rows), indent=2, allow_nan=False))
    elif not quiet:
        _print_table(rows)


def _summaries(rows: Sequence[Row]) -> list[dict[str, object]]:
    from mrprism.metrics.scores import summarise

    def plain(value: object) -> object:
        return None if isinstance(value, float) and math.isnan(value) else value

    return [{name: plain(value) for name, value in s._asdict().items()} for s in summarise(rows)]


def _print_table(rows: Sequence[Row]) -> None:
    from rich.table import Table

    from mrprism.metrics import METRICS
    from mrprism.metrics.scores import FINAL, MEAN, REFERENCE, summarise
    from mrprism.output.console import console

    cases = len({row.case for row in rows})
    table = Table(title=f"{cases} cases, mean ± standard deviation over cases; shares in percent")
    for heading in ("structure", "answer", "against"):
        table.add_column(heading)
    for name in SHOWN:
        arrow = "↑" if METRICS[name].better == "higher" else "↓"
        table.add_column(f"{METRICS[name].label} {arrow}", justify="right")
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for summary in summarise(rows):
        if summary.target in (REFERENCE, MEAN) and summary.metric in SHOWN:
            answer = "raters' masks fused" if summary.reads == "both" else summary.recurrence
            cells.setdefault((summary.structure, answer, summary.target), {})[summary.metric] = _cell(summary)
    recurrences = sorted({answer for _, answer, _ in cells if answer.startswith("Rec")})
    for (structure, answer, target), values in cells.items():
        if recurrences and answer == FINAL:
            continue  # it is the last recurrence
        table.add_row(structure, answer, target, *(values.get(name, "–") for name in SHOWN))
    out = console()
    wide = out if out.is_terminal else console(width=140)
    wide.print(table)
    if (spread := _spread_table(rows)) is not None:
        wide.print(spread)


def _spread_table(rows: Sequence[Row]) -> Table | None:
    """Of a method that gives several outlines: how they spread, with their number beside it."""
    from rich.table import Table

    from mrprism.metrics import METRICS
    from mrprism.metrics.scores import ANSWERS, RATERS, summarise

    found = {
        (s.structure, s.metric): s for s in summarise(rows) if s.target == RATERS and s.reads == rows[0].reads
    }
    counts = {structure: s.mean for (structure, metric), s in found.items() if metric == ANSWERS}
    if not counts or max(counts.values()) <= 1:
        return None
    table = Table(title="The outlines it gives beside those of the raters")
    for heading in ("structure", "outlines"):
        table.add_column(heading)
    for name in SPREAD:
        better = {"diversity": ""}.get(name, " ↑" if METRICS[name].better == "higher" else " ↓")
        table.add_column(f"{METRICS[name].label}{better}", justify="right")
    for structure, count in counts.items():
        table.add_row(structure, f"{count:g}", *(_cell(found[structure, name]) for name in SPREAD))
    return table


def _cell(summary: Summary) -> str:
    from mrprism.metrics import METRICS

    scale, digits = (100, 1) if METRICS[summary.metric].unit == "%" else (1, 3)
    if math.isnan(summary.mean):
        return "–"
    spread = "" if math.isnan(summary.sd) else f" ± {scale * summary.sd:.{digits}f}"
    missing = f" ({summary.missing} without)" if summary.missing else ""
    return f"{scale * summary.mean:.{digits}f}{spread}{missing}"
