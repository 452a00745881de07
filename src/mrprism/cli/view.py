"""`mrprism view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    path: Annotated[Path, typer.Argument(help="A data set, or a run folder.", metavar="PATH")],
    dataset: Annotated[
        Path | None, typer.Option(help="Of a run: where its data set is, if not where it was at training.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    device: Annotated[
        str | None, typer.Option(help="Of a run: cpu, cuda; unless told a GPU if there is one.")
    ] = None,
    adjudicate: Annotated[
        bool,
        typer.Option("--adjudicate", help="Settle disputed cases; kept in the data set's folder decisions."),
    ] = False,
    who: Annotated[str | None, typer.Option("--as", help="With --adjudicate: who decides.")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Call raters A, B, C, in another order for each case.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let others come, at this address of the machine; 0.0.0.0: at all of them.",
        ),
    ] = None,
) -> None:
    """Look at cases in the browser: every rater's outlines, votes, consensus, and what a run predicts.

    Cases on which raters differ most come first. Each rater has a colour and can be hidden; beside the image stand
    the pairwise Dice and who did not do the case. Volumes are read slice by slice, in any of three planes. Of a run,
    every recurrence is shown, each rater's predicted outline, and how far the run trusts each rater.

    With --adjudicate cases can be settled: start from a fusion, a rater or a prediction, correct it with brush, eraser,
    fill and polygon, and say whether it is final. Every save is kept beside the raters' masks, which are never touched;
    who decided what, when, from what and how much was changed is kept with it.

    The page is served to this machine only, under an address with a key; without --adjudicate nothing is written. From
    another machine: ssh -L 8642:127.0.0.1:8642 HOST, then open the printed address here. With --host ADDRESS others can
    come, too, if they have the key; nothing is encrypted on the way.

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
