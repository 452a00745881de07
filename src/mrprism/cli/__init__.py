"""The program `mrprism`: one file a verb, each with one function ``run`` that Typer reads.

A verb's module is imported only when that verb is called, so `mrprism --help` and the half that
needs no torch start fast.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

VERBS = {  # verb: (module, what it does)
    "demo": ("demo", "Train MrPrism on drawn images with seven disagreeing raters and open the report."),
    "phantom": ("phantom", "Draw a data set of fundus-like images outlined by simulated raters."),
    "import": ("import_", "Turn a published data set or a tool's export into a mrprism data set."),
    "check": ("check", "Say all that is wrong with a data set at once, and show what is in it."),
    "agree": ("agree", "Measure how much the raters differ: statistics, tables and a page with pictures."),
    "fuse": ("fuse", "Fuse the raters' masks into one consensus and rate the raters."),
    "train": ("train", "Train a method on a data set into a run folder."),
    "evaluate": ("evaluate", "Score a run on its test cases."),
    "predict": ("predict", "Outline new images with a run."),
    "compare": ("compare", "Train several methods on the same data and budget and tabulate them."),
    "report": ("report", "Write one self-contained HTML page about runs."),
    "view": ("view", "Look at cases, outlines and predictions in the browser."),
    "export": ("export", "Hand masks on to other tools, or a run's network as ONNX."),
}


def main() -> None:
    """Entry point of `mrprism`."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 0 done, 2 bad input, 130 interrupted."""
    from mrprism.core.errors import InputError

    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        from mrprism import __version__

        print(f"mrprism {__version__}")
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        return _fail(f"unknown command '{verb}'; known: {', '.join(VERBS)}")
    try:
        run: Callable[..., Any] = importlib.import_module(f"mrprism.cli.{VERBS[verb][0]}").run
        return _typer(verb, run, arguments[1:])
    except InputError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "mrprism":
            return _fail(f"'{verb}' is not part of this version")
        return _fail(
            f"'{verb}' needs the package '{error.name}': install it with pip install '{_extra(error.name)}'"
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        return _fail(f"out of memory: {error or 'the input is too large for this machine'}")
    except OSError as error:
        return _fail(_refused(error))


def _typer(verb: str, run: Callable[..., Any], arguments: list[str]) -> int:
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command(verb, context_settings={"help_option_names": ["-h", "--help"]})(run)
    try:
        result = app(arguments, prog_name=f"mrprism {verb}", standalone_mode=False)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the command line parser
            return _fail(f"{error.format_message()} (see mrprism {verb} --help)")
        raise
    return result if isinstance(result, int) else 0


def _refused(error: OSError) -> str:
    """What the operating system would not do: permission denied, disk full, read error, ..."""
    why = error.strerror or str(error)
    return f"'{error.filename}': {why[:1].lower()}{why[1:]}" if error.filename else why


def _fail(sentence: str) -> int:
    print(f"mrprism: {sentence}", file=sys.stderr)
    return 2


def _extra(package: str | None) -> str:
    top = (package or "").split(".")[0]
    extras = {
        "fastapi": "view",
        "uvicorn": "view",
        "highdicom": "dicom",
        "pydicom": "dicom",
        "SimpleITK": "itk",
        "ray": "cluster",
        "onnx": "export",
        "onnxruntime": "export",
        "onnxscript": "export",
    }
    return f"mrprism[{extras.get(top, 'learn')}]"


def _overview() -> str:
    lines = [f"  {verb:<10}{text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "mrprism: see, fuse, learn from and compare several raters' outlines of the same images",
            "",
            "usage: mrprism COMMAND [...]   (mrprism COMMAND --help tells more)",
            "",
            *lines,
        ]
    )
