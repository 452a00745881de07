"""`mrprism agree`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrprism.cli.many import Jobs, On
from mrprism.output.counter import Counter

if TYPE_CHECKING:
    from mrprism.agreement import Agreement


def run(
    dataset: Annotated[Path, typer.Argument(help="The data set: its folder or its dataset.json.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    candidate: Annotated[
        list[Path] | None,
        typer.Option(
            help="A model's masks of the same cases: a folder (CASE/mask_STRUCTURE.png, as `mrprism predict` "
            "writes, or CASE_STRUCTURE.png), or a data set with one rater. May be given several times."
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0,
            help="How much lower a model's mean Dice may be and still count as within the readers' spread.",
        ),
    ] = 0.05,
    resamples: Annotated[
        int, typer.Option(min=0, help="How often the patients are resampled for the intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 0,
    pictures: Annotated[int, typer.Option(min=0, help="How many of the most disputed cases to show.")] = 6,
    distances: Annotated[
        bool,
        typer.Option("--distances/--no-distances", help="Compute HD95 as well; it takes most of the time."),
    ] = True,
    with_training_cases: Annotated[
        bool,
        typer.Option(
            "--with-training-cases", help="Test a model also on cases that it was trained or chosen on."
        ),
    ] = False,
    reference: Annotated[
        Literal["dataset", "decisions"] | None,
        typer.Option(
            help="Also compare each rater with the references: those of dataset.json, or what was settled in the viewer."
        ),
    ] = None,
    outline: Annotated[
        bool,
        typer.Option(
            "--outline", help="Also how far outside the others' outline each rater draws, and how steadily."
        ),
    ] = False,
    jobs: Jobs = None,
    on: On = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print what agreement.json holds.")] = False,
) -> None:
    """Measure how much the raters of a data set differ, and show it.

    It writes agreement.html (open it in a browser; it needs no other file), agreement.json, and a CSV for each table:

    - **overall**: Dice, HD95, Fleiss, Cohen, Gwet AC1, Krippendorff, ICC, consensus and disputed sizes
    - **pairs**: two raters, with Bland–Altman
    - **raters**: what each draws too much and too little, against the consensus of the others
    - **reference**: each rater against the references (with --reference)
    - **outlines**: how far outside the others' outline each draws (with --outline)
    - **spread**: is this reader, or this model, within the readers' spread?
    - **cases**: the most disputed first
    - **sizes**: what each rater measured on each case

    Intervals are 95 %, over patients. A rater who did not do a case is left out of it. A rater who drew nothing counts
    as empty. With anonymous raters, statistics of single persons are left out. Undefined values (0/0) are empty in
    CSV, null in JSON, and counted.

    Example: mrprism agree fundus --out fundus-agreement

    mrprism agree fundus --out fundus-agreement --candidate outlines

    mrprism agree fundus --out fundus-agreement --reference decisions
    """
    from mrprism.agreement.findings import answer, finding
    from mrprism.agreement.page import notes
    from mrprism.agreement.rereading import said
    from mrprism.agreement.write import PAGE, numbers
    from mrprism.cli.calls import agree

    with Counter() as counter:
        found = agree(
            dataset,
            out,
            candidates=candidate or (),
            seed=seed,
            resamples=resamples,
            margin=margin,
            distances=distances,
            pictures=pictures,
            with_training_cases=with_training_cases,
            reference=reference,
            outline=outline,
            jobs=jobs,
            on=on,
            each=counter,
        )
    tests = found.candidates
    if as_json:
        for piece in numbers(found, tests):
            print(piece, end="")
        return
    for sentence in (finding(found), answer(tests), *notes(found)):
        if sentence:
            print(sentence)
    _print_table(found)
    for part in found.again:
        print(f"\n{said(part)}.")
    if found.against:
        _print_against(found, "the decisions" if reference == "decisions" else "the references")
    if found.outlines:
        _print_outlines(found)
    print(f"\n{out / PAGE}")


def _print_against(found: Agreement, what: str) -> None:
    from rich.table import Table

    from mrprism.output.console import console

    table = Table("structure", "rater", "cases", "Dice", "too much", "left out", box=None, pad_edge=False)
    for row in found.against:
        shares = [
            "–" if row[key] is None else f"{100 * row[key]:.1f} %" for key in ("marked_too_much", "left_out")
        ]
        table.add_row(row["structure"], row["rater"], str(row["cases"]), f"{row['dice']:.3f}", *shares)
    out = console()
    out.print(f"\nEach rater against {what}:")
    out.print(table)


def _print_outlines(found: Agreement) -> None:
    from rich.table import Table

    from mrprism.output.console import console

    table = Table("structure", "rater", "cases", "draws", box=None, pad_edge=False)
    for row in found.outlines:
        table.add_row(row["structure"], row["rater"], str(row["cases"]), row["draws"])
    out = console()
    out.print("\nBeside the outline that the others show:")
    out.print(table)


def _print_table(found: Agreement) -> None:
    from rich.table import Table
    from rich.text import Text

    from mrprism.agreement.charts import figure
    from mrprism.output.console import console

    shown = {
        "dice": "Dice",
        "hd95": f"HD95 {found.distance_unit}",
        "fleiss_kappa": "Fleiss κ",
        "gwet_ac1": "AC1",
    }
    shown |= {"krippendorff_alpha": "α", "ICC1" if found.task.anonymous else "ICC2": "ICC"}
    table = Table("", "cases", *shown.values(), box=None, pad_edge=False)
    for part in found.structures:
        figures = [figure(part.overall[key], of=len(found.cases)) for key in shown]
        rests_on = part.overall["gwet_ac1"]
        patients = f"{rests_on.patients} patient{'s' if rests_on.patients != 1 else ''}"
        table.add_row(
            part.structure,
            Text.assemble(f"{rests_on.cases}\n", (patients, "dim")),
            *(
                Text.assemble(f"{f.value}\n", ("\n".join(filter(None, (f.interval, f.note))), "dim"))
                for f in figures
            ),
        )
    out = console()
    out.print()
    out.print(table)
