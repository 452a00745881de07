"""`mrprism report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders of one data set, each trained and evaluated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The page to write; an older page is replaced.")] = Path(
        "report.html"
    ),
    study: Annotated[
        Path | None,
        typer.Option(help="A folder that mrprism study made: write a page about it, for a statistician."),
    ] = None,
) -> None:
    """Write one HTML page about runs, or about a study.

    The page says in one sentence what was learned. It shows a table of methods and metrics with their spread over
    cases, example cases with every rater's outline and each recurrence, how far each rater is trusted, training curves
    and all settings. Nothing is computed again: everything comes from the run folders. The page needs no network and no
    other file. Runs that differ only in the seed become one line.

    With --study it is a page about a reader study: design, readers, what is missing, agreement, each reader's bias and
    spread, the consensus, models against readers, and limits. It prints to A4.

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
