"""mrprism import"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mrprism.cli.completion import kinds
from mrprism.core.errors import InputError
from mrprism.output.commands import command
from mrprism.output.terminal import note, one_line, same_line

_QUIET = 10  # seconds between two lines where no terminal is watched


def run(
    kind: Annotated[
        str,
        typer.Argument(help="Which layout SRC has; `mrprism import list` lists them.", autocompletion=kinds),
    ],
    src: Annotated[
        Path | None, typer.Argument(help="The folder (or file) as it was published or exported.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Argument(help="A new folder for the data set, or a dataset.json beside files that can stay."),
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
        typer.Option("--resample", help="Bring masks that lie on another grid onto that of their image."),
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the data set.")] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse the whole where a file or mark would be left out; write nothing."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, say what would come of it, write nothing.")
    ] = False,
) -> None:
    """Turn a published data set or a tool's export into a mrprism data set.

    Who drew what is kept: a mask that is not there is missing, a mask that is all zero was looked at
    and left empty. Nothing is resized or guessed; what does not fit stops the import with a sentence
    and leaves nothing behind. A killed import is simply started again.

    Every file and mark that was seen is read, or named with the reason why it was left out; all of it stands
    in `mrprism-import.json` beside the data set.

    Where nothing need be converted, `dataset.json` as OUT, in the folder of the data set or above it,
    leaves images and masks where they are and only writes down what is whose (`mrprism.json`, where a
    tool's own dataset.json lies there).

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
        raise InputError("where to? expected mrprism import KIND SRC OUT")
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
    with _Counter() as counter:
        done = import_dataset(
            kind, src or Path(), out, options=given, name=name, strict=strict, dry_run=dry_run, each=counter
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
        note(f"who is who stands in '{out}-raters.csv'; do not hand it on")
    print(f"wrote '{out}'; look at it with: {command('check', done.out)}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"option '{text}' is not understood; expected NAME=VALUE")
    return key, value


class _Counter:
    """Cases done, on standard error: a line that counts on a terminal, else one now and then."""

    def __init__(self) -> None:
        self.loud, self.shown, self.said = sys.stderr.isatty(), False, time.monotonic()

    def __enter__(self) -> _Counter:
        return self

    def __call__(self, done: int, count: int | None) -> None:
        text = f"{done} of {count} cases" if count else f"{done} cases"
        if not done:
            text = f"{count} files looked at"
            if self.loud and (count or 0) % 50:
                return
        if self.loud:
            same_line(f"{text:<30}")
            self.shown = True
        elif time.monotonic() - self.said > _QUIET:
            print(text, file=sys.stderr, flush=True)
            self.said = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self.shown:
            print(file=sys.stderr)


def _first(text: str | None) -> str:
    return next(iter((text or "").strip().splitlines()), "")
