"""`mrprism predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def run(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    files: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda; unless told a GPU if there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the folders written as JSON.")] = False,
) -> None:
    """Outline new images with a run: a folder for each image.

    It holds the calibrated probability and the mask of every structure and, where the method gives
    them, what each rater would have drawn, the confidence in each rater and every recurrence, in the
    image's own size and geometry. PNG and JPEG give PNG (probabilities 16 bit, 65535 is 1), TIFF gives
    TIFF and NIfTI gives .nii.gz. Images that are done already are skipped.

    Example: mrprism predict runs/prism photos/*.png --out outlines
    """
    from mrprism.predict import predict_files

    def each(folder: Path, skipped: bool) -> None:
        print(f"{folder}{'  (done already)' if skipped else ''}", file=sys.stderr if as_json else sys.stdout)

    folders = predict_files(run, files, out, device=device, each=each)
    if as_json:
        print(json.dumps([str(folder) for folder in folders]))
