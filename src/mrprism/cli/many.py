"""Options of the commands that do the same with every case."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many cases at a time, each in a process of its own; by default one. What comes of it is the same. "
        "With --on ray by default one for each core of the cluster.",
    ),
]
On = Annotated[
    Literal["local", "ray"], typer.Option(help="local: processes of this machine; ray: a Ray cluster.")
]
