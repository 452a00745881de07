"""`mrprism fuse`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mrprism.cli.completion import fusions
from mrprism.cli.many import Jobs, On
from mrprism.core.errors import InputError

if TYPE_CHECKING:
    from mrprism.fusion.outline_table import OutlineRow
    from mrprism.fusion.skill_table import SkillRow


def run(
    paths: Annotated[
        list[Path],
        typer.Argument(help="A data set. With --masks: the mask files of one structure of one image."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write to. If the command was stopped, it goes on there.")
    ],
    method: Annotated[
        str,
        typer.Option(
            autocompletion=fusions,
            help="soft-vote, majority, weighted, best-rater, staple, dawid-skene, simple, shape-average, "
            "jaccard-mean, band, outline, or a fusion of an installed package. auto: majority or outline, whichever "
            "better predicts what a left-out rater has drawn.",
        ),
    ] = "staple",
    masks: Annotated[bool, typer.Option("--masks", help="PATHS are mask files, one per rater.")] = False,
    pooled: Annotated[
        bool,
        typer.Option(
            "--pooled",
            help="Estimate one skill for each rater over all cases (staple, dawid-skene, band, outline).",
        ),
    ] = False,
    margin: Annotated[
        int,
        typer.Option(min=0, help="Region of interest: the box around all marks, and so many pixels more."),
    ] = 10,
    whole_field: Annotated[
        bool, typer.Option("--whole-field", help="Region of interest: the whole image, as in ITK.")
    ] = False,
    smoothing: Annotated[
        float | None, typer.Option(min=0, help="staple: how strongly neighbouring pixels should agree.")
    ] = None,
    ties: Annotated[
        Literal["background", "foreground"] | None,
        typer.Option(help="majority: what a pixel becomes if the vote is even."),
    ] = None,
    jobs: Jobs = None,
    on: On = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Make one mask from several raters' masks, and say how good each rater is.

    For each case and structure it writes the consensus mask and its probability: PNG for plain images (probability 16
    bit, 65535 is 1), .nii.gz with the image's geometry for NIfTI and for volumes (probability float32).

    skill.csv and skill.json say how often each rater marks what is inside the consensus (sensitivity) and does not mark
    what is outside (specificity), with 95 % intervals over patients. With --method outline --pooled, outline.csv says
    how far outside the others' outline each rater draws, and how steadily. A rater who did not do a structure is left
    out of it, and is not counted as empty.

    Examples: mrprism fuse fundus --method staple --out fused

    mrprism fuse --masks ann.nii.gz ben.nii.gz cem.nii.gz --method majority --out fused
    """
    options: dict[str, Any] = {}
    for name, value, owner in (("smoothing", smoothing, "staple"), ("ties", ties, "majority")):
        if value is not None and (method != owner or (pooled and name == "smoothing")):
            raise InputError(f"--{name} belongs to --method {owner}{' without --pooled' if pooled else ''}")
        if value is not None:
            options[name] = value
    edge = None if whole_field else margin
    if masks:
        if pooled:
            raise InputError("--pooled needs a data set of several cases, not --masks")
        if jobs is not None or on != "local":
            raise InputError("--jobs and --on need a data set of several cases, not --masks")
        result = _fuse_masks(paths, method, out, edge, options, quiet=as_json)
    else:
        if len(paths) != 1:
            raise InputError(f"expected one data set, not {len(paths)} paths (mask files need --masks)")
        result = _fuse_dataset(
            paths[0], method, out, pooled, edge, {**options, "jobs": jobs, "on": on}, quiet=as_json
        )
    if as_json:
        print(json.dumps(result, indent=1))


def _fuse_dataset(
    path: Path,
    method: str,
    out: Path,
    pooled: bool,
    margin: int | None,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    from mrprism.cli.calls import opened
    from mrprism.cli.fusing import fuse_dataset

    dataset = opened(path)
    fused = fuse_dataset(
        dataset,
        method,
        out,
        pooled=pooled,
        margin=margin,
        each=lambda name: print(name, file=sys.stderr),
        **options,
    )
    if not quiet:
        for choice in fused.choices:
            print(f"{choice.structure}: {choice.why}")
        _say(fused.skill, fused.ties)
        _say_outlines(fused.outlines)
        for sentence in fused.copies:
            print(f"{sentence}; such masks are one opinion given twice, and STAPLE trusts them more")
        for case, structure in fused.undrawn:
            print(f"nobody did '{structure}' of case '{case}': no file was written for it")
        if dataset.task.anonymous:
            print("raters of this data set are slots, not persons: a skill is not that of one person")
        print(f"{fused.cases} cases in {out} ({fused.skipped} done already)")
    return {
        "folder": str(out),
        "cases": fused.cases,
        "skipped": fused.skipped,
        "ties": fused.ties,
        "copies": list(fused.copies),
        "undrawn": [list(pair) for pair in fused.undrawn],
        "skill": [asdict(row) for row in fused.skill],
        "outlines": [asdict(row) for row in fused.outlines],
        "choices": [asdict(choice) for choice in fused.choices],
    }


def _fuse_masks(
    paths: list[Path],
    method: str,
    out: Path,
    margin: int | None,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    from mrprism.cli.fusing import fuse_masks

    fused, rows = fuse_masks(paths, method, out, margin=margin, **options)
    if not quiet:
        _say(rows, fused.ties)
        print(f"{fused.inside} pixels inside: {fused.mask}, {fused.probability}")
    return {
        "mask": str(fused.mask),
        "probability": str(fused.probability),
        "inside": fused.inside,
        "ties": fused.ties,
        "skill": [asdict(row) for row in rows],
    }


def _say(rows: Sequence[SkillRow], ties: int | None) -> None:
    width = max(len(name) for row in rows for name in (row.rater, row.structure))
    for structure in dict.fromkeys(row.structure for row in rows):
        print(f"{structure:<{width}}  cases  sensitivity           specificity           Dice")
        for row in (r for r in rows if r.structure == structure):
            cells = [
                _interval(row.sensitivity, row.sensitivity_low, row.sensitivity_high),
                _interval(row.specificity, row.specificity_low, row.specificity_high),
                _interval(row.dice, row.dice_low, row.dice_high),
            ]
            print(
                f"{row.rater:<{width}}  {row.cases:>5}  " + "".join(f"{cell:<22}" for cell in cells).rstrip()
            )
    if ties is not None:
        print(f"{ties} pixels where the vote was even")


def _say_outlines(rows: Sequence[OutlineRow]) -> None:
    """How far outside the others' outline each rater draws."""
    from mrprism.fusion.outline_table import tell

    if not rows:
        return
    width = max(len(name) for row in rows for name in (row.rater, row.structure))
    for structure in dict.fromkeys(row.structure for row in rows):
        print(f"{structure:<{width}}  cases  draws")
        for row in (r for r in rows if r.structure == structure):
            print(f"{row.rater:<{width}}  {row.cases:>5}  {tell(row)}")


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"
