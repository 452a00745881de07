"""`mrprism report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders of one data set, each trained and evaluated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write; one that is there is replaced.")] = Path(
        "report.html"
    ),
    study: Annotated[
        Path | None, typer.Option(help="A folder of mrprism study: one page about it, for a statistician.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about runs.

    It says in one sentence what was learned, shows a table of methods and metrics with their spread
    over cases, example cases with every rater's outline and each recurrence, how far each rater is
    trusted, training curves and all settings. Nothing is computed again: the page is drawn from the
    table, log and example cases in the run folders, and needs no network to be read. Runs that
    differ in nothing but the seed become one line.

    With --study it is a page about a reader study instead: design, readers, what is missing, agreement,
    each reader's bias and spread, the consensus, models against readers, and limits. It prints to A4.

    Examples:

        mrprism report runs/prism runs/hard-vote --out report.html

        mrprism report --study retina-study --out study.html
    """
    from mrprism.core.errors import InputError
    from mrprism.report import build_report
    from mrprism.report.study import build_study

    if study is not None:
        if runs:
            raise InputError("--study names the folder of a study: leave out the runs")
        print(build_study(study, out))
        return
    if not runs:
        raise InputError("report needs the folders of runs, or --study FOLDER")
    print(build_report(runs, out))
