"""`mrprism export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def run(
    dataset: Annotated[Path, typer.Argument(help="Data set.", metavar="DATASET")],
    to: Annotated[str, typer.Option(help="nnunet, bids, nifti, png, tiff, seg-nrrd, coco or dicom-seg.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    raters: Annotated[
        str, typer.Option(help="each: every rater's own masks; or a fusion: staple, majority, ...")
    ] = "each",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Hand masks on to other tools: every rater's own, or one consensus.

    - **nnunet**: nnU-Net v2; labelsTr_RATER, or labelsTr for a fusion, which it can train on
    - **bids**: BIDS derivatives, desc-RATER
    - **nifti**, **png**, **tiff**: images/ and RATER/STRUCTURE/
    - **seg-nrrd**: 3D Slicer segmentations of volumes
    - **coco**: one JSON file for each rater, masks as run lengths
    - **dicom-seg**: volumes as DICOM series, one segmentation for each rater and case

    Who did not do a case has no mask there; who saw nothing has an empty one. A layout that cannot
    tell the two refuses such a data set. manifest.json lists every file with its SHA-256.

    Examples:

        mrprism export fundus --to coco --out fundus-coco

        mrprism export fundus --to nnunet --raters staple --out Dataset501_Fundus
    """
    from mrprism.datasets import open_dataset
    from mrprism.errors import InputError
    from mrprism.export import TARGETS, export_dataset

    if to not in TARGETS:
        raise InputError(f"unknown target '{to}'; known: {', '.join(TARGETS)}")
    made = export_dataset(open_dataset(dataset), to, out, raters=raters)
    if as_json:
        about = {"folder": str(made.folder), "cases": made.cases, "raters": made.raters, "files": made.files}
        print(json.dumps(about))
        return
    print(f"{made.folder}: {made.cases} cases, masks of {', '.join(made.raters)}, {made.files} files")
