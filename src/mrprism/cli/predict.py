"""`mrprism predict`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mrprism.cli.many import Jobs, On


def run(
    run: Annotated[
        Path,
        typer.Argument(help="A run folder; or hf:OWNER/NAME, which is fetched from a hub.", metavar="RUN"),
    ],
    files: Annotated[
        list[Path], typer.Argument(help="Images, folders of images, or folders with a DICOM series each.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    window: Annotated[
        str,
        typer.Option(
            help="For CT: LOW:HIGH in the files' own values; by default the window of the training data."
        ),
    ] = "",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="For methods that draw: how many outlines of each image; by default as many as at training."
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Share of patients for whom inner and outer outlines hold, such as 0.95; unless told 0.9, where the "
            "validation cases suffice."
        ),
    ] = None,
    jobs: Jobs = None,
    on: On = "local",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print as JSON which folders were written.")
    ] = False,
) -> None:
    """Outline new images with a run.

    It makes a folder for each image. The folder holds the probability and the mask of every structure, and the calibrated
    probability if the run has one. If the method gives them, it also holds what each rater would have drawn, the
    confidence in each rater, and every recurrence. If the run had enough validation patients, there are an inner and an outer
    outline, which hold for a stated share of patients (--coverage). All have the image's own size and geometry. PNG and JPEG give PNG (probabilities 16 bit, 65535 is 1), TIFF gives TIFF.
    NIfTI, NRRD and DICOM give .nii.gz. Images that are done already are skipped.

    Volumes are predicted slice by slice, as the run was trained. This uses temporary files (some gigabytes for a large
    volume; TMPDIR says where) and little memory.

    Examples:

        mrprism predict runs/prism photos/*.png --out outlines

        mrprism predict runs/ssn photos --out outlines --draws 50

        mrprism predict runs/prism photos --out outlines --coverage 0.95

        mrprism predict runs/ct scan.nii.gz series/ --window -160:240 --out outlines

        mrprism predict hf:OWNER/NAME photos/ --out outlines
    """
    from mrprism.layouts.source import parse_window
    from mrprism.learn.hub import local
    from mrprism.learn.predict import predict_files
    from mrprism.learn.run import Run

    def each(folder: Path, skipped: bool) -> None:
        print(f"{folder}{'  (done already)' if skipped else ''}", file=sys.stderr if as_json else sys.stdout)

    run = local(run)
    if (note := Run.open(run).config.note) is not None:
        print(f"note: {note}", file=sys.stderr)
    folders = predict_files(
        run,
        files,
        out,
        window=parse_window(window),
        device=device,
        draws=draws,
        coverage=coverage,
        each=each,
        jobs=jobs,
        on=on,
    )
    if as_json:
        print(json.dumps([str(folder) for folder in folders]))
