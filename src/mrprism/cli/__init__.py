"""The program `mrprism`: one file a verb, each with one function ``run`` that Typer reads.

A verb's module is imported only when that verb is called, so `mrprism --help` and the half that
needs no torch start fast.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mrprism.core.errors import InputError, Terminated, unknown
from mrprism.output.ends import end_of
from mrprism.output.terminal import guarded, one_line

VERBS = {  # verb: (module, what it does)
    "demo": ("demo", "Train on drawn images with seven raters who disagree, and write a report."),
    "phantom": ("phantom", "Draw images whose truth is known, outlined by simulated raters."),
    "import": ("import_", "Turn a folder, a published data set or a tool's export into a mrprism data set."),
    "check": ("check", "List everything that is wrong with a data set, and show what is in it."),
    "agree": ("agree", "Measure how much the raters differ: statistics, tables and a page with pictures."),
    "fuse": ("fuse", "Make one mask from several raters' masks, and say how good each rater is."),
    "plan": ("plan", "Measure a data set, and write down with reasons how to learn from it."),
    "train": ("train", "Train a method on a data set. The result is a run folder."),
    "evaluate": ("evaluate", "Score a run on its test cases."),
    "predict": ("predict", "Outline new images with a run."),
    "compare": ("compare", "Train several methods on the same data and compare them in tables."),
    "study": ("study", "Check, agree, fuse, compare and report in one go, as one file says."),
    "report": ("report", "Write one HTML page about runs, or about a study."),
    "view": ("view", "Look at cases, outlines and predictions in the browser, and settle cases."),
    "export": ("export", "Write masks for other tools, or a trained model for other programs."),
}


def main() -> None:
    """Entry point of `mrprism`."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command line and return its exit code, as docs/reference/exit-codes.md lists them.

    0: done; 1: done, with warnings or in part; 2: something given is wrong; 70: a fault of mrprism; 130: stopped by
    Ctrl-C; 141: nobody reads what is printed; 143: stopped by SIGTERM, or because the terminal was closed.
    """
    with _asked_to_end():
        try:
            return _call(arguments)
        except BrokenPipeError:  # as behind `| head`
            _let_go_of_output()
            return 141
        except BaseException as error:
            sentence, code = end_of(error)
            _say(sentence)
            return code


def _call(arguments: list[str]) -> int:
    if "_MRPRISM_COMPLETE" in os.environ:  # the shell asks what could stand at the cursor
        from mrprism.cli.completion import answer

        return answer(VERBS)
    if arguments and arguments[0] in ("--install-completion", "--show-completion"):
        from mrprism.cli.completion import script

        return script(VERBS, arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        from mrprism import __version__

        print(f"mrprism {__version__}")
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        return _fail(str(unknown("command", verb, VERBS)))
    if empty := [at for at, given in enumerate(arguments) if not given or re.fullmatch("--[a-z-]+=", given)]:
        before = (
            arguments[empty[0]].rstrip("=") or arguments[empty[0] - 1]
        )  # an empty path is the folder one is in
        raise InputError(f"nothing is given after '{before}'; is a variable of your shell not set?")
    try:
        run: Callable[..., Any] = importlib.import_module(f"mrprism.cli.{VERBS[verb][0]}").run
        words = arguments[1:]
        if any(word.startswith("--config") for word in words):
            from mrprism.cli.config import with_settings

            words = with_settings(verb, run, words, list(VERBS))
        code = _typer(verb, run, words)
        sys.stdout.flush()  # while somebody listens to what goes wrong with it
        return code
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "mrprism":
            return _fail(f"'{verb}' is not part of this version")
        return _fail(
            f"'{verb}' needs the package '{error.name}': install it with pip install '{_extra(error.name)}'"
        )


@contextmanager
def _asked_to_end() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, stop a command as Ctrl-C does: it cleans up first."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours: list[int] = []

    def end(number: int, frame: object) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)  # once is enough: the next would come while it cleans up
        ours.clear()
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        ours += [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _typer(verb: str, run: Callable[..., Any], arguments: list[str]) -> int:
    import typer

    stopped: list[BaseException] = []

    @functools.wraps(run)
    def guarded_run(*given: Any, **options: Any) -> Any:
        try:
            with guarded():
                code = run(*given, **options)
                _keep(verb, run, options)
                return code
        except (KeyboardInterrupt, OSError) as error:  # of which the parser would make codes of its own
            stopped.append(error)
            return None

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command(
        verb,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=f"--config FILE.toml takes options from the table [{verb}] of a file; what you type counts more.",
    )(guarded_run)
    try:
        result = app(arguments, prog_name=f"mrprism {verb}", standalone_mode=False)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the command line parser
            return _fail(f"{_plain(error.format_message())} (see mrprism {verb} --help)")
        raise
    if stopped:
        raise stopped[0]
    return result if isinstance(result, int) else 0


def _keep(verb: str, run: Callable[..., Any], values: dict[str, Any]) -> None:
    """Write what the command was told beside what it made, in the form that `--config` reads."""
    from mrprism.cli.config import KEPT

    if verb in KEPT and os.environ.get("RANK", "0") == "0":  # one of several processes is enough
        from mrprism.cli.config import kept
        from mrprism.output.commands import wrote_settings
        from mrprism.output.files import write_file

        written = kept(verb, run, values)
        if written is not None and (not written[0].exists() or wrote_settings(verb, written[0])):
            write_file(*written)


_WORDS = (  # what the parser of options says, and what people say
    ("Value error, ", ""),
    (", unable to parse string as a number", ""),
    (", unable to parse string as an integer", ""),
    ("Input should be a valid number", "expected a number"),
    ("Input should be a valid integer", "expected a whole number"),
    ("Input should be greater than or equal to", "expected at least"),
    ("Input should be less than or equal to", "expected at most"),
    ("Input should be", "expected"),
)


def _plain(sentence: str) -> str:
    for said, plain in _WORDS:
        sentence = sentence.replace(said, plain)
    return sentence


def _fail(sentence: str) -> int:
    _say(sentence)
    return 2


def _say(sentence: str) -> None:
    with suppress(OSError), guarded():  # a terminal that was closed
        print(f"mrprism: {one_line(sentence)}", file=sys.stderr)


def _let_go_of_output() -> None:
    """What is still in the buffer of standard output has nowhere to go, which Python would complain of at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


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
            "usage: mrprism COMMAND [...]   (mrprism COMMAND --help explains a command)",
            "",
            *lines,
            "",
            "  --config FILE.toml     for any command: read its options from a file, from the table of its name",
            "  --install-completion   let the Tab key complete commands, options and names in your shell",
            "  --version              print the version",
        ]
    )
