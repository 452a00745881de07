"""`mrprism compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrprism.cli.completion import compared, protocols
from mrprism.cli.training import (
    Augment,
    Backbone,
    BatchSize,
    DrawnOnly,
    Epochs,
    LearningRate,
    Neighbours,
    Schedule,
    Size,
    SplitSeed,
)
from mrprism.core.errors import InputError

if TYPE_CHECKING:
    from mrprism.compare import Budget


def run(
    dataset: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison: runs, tables and the page.")],
    methods: Annotated[
        str,
        typer.Option(
            autocompletion=compared,
            help="table1, table2, table3, table4, distributions, all; or names of methods with commas between, with options if you "
            "like: mrnet,mrprism:recurrences=4.",
        ),
    ] = "table1",
    rows: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME=FOLDER",
            help="Answers of another tool as a row: masks, probabilities or draws of every test case. May be given "
            "several times.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            autocompletion=protocols,
            help="A named protocol that fixes split, size, draws and metrics: lidc-v1, lidc-matting.",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Outlines drawn of each case by methods that draw; unless told each method's own number."
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option(help="Seeds with commas between, such as 0,1,2; each method is trained once for each."),
    ] = "0",
    epochs: Epochs = None,
    size: Size = None,
    backbone: Backbone = "resnet34",
    batch_size: BatchSize = None,
    learning_rate: LearningRate = 1e-4,
    schedule: Schedule = "constant",
    augment: Augment = None,
    slices: Annotated[
        Literal["axial", "coronal", "sagittal", "z", "y", "x"] | None,
        typer.Option(help="Train on the slices of volumes, as mrprism train does."),
    ] = None,
    neighbours: Neighbours = 0,
    drawn_only: DrawnOnly = False,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="auto|FILE", help="In place of --size: learn as a plan says, as mrprism train does."
        ),
    ] = None,
    split_seed: SplitSeed = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="How many runs at a time; by default one for each GPU, or one for every four cores."
        ),
    ] = None,
    on: Annotated[
        Literal["local", "ray"], typer.Option(help="local: processes of this machine; ray: a Ray cluster.")
    ] = "local",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all scores as JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="Print no progress.")] = False,
) -> int:
    """Train several methods on the same data and compare them in tables, as the paper does.

    Every method gets the same split, image size, backbone, epochs, batch size and learning rate. Each runs with its
    own default options; none is tuned. U-Nets on the soft and on the hard vote are always added. If there is a
    reference, a U-Net trained on it is added, too: it shows what could be reached at best. Some methods cannot work
    with these data (no diagnosis, anonymous raters, one rater). They are left out before anything is trained, and a
    sentence says why. A method that fails keeps its line, which says why.

    OUT holds compare.html with all tables and figures, each table as CSV, LaTeX and Markdown, the figures as SVG and
    PDF, and the run folders. After an interruption, give the same command again: finished runs are kept, the others go
    on from their checkpoints. You can add other methods and seeds to OUT later, but not another budget.

    --with NAME=FOLDER lays the answers of any other tool beside them: FOLDER holds for every test case and
    structure a mask (CASE_STRUCTURE.png or CASE/mask_STRUCTURE.png), a probability
    (CASE/probability_STRUCTURE.png) or several draws (CASE/draws/draw0_STRUCTURE.png), at the size of the
    case. They are scored, tested and pictured as runs are.

    The exit code is 1 if a run failed or collapsed: a network whose answer is constant, or empty on all
    test cases, keeps its line but is out of the ranking.

    Examples:

        mrprism compare fundus --out comparison --methods table1 --seeds 0,1,2

        mrprism compare ct --out volumes --methods mrprism,fused-label --plan auto

        mrprism compare fundus --out comparison --methods table1 --with nnU-Net=predictions

        mrprism compare fundus --out quick --methods mrprism,mrnet --epochs 20 --size 64 --backbone small
    """
    from mrprism.cli.calls import opened
    from mrprism.compare import as_records, compare
    from mrprism.learn.plan_told import plan_told

    try:
        numbers = tuple(int(seed) for seed in seeds.split(","))
    except ValueError:
        raise InputError(
            f"--seeds should be whole numbers with commas between, such as 0,1,2; not '{seeds}'"
        ) from None
    if min(numbers) < 0:
        raise InputError(f"--seeds should not be negative, but one is {min(numbers)}")
    budget: dict[str, object] = {"epochs": epochs, "batch_size": batch_size, "augment": augment}
    if plan is not None:
        made = plan_told(
            plan, opened(dataset), size=size, slices=slices, said=budget,
            method="mrprism", backbone=backbone, split_seed=split_seed, device=device,
        )  # fmt: skip
        assert made is not None
        budget = {"plan": made.plan}
    outcome = compare(
        dataset,
        out,
        methods=methods,
        rows=rows or (),
        protocol=protocol,
        draws=draws,
        seeds=numbers,
        budget=_budget(
            **budget, size=size, backbone=backbone, learning_rate=learning_rate, schedule=schedule, slices=slices,
            neighbours=neighbours, drawn_only=drawn_only, split_seed=split_seed,
        ),
        jobs=jobs,
        on=on,
        device=device,
        quiet=quiet,
    )  # fmt: skip
    if as_json:
        print(json.dumps(as_records(outcome), indent=2, allow_nan=False))
    else:
        print(outcome.page)
    for method, why in outcome.collapsed.items():
        print(f"mrprism: {method} collapsed and is out of the ranking, {why}", file=sys.stderr)
    return 1 if outcome.failed or outcome.collapsed else 0


def _budget(**settings: object) -> Budget:
    from pydantic import ValidationError

    from mrprism.compare import Budget

    try:
        return Budget.model_validate({name: value for name, value in settings.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).replace("_", "-")
        raise InputError(f"--{name} is {first['input']!r}: {first['msg'].lower()}") from error
