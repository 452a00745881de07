"""`mrprism report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders of one data set, each trained and evaluated.")
    ],
    out: Annotated[Path, typer.Option(help="The page to write; one that is there is replaced.")] = Path(
        "report.html"
    ),
) -> None:
    """Write one self-contained HTML page about runs.

    It says in one sentence what was learned, shows a table of methods and metrics with their spread
    over cases, example cases with every rater's outline and each recurrence, how far each rater is
    trusted, training curves and all settings. Nothing is computed again: the page is drawn from the
    table, log and example cases in the run folders, and needs no network to be read. Runs that
    differ in nothing but the seed become one line.

    Example: mrprism report runs/prism runs/hard-vote --out report.html
    """
    from mrprism.report import build_report

    print(build_report(runs, out))
