"""mrprism import"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mrprism.cli.completion import kinds
from mrprism.cli.many import Jobs, On
from mrprism.core.errors import InputError
from mrprism.core.workers import Workers
from mrprism.output.commands import command
from mrprism.output.counter import Counter
from mrprism.output.terminal import note, one_line


def run(
    kind: Annotated[
        str,
        typer.Argument(help="The layout of SRC; `mrprism import list` lists all.", autocompletion=kinds),
    ],
    src: Annotated[
        Path | None, typer.Argument(help="The folder (or file) as it was published or exported.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Argument(
            help="A new folder for the data set; or a dataset.json beside the files, if nothing should be copied."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="NAME=VALUE for this layout; give it several times if needed."),
    ] = None,
    set_: Annotated[str | None, typer.Option("--set", help="Short for -o set=...")] = None,
    raters: Annotated[str | None, typer.Option("--raters", help="Short for -o raters=...")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Short for -o seed=...")] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Bring masks that lie on another grid onto the grid of their image."),
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the data set.")] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="If a file or mark would be left out, refuse everything and write nothing."
        ),
    ] = False,
    jobs: Jobs = None,
    on: On = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, say what would be written, write nothing.")
    ] = False,
) -> None:
    """Turn a folder, a published data set or a tool's export into a mrprism data set.

    The import keeps who drew what. A mask that is not there is missing. A mask that is all zero is empty: somebody
    looked and marked nothing. Nothing is resized or guessed. What does not fit stops the import with one sentence, and
    nothing is written. If an import was killed, start it again.

    Every file and mark is read, or named with the reason why it was left out. `mrprism-import.json` in the data set
    keeps this list.

    If nothing has to be converted, OUT may be a `dataset.json` in the folder of the data set or above it. Then images
    and masks stay where they are, and only this file is written. (Call it `mrprism.json` if a tool's own dataset.json
    is there.)

    Examples:

        mrprism import lidc lidc.npz lidc/

        mrprism import bu-bil BU-BIL/ cells/ --set 1 --raters crowd

        mrprism import drishti Drishti-GS1/ fundus/ --raters crowd --seed 0

        mrprism import list
    """
    from mrprism.layouts import DATASETS
    from mrprism.layouts.importing import import_dataset, options_of
    from mrprism.layouts.readers import COMMON

    if kind == "list":
        for key in DATASETS:
            try:
                reader = DATASETS[key]
            except InputError as error:  # another package's, and at fault: the others are still listed
                print(f"{key:<16}{error}")
                continue
            from_package = f" (package '{DATASETS.package(key)}')" if DATASETS.package(key) else ""
            print(f"{key:<16}{_first(sys.modules[reader.__module__].__doc__)}{from_package}")
            known = [own for own in options_of(key) if own not in COMMON]
            if known:
                print(f"{'':<16}options: {', '.join(known)}")
        print("options of every layout:")
        for common, what in COMMON.items():
            print(f"{'':<16}{common}: {what}")
        return
    if kind in DATASETS and (src is None or (out is None and not dry_run)):
        raise InputError(
            "import needs a layout, a source and a place to write to: mrprism import KIND SRC OUT"
        )
    given: dict[str, str | int] = {}
    for key, value in map(_pair, option or []):
        if key in given:
            raise InputError(f"option '{key}' is given twice; expected it once")
        given[key] = value
    short: dict[str, str | int | None] = {
        "set": set_,
        "raters": raters,
        "seed": seed,
        "resample": "yes" if resample else None,
    }
    given.update({key: value for key, value in short.items() if value is not None})
    with Counter() as counter:
        done = import_dataset(
            kind,
            src or Path(),
            out,
            options=given,
            name=name,
            strict=strict,
            dry_run=dry_run,
            each=counter,
            workers=Workers(jobs, on),
        )
    for line in done.ledger.lines():
        print(one_line(line), file=sys.stderr)
    if done.out is None:
        left = len(done.ledger.left)
        what = f"{left} things left out" if left else "nothing left out"
        print(
            f"{done.cases} cases by {', '.join(done.source.task.raters) or 'no rater'} could be read, {what}; "
            "nothing was written"
        )
        return
    if done.source.pseudonyms:
        note(f"'{out}-raters.csv' says who is who; do not share this file")
    print(f"wrote '{out}'; look at it with: {command('check', done.out)}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"option '{text}' is not understood; expected NAME=VALUE")
    return key, value


def _first(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")
