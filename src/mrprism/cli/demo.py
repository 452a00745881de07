"""`mrprism demo`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrprism.output.lock import alone_in

if TYPE_CHECKING:
    from rich.table import Table

    from mrprism.metrics.scores import Row


@dataclass(frozen=True)
class Size:
    """How much is drawn and trained; all methods get the same."""

    cases: int
    pixels: int
    epochs: int


FULL = Size(cases=260, pixels=128, epochs=26)  # 156 cases to train on: 14.5 minutes on two cores
QUICK = Size(cases=10, pixels=64, epochs=1)

METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # run folder: method and its options
    "soft-vote": ("fused-label", {"label": "soft-vote"}),
    "hard-vote": ("fused-label", {"label": "majority"}),
    "outline": ("fused-label", {"label": "outline"}),
    "mrprism": ("mrprism", {}),
}
NAMES = {
    "soft-vote": "U-Net, soft vote",
    "hard-vote": "U-Net, hard vote",
    "outline": "U-Net, outline model",
    "mrprism": "MrPrism",
}
FUSIONS = {  # of the test images' own masks: fusion, whether skill comes from all cases
    "majority vote": ("majority", False),
    "STAPLE": ("staple", False),
    "outline model": ("outline", True),
}
COLUMNS = {  # heading: structure, target, metric
    "disc\nDice": ("disc", "reference", "dice"),
    "cup\nDice": ("cup", "reference", "dice"),
    "disc\nsoft\nDice": ("disc", "reference", "soft_dice"),
    "cup\nsoft\nDice": ("cup", "reference", "soft_dice"),
    "disc\nECE": ("disc", "mean of raters", "ece"),
    "cup\nECE": ("cup", "mean of raters", "ece"),
}


@alone_in("out")
def run(
    out: Annotated[Path, typer.Option(help="Folder for the data, the runs and the report.")] = Path("demo"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Seconds instead of minutes: shows that it works, but learns nothing."),
    ] = False,
) -> None:
    """Train on drawn images with seven raters who disagree, and write a report.

    It draws images like those of an eye's fundus, outlined by two good raters and five noisy ones. Then it trains
    MrPrism and three plain U-Nets: on the soft vote, on the hard vote, and on the outline model's fusion. All have the
    same size and as many epochs. They are scored against the truth, on images they have not seen. The report has
    pictures. All this takes about fifteen minutes on two cores. If you stop it, give the same command again: it goes on.

    Example:

        mrprism demo --out demo
    """
    from rich.text import Text

    from mrprism.datasets.simulate import phantom_dataset
    from mrprism.learn.evaluate import evaluate
    from mrprism.learn.train import train
    from mrprism.metrics.scores import read_table
    from mrprism.output.console import console
    from mrprism.report import build_report

    size, started = QUICK if quick else FULL, time.monotonic()
    say = console(soft_wrap=True).print
    data = out / "data"
    if not (data / "dataset.json").is_file():
        say(f"Drawing {size.cases} images, each outlined by seven raters ...")
        phantom_dataset("crowd", size=size.pixels, cases=size.cases, out=data)
    tables = {}
    for number, (name, (method, options)) in enumerate(METHODS.items(), 1):
        folder = out / "runs" / name
        heading = f"{number} of {len(METHODS)}: {NAMES[name]}"
        say(Text.assemble((heading, "bold"), f" ({size.epochs} epochs)"))
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
    say()
    console().print(_table(tables, _fused(data)))
    say("Dice and soft Dice: percent against the truth, higher is better.")
    say("ECE: percent of miscalibration against the mean of the raters, lower is better.")
    say(_trust(tables["mrprism"]))
    plural = "s" if size.epochs > 1 else ""
    say(
        f"One training each, on {size.pixels} × {size.pixels} drawings for {size.epochs} epoch{plural}: "
        f"an example, not a benchmark. It took {(time.monotonic() - started) / 60:.1f} minutes."
    )
    say(f"\nThe report with pictures: {page.resolve()}", style="bold")


def _fused(data: Path) -> dict[str, list[Row]]:
    """Scores of fusions that are shown the test images' own masks, as MrPrism's fusion is."""
    from mrprism.datasets import open_dataset
    from mrprism.fusion.cases import fuse_cases
    from mrprism.metrics.scores import score

    dataset = open_dataset(data)
    test = dataset.subset([name for name, split in dataset.splits.items() if split == "test"])
    wanted = {"metrics": ("dice", "soft_dice", "ece"), "targets": ("reference", "mean of raters")}
    return {
        name: [
            row
            for case, prediction in zip(test, fuse_cases(test, fusion, pooled=pooled), strict=True)
            for row in score(prediction, case, test.task, reads="masks", **wanted)
        ]
        for name, (fusion, pooled) in FUSIONS.items()
    }


def _table(tables: Mapping[str, list[Row]], fused: Mapping[str, list[Row]]) -> Table:
    """Methods and recurrences down, what was measured across."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mrprism.metrics.scores import FINAL, summarise

    table = Table(box=SIMPLE_HEAD)
    table.add_column("on test images", no_wrap=True)
    for heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)

    def add(label: str, rows: Sequence[Row]) -> None:
        means = {(s.structure, s.target, s.metric): s.mean for s in summarise(rows)}
        table.add_row(label, *(f"{100 * means[key]:.1f}" for key in COLUMNS.values()))

    for name, rows in tables.items():
        seen = [row for row in rows if row.reads == "image"]
        steps = sorted({row.recurrence for row in seen} - {FINAL})
        for step in steps or [FINAL]:
            label = NAMES[name] if step == FINAL else f"{NAMES[name]} {step}"
            add(label, [row for row in seen if row.recurrence == step])
    table.add_section()
    table.add_row(Text("given the raters' masks:", style="italic"))
    for label, rows in fused.items():
        add(f"  {label}", rows)
    add("  MrPrism", [row for row in tables["mrprism"] if row.reads == "both"])
    return table


def _trust(rows: Sequence[Row]) -> str:
    """Whom MrPrism trusts, the most trusted first."""
    from mrprism.metrics.scores import RATER, summarise

    trust: dict[str, list[float]] = {}
    for summary in summarise(rows):
        if summary.metric == "confidence":
            trust.setdefault(summary.target.removeprefix(RATER), []).append(summary.mean)
    means = {rater: sum(values) / len(values) for rater, values in trust.items()}
    ranked = sorted(means, key=lambda rater: -means[rater])
    listed = ", ".join(f"{rater} {means[rater]:.2f}" for rater in ranked)
    return f"Whom MrPrism trusts (rater1 and rater2 are the good ones): {listed}."
