"""`mrprism view`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrprism.core.errors import InputError

if TYPE_CHECKING:
    from mrprism.viewer.view import View


def run(
    path: Annotated[Path, typer.Argument(help="A data set, or a run folder.", metavar="PATH")],
    dataset: Annotated[
        Path | None, typer.Option(help="Of a run: where its data set is, if not where it was at training.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    device: Annotated[
        str | None, typer.Option(help="Of a run: cpu, cuda; unless told a GPU if there is one.")
    ] = None,
) -> None:
    """Look at cases in the browser: every rater's outlines, votes, consensus, and what a run predicts.

    Cases on which raters differ most come first. Each rater has a colour and can be hidden; beside the image stand
    the pairwise Dice and who did not do the case. Volumes are read slice by slice, in any of three planes. Of a run,
    every recurrence is shown, each rater's predicted outline, and how far the run trusts each rater.

    The page is served to this machine only, under an address with a key, and nothing is ever written. From
    another machine: ssh -L 8642:127.0.0.1:8642 HOST, then open the printed address here.

    Examples:

        mrprism view fundus

        mrprism view runs/prism --no-browser --port 9000
    """
    from mrprism.datasets import open_dataset
    from mrprism.viewer.server import serve
    from mrprism.viewer.view import View

    if (path / "config.json").is_file():
        serve(_of_run(path, dataset, device), port=port, browser=browser)
        return
    if dataset is not None or device is not None:
        raise InputError(
            f"--dataset and --device belong to a run, and '{path}' is none: it has no config.json"
        )
    opened = open_dataset(path)
    serve(View(opened, opened.name), port=port, browser=browser)


def _of_run(path: Path, dataset: Path | None, device: str | None) -> View:
    from mrprism.learn.evaluate import dataset_of
    from mrprism.learn.predictor import load
    from mrprism.viewer.view import View

    predictor = load(path, device)
    config = predictor.run.config
    opened = dataset_of(predictor.run, dataset)
    splits = {name: split for split in ("train", "val", "test") for name in getattr(config, split)}
    return View(opened, f"{config.method} on {opened.name}", predictor, splits)
