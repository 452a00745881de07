"""mrprism import"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample


def run(
    kind: Annotated[str, typer.Argument(help="Which layout SRC has; `mrprism import list` lists them.")],
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
) -> None:
    """Turn a published data set or a tool's export into a mrprism data set.

    Who drew what is kept: a mask that is not there is missing, a mask that is all zero was looked at
    and left empty. Nothing is resized or guessed; what does not fit stops the import with a sentence
    and leaves nothing behind. A killed import is simply started again.

    Where nothing need be converted, `dataset.json` as OUT, in the folder of the data set or above it,
    leaves images and masks where they are and only writes down what is whose (`mrprism.json`, where a
    tool's own dataset.json lies there).

    Examples:

        mrprism import lidc lidc.npz lidc/

        mrprism import bu-bil BU-BIL/ cells/ --set 1 --raters crowd

        mrprism import drishti Drishti-GS1/ fundus/ --raters crowd --seed 0

        mrprism import list
    """
    from mrprism.datasets import write_dataset
    from mrprism.layouts import DATASETS
    from mrprism.layouts.in_place import write_in_place

    if kind == "list":
        for key, reader in DATASETS.items():
            print(f"{key:<16}{_first(sys.modules[reader.__module__].__doc__)}")
            known = _options(reader)
            if known:
                print(f"{'':<16}options: {', '.join(known)}")
        return
    if kind not in DATASETS:
        raise InputError(f"unknown layout '{kind}'; known: {', '.join(DATASETS)}")
    if src is None or out is None:
        raise InputError("where to? expected mrprism import KIND SRC OUT")
    if not src.exists():
        raise InputError(f"'{src}' does not exist; expected a data set of the layout '{kind}'")
    given: dict[str, str | int] = dict(_pair(text) for text in option or [])
    short: dict[str, str | int | None] = {
        "set": set_,
        "raters": raters,
        "seed": seed,
        "resample": "yes" if resample else None,
    }
    given.update({key: value for key, value in short.items() if value is not None})
    source = DATASETS[kind](src, **_converted(kind, DATASETS[kind], given))
    if out.suffix.lower() == ".json" and given.get("resample") == "yes":
        raise InputError(f"masks brought onto another grid are new files, so '{out}' should be a new folder")
    if out.suffix.lower() == ".json":
        write_in_place(source, out, name=name or source.name)
    else:
        write_dataset(
            _counted(source.samples),
            out,
            name=name or source.name,
            task=source.task,
            channels=source.channels,
            image_format=source.image_format,  # type: ignore[arg-type]
            description="\n".join(source.notes) or None,
        )
    for note in source.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"wrote '{out}'; look at it with: mrprism check {out}")


def _options(reader: Any) -> dict[str, Any]:
    parameters = inspect.signature(reader).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"option '{text}' is not understood; expected NAME=VALUE")
    return key, value


def _converted(kind: str, reader: Any, given: dict[str, Any]) -> dict[str, Any]:
    known = _options(reader)
    for key in given:
        if key not in known:
            raise InputError(f"{kind} has no option '{key}'; known: {', '.join(known) or 'none'}")
    try:
        return {k: int(v) if isinstance(known[k], int) else v for k, v in given.items()}
    except ValueError:
        raise InputError(f"an option of {kind} expects a whole number; given {given}") from None


def _counted(samples: Iterable[MultiRaterSample]) -> Iterator[MultiRaterSample]:
    loud = sys.stderr.isatty()
    for number, sample in enumerate(samples, 1):
        yield sample
        if loud:
            print(f"\r{number} cases", end="", file=sys.stderr, flush=True)
    if loud:
        print(file=sys.stderr)


def _first(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]
