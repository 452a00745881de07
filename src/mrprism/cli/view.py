"""`mrprism view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    path: Annotated[Path, typer.Argument(help="A data set, or a run folder.", metavar="PATH")],
    dataset: Annotated[
        Path | None,
        typer.Option(help="For a run: where its data set is, if it is not where it was at training."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any port that is free.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    device: Annotated[
        str | None, typer.Option(help="For a run: cpu or cuda; by default a GPU if there is one.")
    ] = None,
    adjudicate: Annotated[
        bool,
        typer.Option(
            "--adjudicate",
            help="Settle disputed cases. Decisions are kept in the data set's folder decisions.",
        ),
    ] = False,
    who: Annotated[str | None, typer.Option("--as", help="With --adjudicate: who decides.")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Call the raters A, B, C, in another order for each case.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let other machines open the page, at this address of this machine; 0.0.0.0: at all its addresses.",
        ),
    ] = None,
) -> None:
    """Look at cases in the browser: every rater's outlines, votes, consensus, and what a run predicts.

    Cases on which raters differ most come first. Each rater has a colour and can be hidden. The page shows the pairwise
    Dice and who did not do the case. Volumes are read slice by slice, in any of three planes. For a run, the page shows
    every recurrence, each rater's predicted outline, and how far the run trusts each rater.

    With --adjudicate you can settle cases: start from a fusion, a rater or a prediction, correct it with brush, eraser,
    fill and polygon, and say whether it is final. Every decision is kept beside the raters' masks, which are never
    changed, with who decided, when, what it began with and how much was changed.

    Only this machine can open the page, and its address has a key. Without --adjudicate nothing is written. If the data
    are on a server: run ssh -L 8642:127.0.0.1:8642 SERVER on your laptop, and open the printed address on the laptop.
    With --host ADDRESS people on other machines can open the page, too, if they have the key. What is sent is not
    encrypted.

    Examples:

        mrprism view fundus

        mrprism view fundus --adjudicate --as "Dr Ann" --blind

        mrprism view runs/prism --no-browser --port 9000
    """
    from mrprism.cli.calls import view

    view(
        path,
        dataset=dataset,
        port=port,
        browser=browser,
        device=device,
        adjudicate=adjudicate,
        who=who,
        blind=blind,
        host=host,
    )
