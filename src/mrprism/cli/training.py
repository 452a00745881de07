"""Options of the commands that train."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mrprism.cli.completion import backbones

Epochs = Annotated[
    int | None, typer.Option(help="Passes over the training cases; by default 150, or as the plan says.")
]
BatchSize = Annotated[int | None, typer.Option(help="Cases in each step; by default 8, or as the plan says.")]
Size = Annotated[int | None, typer.Option(help="Images are stretched to SIZE x SIZE pixels; by default 256.")]
Backbone = Annotated[
    str, typer.Option(help="Encoder: small (laptops), resnet18, resnet34.", autocompletion=backbones)
]
LearningRate = Annotated[float, typer.Option(help="Learning rate of Adam.")]
Schedule = Annotated[
    Literal["constant", "cosine"], typer.Option(help="How the learning rate changes during training.")
]
Augment = Annotated[
    Literal["full", "light", "none"] | None,
    typer.Option(
        help="Random changes of the training images. light: turn, scale, shift, contrast, brightness; full: also "
        "flips. By default full, or as the plan says."
    ),
]
Neighbours = Annotated[
    int, typer.Option(help="With --slices: how many slices on each side come along as channels.")
]
DrawnOnly = Annotated[
    bool,
    typer.Option("--drawn-only", help="With --slices: leave out slices on which nobody drew anything."),
]
SplitSeed = Annotated[
    int, typer.Option(help="Seed of the random split, for cases whose split the data set does not fix.")
]
