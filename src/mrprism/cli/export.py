"""`mrprism export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrprism.cli.completion import masks_of, targets

if TYPE_CHECKING:
    from mrprism.learn.to_onnx import ExportedNetwork


def run(
    source: Annotated[Path, typer.Argument(help="Data set; for onnx a run.", metavar="DATASET|RUN")],
    to: Annotated[
        str,
        typer.Option(
            help="nnunet, bids, nifti, png, tiff, seg-nrrd, coco or dicom-seg; of a run onnx.",
            autocompletion=targets,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    raters: Annotated[
        str,
        typer.Option(
            help="each: every rater's own masks; decisions: what was settled in the viewer; or a fusion: staple, "
            "majority, ...",
            autocompletion=masks_of,
        ),
    ] = "each",
    soft: Annotated[
        bool, typer.Option("--soft", help="For nnunet and a fusion: its probabilities, too, in softTr.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Hand on masks, every rater's own or one consensus, to other tools; or a run's network as ONNX.

    - **nnunet**: nnU-Net v2; labelsTr_RATER, or labelsTr for a fusion, which it can train on
    - **bids**: BIDS derivatives, desc-RATER
    - **nifti**, **png**, **tiff**: images/ and RATER/STRUCTURE/
    - **seg-nrrd**: 3D Slicer segmentations of volumes
    - **coco**: one JSON file for each rater, masks as run lengths
    - **dicom-seg**: volumes as DICOM series, one segmentation for each rater and case
    - **onnx**: the network of a run, one image at a time, checked against PyTorch; model.json says
      how to prepare an image and what comes out

    Who did not do a case has no mask there; who saw nothing has an empty one. A layout that cannot
    tell the two refuses such a data set. manifest.json lists every file with its SHA-256.

    Examples:

        mrprism export fundus --to coco --out fundus-coco

        mrprism export fundus --to nnunet --raters staple --out Dataset501_Fundus

        mrprism export fundus --to nnunet --raters decisions --out Dataset502_Settled

        mrprism export runs/prism --to onnx --out prism-onnx
    """
    from mrprism.cli.calls import export
    from mrprism.layouts.writers import Exported

    made = export(source, to, out, raters=raters, soft=soft)
    if not isinstance(made, Exported):
        _say_network(made, as_json)
        return
    if as_json:
        about = {
            "folder": str(made.folder),
            "cases": made.cases,
            "raters": made.raters,
            "files": made.files,
            "left_out": made.left_out,
        }
        print(json.dumps(about))
        return
    print(f"{made.folder}: {made.cases} cases, masks of {', '.join(made.raters)}, {made.files} files")
    if made.left_out:
        print(f"left out, as {to} has no place for it: {', '.join(made.left_out)}")


def _say_network(made: ExportedNetwork, as_json: bool) -> None:
    if as_json:
        about = {"folder": str(made.folder), "outputs": made.outputs, "difference": made.difference}
        print(json.dumps(about))
        return
    print(f"{made.folder}: {', '.join(made.outputs)}; largest difference from PyTorch {made.difference:.1g}")
