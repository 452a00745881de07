"""`mrprism plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrprism.cli.completion import backbones, methods


def run(
    dataset: Annotated[Path, typer.Argument(help="The data set: its folder or its dataset.json.")],
    out: Annotated[Path | None, typer.Option(help="Also write the plan to this new TOML file.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="What a training may take, such as 8GB; by default the GPU's, or half this machine's."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="How long a training may take; a step is timed here to know how many epochs that is."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="What will be trained, for --minutes.", autocompletion=methods)
    ] = "mrprism",
    backbone: Annotated[
        str, typer.Option(help="Encoder: small (laptops), resnet18, resnet34.", autocompletion=backbones)
    ] = "resnet34",
    split_seed: Annotated[
        int, typer.Option(help="As for train: only cases that it learns from are measured.")
    ] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; by default a GPU if any.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan and its reasons as JSON.")] = False,
) -> None:
    """Measure a data set and plan how a network should learn from it, with the reason of every line.

    Sizes, spacings, intensities, structures, and where raters disagree decide: two or three dimensions; millimetres or
    pixels that cases are brought to, their shape kept; whole cases or patches, and how many a step, within the memory;
    how intensities are normalised; and for how many epochs the time is enough. Change what you like in the file and
    give it to train or compare.

    Examples:

        mrprism plan fundus --out plan.toml --memory 8GB --minutes 60 --backbone small

        mrprism train fundus --plan plan.toml --backbone small --out run
    """
    from mrprism.learn.planning import plan

    made = plan(
        dataset,
        out,
        memory=memory,
        minutes=minutes,
        method=method,
        backbone=backbone,
        split_seed=split_seed,
        device=device,
    )
    if as_json:
        print(
            json.dumps({"plan": made.plan.model_dump(exclude_none=True), "reasons": made.reasons}, indent=1)
        )
    else:
        print(made.to_toml(), end="")
