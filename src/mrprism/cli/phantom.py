"""`mrprism phantom`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrprism.cli.completion import scenarios
from mrprism.datasets.simulate import phantom_dataset
from mrprism.output.commands import command


def run(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    scenario: Annotated[
        str,
        typer.Option(help="Which raters: one of the scenarios below.", autocompletion=scenarios),
    ] = "crowd",
    size: Annotated[int, typer.Option(help="Height and width of the images in pixels.")] = 128,
    cases: Annotated[int, typer.Option(help="How many images.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same data set.")] = 0,
    dims: Annotated[
        int, typer.Option(help="2: photographs; 3: volumes, with a third as many slices as rows.")
    ] = 2,
    over: Annotated[
        Path | None,
        typer.Option(
            help="Draw no images: let the raters outline the references of this data set.", metavar="DATASET"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Draw images whose truth is known, outlined by simulated raters.

    The images look like those of an eye's fundus, with a disc and a cup. With --dims 3 they are volumes like CT, with
    an organ and a lesion, in thick slices. The raters outline slice by slice, a little differently on each slice.

    The truth is kept as each case's reference. Six cases in ten are for training, one for validation, three for testing.

    A scenario says which raters there are:

    - **symmetric**: seven raters; some draw too large, some too small, and together they are right
    - **crowd**: two good raters and five noisy ones who mostly draw too large
    - **majority**: four of seven raters share a bias
    - **two**: one good rater and one noisy one
    - **forty**: ten good raters and thirty noisy ones
    - **anonymous**: as crowd, but the raters come in another order on every image
    - **missing**: as crowd, but a third of the masks is not there
    - **sparse-40-3**, **sparse-40-1**, **sparse-7-1**: three of forty raters, one of forty, or one of seven on each image;
      no two raters are alike, and a quarter of them is careful
    - **by-image**: some are careful on dark images and careless on bright ones, others the other way round
    - **regional**: each rater draws one side too far outside
    - **site**: raters of one site share a bias, and see only the images of their site
    - **correlated**: four raters copy from a fifth, who is biased
    - **half**: in half of the images all raters share a bias
    - **threshold**: made in another way than the others: the outline is where the blurred truth, with a haze over it, passes a level

    Examples:

        mrprism phantom fundus --scenario crowd --cases 300

        mrprism phantom volumes --dims 3 --size 64 --cases 40

        mrprism phantom drishti-crowd --scenario crowd --over drishti
    """
    made = phantom_dataset(scenario, size=size, cases=cases, seed=seed, dims=dims, over=over, out=out)
    task, splits = made.task, list(made.splits.values())
    counts = {name: splits.count(name) for name in ("train", "val", "test")}
    if as_json:
        about = {
            "path": str(out),
            "cases": len(made),
            "structures": task.structures,
            "raters": task.raters,
            "anonymous": task.anonymous,
            "splits": counts,
        }
        print(json.dumps(about))
        return
    shares = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    who = f"{len(task.raters)} raters, {' and '.join(task.structures)}"
    print(f"{out}: {len(made)} cases ({shares or 'no split'}), {who}")
    print(f"see how they differ: {command('agree', out, '--out', 'agreement')}")
    slices = ("--slices", "z") if len(made[0].space) == 3 else ()
    print(f"train on them:       {command('train', out, '--out', 'run', *slices)}")
