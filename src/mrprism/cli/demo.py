"""`mrprism demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from mrprism.evaluate import Row


@dataclass(frozen=True)
class Size:
    """How much is drawn and trained; all methods get the same."""

    cases: int
    pixels: int
    epochs: int


FULL = Size(cases=260, pixels=128, epochs=36)  # 156 cases to train on: about 5 minutes on two cores
QUICK = Size(cases=10, pixels=64, epochs=1)

METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # run folder: method and its options
    "soft-vote": ("fused-label", {"label": "soft-vote"}),
    "hard-vote": ("fused-label", {"label": "majority"}),
    "mrprism": ("mrprism", {}),
}
NAMES = {"soft-vote": "U-Net on the soft vote", "hard-vote": "U-Net on the hard vote", "mrprism": "MrPrism"}


def run(
    out: Annotated[Path, typer.Option(help="Folder for the data, the runs and the report.")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes: shows that it works, learns nothing.")
    ] = False,
) -> None:
    """Train MrPrism on drawn images with seven disagreeing raters, and compare it with plain votes.

    Draws fundus-like images outlined by two good raters and five noisy ones, trains a U-Net on the soft
    vote, one on the hard vote and MrPrism, each of the same size and for as many epochs, scores them on
    images they have not seen against the truth, and writes a report with pictures. Takes about five
    minutes on two cores. Stopped, it goes on where it was when called again.

    Example:

        mrprism demo --out demo
    """
    from rich.console import Console

    from mrprism.datasets.simulate import phantom_dataset
    from mrprism.evaluate import read_table
    from mrprism.predict import evaluate
    from mrprism.report import build_report
    from mrprism.train import train

    size, started = QUICK if quick else FULL, time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    data = out / "data"
    if not (data / "dataset.json").is_file():
        console.print(f"Drawing {size.cases} images, each outlined by seven raters ...")
        phantom_dataset("crowd", size=size.pixels, cases=size.cases, out=data)
    tables = {}
    for number, (name, (method, options)) in enumerate(METHODS.items(), 1):
        folder = out / "runs" / name
        console.print(f"[bold]{number} of {len(METHODS)}: {NAMES[name]}[/bold] ({size.epochs} epochs)")
        train(
            data,
            method,
            folder,
            options=options,
            backbone="small",
            size=size.pixels,
            epochs=size.epochs,
            learning_rate=1e-3,
            schedule="cosine",
            resume=True,
        )
        if not (folder / "table.csv").is_file():
            evaluate(folder)
        tables[name] = read_table(folder / "table.csv")
    page = build_report([out / "runs" / name for name in reversed(METHODS)], out / "report.html")
    console.print()
    Console().print(_table(tables))
    console.print(
        "\nDice and soft Dice against the truth, higher is better; calibration error against the mean of the "
        "raters, lower is better."
        f"\nOne training each on {size.pixels} × {size.pixels} drawings, {size.epochs} epochs: "
        "an illustration, not a benchmark."
        f"\nTook {(time.monotonic() - started) / 60:.1f} minutes."
    )
    console.print(f"\n[bold]Open the report: {page.resolve()}[/bold]", markup=True)


def _table(tables: Mapping[str, list[Row]]) -> Table:
    """Methods and recurrences down, what was measured across."""
    from rich.table import Table

    from mrprism.evaluate import FINAL, MEAN, REFERENCE, summarise

    columns = {
        "disc\nDice": ("disc", REFERENCE, "dice"),
        "cup\nDice": ("cup", REFERENCE, "dice"),
        "disc\nsoft Dice": ("disc", REFERENCE, "soft_dice"),
        "cup\nsoft Dice": ("cup", REFERENCE, "soft_dice"),
        "disc calib.\nerror": ("disc", MEAN, "ece"),
        "cup calib.\nerror": ("cup", MEAN, "ece"),
    }
    lines: dict[str, dict[tuple[str, str, str], float]] = {}
    for name, rows in tables.items():
        for summary in summarise(rows):
            if summary.reads == "both":
                label = "raters' masks, fused by MrPrism"
            elif summary.recurrence == FINAL:
                label = NAMES[name]
            else:
                label = f"{NAMES[name]}  {summary.recurrence}"
            cells = lines.setdefault(label, {})
            cells[summary.structure, summary.target, summary.metric] = summary.mean
    if any(label.startswith(f"{NAMES['mrprism']}  ") for label in lines):
        lines.pop(NAMES["mrprism"], None)  # it is the last recurrence
    table = Table()
    table.add_column("on test images")
    for heading in columns:
        table.add_column(heading, justify="right")
    fused = [label for label in lines if label.startswith("raters")]
    for label in [label for label in lines if label not in fused] + fused:
        if label in fused:
            table.add_section()
        table.add_row(
            label,
            *(f"{100 * lines[label][key]:.1f}" if key in lines[label] else "–" for key in columns.values()),
        )
    return table
