"""`mrprism export`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrprism.cli.completion import masks_of, targets

if TYPE_CHECKING:
    from mrprism.learn.to_hf import ExportedModel
    from mrprism.learn.to_onnx import ExportedNetwork


def run(
    source: Annotated[
        Path, typer.Argument(help="A data set; for onnx and hf a run folder.", metavar="DATASET|RUN")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="For masks: nnunet, bids, nifti, png, tiff, seg-nrrd, coco or dicom-seg. For a run: onnx or hf.",
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
        bool, typer.Option("--soft", help="For nnunet and a fusion: also write its probabilities, in softTr.")
    ] = False,
    labels: Annotated[
        Literal["masks", "votes"],
        typer.Option(help="For nnunet: masks, or votes, how many raters mark a pixel, as ordered regions."),
    ] = "masks",
    split_seed: Annotated[
        int,
        typer.Option(
            min=0, help="With --labels votes: of the split, as mrprism compare draws it where none is fixed."
        ),
    ] = 0,
    licence: Annotated[
        str, typer.Option(help="For hf: the licence under which others may use the model, such as cc-by-4.0.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write masks for other tools, or a trained model for other programs.

    Masks are every rater's own, or one consensus.

    - **nnunet**: nnU-Net v2; labelsTr_RATER, or labelsTr for a fusion, on which nnU-Net can train; with
      --labels votes the number of raters as ordered regions, and the test cases in imagesTs
    - **bids**: BIDS derivatives, desc-RATER
    - **nifti**, **png**, **tiff**: images/ and RATER/STRUCTURE/
    - **seg-nrrd**: 3D Slicer segmentations of volumes
    - **coco**: one JSON file for each rater, masks as run lengths
    - **dicom-seg**: volumes as DICOM series, one segmentation for each rater and case
    - **onnx**: the network of a run, one image at a time, compared with PyTorch; model.json says how to prepare an image
      and what comes out
    - **hf**: a run in the layout of the Hugging Face Hub, with a model card. mrprism.load_run and predict read it back.
      Nothing is uploaded. Names of cases become numbers; names of raters stay

    A rater who did not do a case has no mask there. A rater who saw nothing has an empty mask. A layout that cannot show
    the difference refuses such a data set. manifest.json lists every file with its SHA-256.

    Examples:

        mrprism export fundus --to coco --out fundus-coco

        mrprism export fundus --to nnunet --raters staple --out Dataset501_Fundus

        mrprism export fundus --to nnunet --labels votes --out Dataset503_Votes

        mrprism export fundus --to nnunet --raters decisions --out Dataset502_Settled

        mrprism export runs/prism --to onnx --out prism-onnx

        mrprism export runs/prism --to hf --licence cc-by-4.0 --out prism-model
    """
    from mrprism.cli.calls import export
    from mrprism.layouts.writers import Exported

    made = export(
        source, to, out, raters=raters, soft=soft, labels=labels, split_seed=split_seed, licence=licence
    )
    if not isinstance(made, Exported):
        if to == "hf":
            _say_model(made, as_json)  # type: ignore[arg-type]
        else:
            _say_network(made, as_json)  # type: ignore[arg-type]
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


def _say_model(made: ExportedModel, as_json: bool) -> None:
    if as_json:
        about = {"folder": str(made.folder), "parameters": made.parameters, "licence": made.licence or None}
        print(json.dumps(about))
        return
    print(f"{made.folder}: {made.parameters:,} parameters; README.md is the model card")
    if not made.licence:
        print("no licence was given, and the card says so; give one with --licence NAME", file=sys.stderr)


def _say_network(made: ExportedNetwork, as_json: bool) -> None:
    if as_json:
        about = {"folder": str(made.folder), "outputs": made.outputs, "difference": made.difference}
        print(json.dumps(about))
        return
    print(f"{made.folder}: {', '.join(made.outputs)}; largest difference from PyTorch {made.difference:.1g}")
