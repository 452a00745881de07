"""`mrprism train`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mrprism.cli.completion import methods
from mrprism.cli.options import typed
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

WITH_RESUME = {"dataset", "resume", "device", "checkpoint_every", "track", "evaluate", "quiet"}


def run(
    dataset: Annotated[Path | None, typer.Argument(help="Folder of the data set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="The method to train, also one of an installed package; docs/methods.md describes them.",
            autocompletion=methods,
        ),
    ] = "mrprism",
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the method as NAME=VALUE; may be given several times.")
    ] = None,
    backbone: Backbone = "resnet34",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    size: Size = None,
    learning_rate: LearningRate = 1e-4,
    schedule: Schedule = "constant",
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0: no limit.")] = 0.0,
    augment: Augment = None,
    slices: Annotated[
        Literal["axial", "coronal", "sagittal", "z", "y", "x"] | None,
        typer.Option(
            help="Train on the slices of volumes: along the patient's planes, or along an axis of the file."
        ),
    ] = None,
    neighbours: Neighbours = 0,
    drawn_only: DrawnOnly = False,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="auto|FILE",
            help="In place of --size: learn as a plan says, made from the data (auto) or written by mrprism plan. "
            "Batch size, augmentation and epochs are the plan's unless given. Volumes are planned for (auto) unless "
            "--slices or --size is given.",
        ),
    ] = None,
    nan: Annotated[
        Literal["stop", "skip"],
        typer.Option(
            help="If the loss of a batch is not a number (NaN): stop, or skip the batch and count it."
        ),
    ] = "stop",
    select: Annotated[
        Literal["last", "val", "val-consensus", "val-reference"] | None,
        typer.Option(
            help="Which epoch to keep. last: the last one; val, val-consensus, val-reference: the best one on the "
            "validation cases against the mean of raters, the method's own consensus, or the reference. Default: last "
            "with --schedule cosine; else val-reference where every validation case has a reference; else val-consensus."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the weights, the order of cases and the augmentation.")
    ] = 0,
    split_seed: SplitSeed = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1; by default a GPU if there is one.")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bf16"],
        typer.Option(help="auto: bf16 on a GPU that has it, else float32."),
    ] = "auto",
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 30.0,
    reference: Annotated[
        Literal["dataset", "decisions"],
        typer.Option(help="The data set's own references, or what was settled in mrprism view --adjudicate."),
    ] = "dataset",
    track: Annotated[
        Literal["tensorboard", "mlflow", "wandb"] | None, typer.Option(help="Log to this tracker as well.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the training in this run folder, with its own settings.")
    ] = None,
    evaluate: Annotated[bool, typer.Option(help="Score the test cases at the end.")] = True,
    quiet: Annotated[bool, typer.Option(help="Print only warnings.")] = False,
) -> int:
    """Train a method on a data set, and score its test cases. The result is a run folder.

    Which method first: fused-label with label=auto where two or more named raters drew each image; mrprism-outline
    where one did. The default, mrprism, also says whom it trusts on each image.

    Cases are split by patient into training, validation and test cases, unless the data set fixes it. Ctrl-C finishes
    the present step, saves and stops. A kill loses only the steps since the last checkpoint. On a CPU, a training that
    was stopped and resumed gives the same weights as one that was never stopped, if the libraries and the kind of
    machine are the same.

    All methods learn from volumes as they are but mrprism-outline, mrnet, diagnosis-first, agnet, posal, beal, ccdm
    and diagnosis-first-fusion, which take their slices (--slices).

    Examples:

        mrprism train fundus --out runs/prism

        mrprism train fundus --out runs/auto --method fused-label --option label=auto --backbone small

        mrprism train ct --out runs/ct --epochs 40

        mrprism train ct --out runs/ct --slices axial --neighbours 1

        mrprism train --resume runs/prism
    """
    from mrprism.cli.calls import opened, referenced
    from mrprism.cli.evaluate import show_scores
    from mrprism.learn.processes import refuse_a_lone_process
    from mrprism.learn.train import resume as go_on
    from mrprism.learn.train import train

    if resume is not None and out is not None:
        raise InputError("--resume already names the run folder: leave out --out")
    if resume is not None and (others := typed() - WITH_RESUME):
        options = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in others))
        raise InputError(f"--resume goes on with the run's own settings: leave out {options}")
    with _alone(out if resume is None else resume):  # until it is scored, too
        if resume is not None:
            done = go_on(
                resume, dataset, device=device, checkpoint_every=checkpoint_every, track=track, quiet=quiet
            )
        elif dataset is None or out is None:
            raise InputError("train needs a data set and --out RUN, or --resume RUN")
        else:
            refuse_a_lone_process()
            data = opened(dataset) if reference == "dataset" else referenced(dataset, reference)
            done = train(
                data,
                method,
                out,
                epochs=epochs,
                batch_size=batch_size,
                augment=augment,
                size=size,
                learning_rate=learning_rate,
                schedule=schedule,
                clip=clip,
                seed=seed,
                split_seed=split_seed,
                backbone=backbone,
                options=_options(option or []),
                slices=slices,
                neighbours=neighbours,
                drawn_only=drawn_only,
                plan=plan,
                nan=nan,
                select=select,
                device=device,
                precision=precision,
                checkpoint_every=checkpoint_every,
                track=track,
                quiet=quiet,
            )
        if evaluate and os.environ.get("RANK", "0") == "0":  # one of several processes is enough
            show_scores(done, dataset, split="test", device=device, quiet=quiet, as_json=False)
    return 0


def _alone(place: Path | None) -> AbstractContextManager[object]:
    """The lock of a run; of several processes that train together, the first holds it for all."""
    from mrprism.output.lock import alone

    return nullcontext() if place is None or os.environ.get("RANK", "0") != "0" else alone(place)


def _options(given: list[str]) -> dict[str, Any]:
    from mrprism.learn.methods.options import parse_options

    try:
        return parse_options(given)
    except ValueError as error:
        raise InputError(f"--option '{error}' is not of the form NAME=VALUE") from None
