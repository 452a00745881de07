"""Completion in the shell: `mrprism --install-completion`, and the names that options may take.

Typer writes the shell's part and answers it. For an answer only the verb under the cursor is imported, so that
it comes at once, and `mrprism --help` never comes here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from typing import Any

from mrprism.core.errors import unknown

ASKED = "_MRPRISM_COMPLETE"  # set by the shell's part, with what it wants
PROTOCOLS = ("lidc-v1", "lidc-matting")  # once more than where they are made, for making them takes seconds
OPTIONS = ("--install-completion", "--show-completion")
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def answer(verbs: dict[str, tuple[str, str]]) -> int:
    """Print what could stand at the cursor, which the shell tells in its environment."""
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()
    app = _app(verbs, words[1] if len(words) > 1 else "")
    return _run(app, [])


def script(verbs: dict[str, tuple[str, str]], arguments: list[str]) -> int:
    """Print the shell's part, or put it where the shell reads it.

    Raises:
        InputError: Such a shell is not known.
    """
    if len(arguments) > 1 and arguments[1] not in SHELLS:
        raise unknown("shell", arguments[1], SHELLS)
    if len(arguments) > 1:
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # the shell was named
    return _run(_app(verbs, ""), arguments)


def _app(verbs: dict[str, tuple[str, str]], wanted: str) -> Any:
    import typer

    app = typer.Typer(add_completion=True, pretty_exceptions_enable=False)
    for verb, (module, text) in verbs.items():
        run = importlib.import_module(f"mrprism.cli.{module}").run if verb == wanted else _nothing
        app.command(verb, help=text)(run)
    return app


def _nothing() -> None:
    """Stands for a verb that is not asked for."""


def _run(app: Any, arguments: list[str]) -> int:
    try:
        app(arguments, prog_name="mrprism")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _kinds() -> Iterable[str]:
    from mrprism.layouts.readers import DATASETS

    return ["list", *DATASETS]


def _methods() -> Iterable[str]:
    from mrprism.learn.methods import METHODS

    return METHODS


def _fusions() -> Iterable[str]:
    from mrprism.fusion import FUSIONS

    return FUSIONS


def _targets() -> Iterable[str]:
    from mrprism.layouts.writers import TARGETS

    return [*TARGETS, "onnx", "hf"]


def _scenarios() -> Iterable[str]:
    from mrprism.datasets.raters import SCENARIOS

    return SCENARIOS


kinds, methods, fusions = _of(_kinds), _of(_methods), _of(_fusions)
targets, scenarios = _of(_targets), _of(_scenarios)
masks_of = _of(lambda: ["each", "decisions", *_fusions()])
compared = _of(lambda: ["table1", "table2", "table3", "table4", "distributions", "all", *_methods()])
protocols = _of(lambda: PROTOCOLS)
backbones = _of(lambda: ["small", "resnet18", "resnet34"])
