"""The arguments and options of a verb, as its function `run` declares them.

The parser reads the same declarations; who else needs them (settings in a file, the page of commands) asks here, and not
the parser, whose insides change from version to version.
"""

from __future__ import annotations

import importlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal

from typer.models import ArgumentInfo, OptionInfo


@dataclass(frozen=True)
class Offered:
    """One argument or option of a verb."""

    name: str  # of the parameter
    spoken: str  # as it is typed: "--out"; of an argument the word that help shows
    off: str | None  # what turns it off: "--no-distances"
    argument: bool
    kind: type  # of one value: str, int, float, bool, Path
    choices: tuple[str, ...]
    many: bool  # may be given several times
    required: bool
    default: Any
    help: str


def offered(run: Callable[..., Any]) -> list[Offered]:
    """What a verb's function takes, in its own order."""
    hints = typing.get_type_hints(run, include_extras=True)
    return [
        _offered(name, hints[name], parameter.default)
        for name, parameter in signature(run).parameters.items()
    ]


def typed() -> set[str]:
    """Names of the parameters that stand on the command line, said or not what they are by default."""
    parser = importlib.import_module("typer.main")  # which has a parser of its own, or that of click
    get = getattr(parser, "get_current_context", None) or importlib.import_module("click").get_current_context
    context = get()
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _offered(name: str, hint: Any, default: Any) -> Offered:
    annotation, info = typing.get_args(hint)[:2]
    if not isinstance(info, OptionInfo | ArgumentInfo):
        raise TypeError(f"parameter '{name}' is neither typer.Option nor typer.Argument")
    inner, many, choices = _kind(annotation)
    argument = isinstance(info, ArgumentInfo)
    spoken, off = _spoken(name, info, inner)
    return Offered(
        name=name,
        spoken=(info.metavar or name.upper()) if argument else spoken,
        off=None if argument else off,
        argument=argument,
        kind=inner,
        choices=choices,
        many=many,
        required=default is Parameter.empty,
        default=None if default is Parameter.empty else default,
        help=info.help or "",
    )


def _kind(annotation: Any) -> tuple[type, bool, tuple[str, ...]]:
    """The type of one value, whether there may be several, and what is allowed."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = [each for each in typing.get_args(annotation) if each is not type(None)]
    many = typing.get_origin(annotation) is list
    if many:
        (annotation,) = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return str, many, tuple(str(choice) for choice in typing.get_args(annotation))
    if annotation not in (str, int, float, bool, Path):
        raise TypeError(f"no option is a {annotation}")
    return annotation, many, ()


def _spoken(name: str, info: OptionInfo | ArgumentInfo, kind: type) -> tuple[str, str | None]:
    words = [
        info.default,
        *(info.param_decls or ()),
    ]  # inside Annotated the first word stands where a default would
    given = [word for word in words if isinstance(word, str) and word.startswith("--")]
    dashed = name.replace("_", "-")
    if given:
        on, _, off = given[0].partition("/")
        return on, off or None
    return f"--{dashed}", f"--no-{dashed}" if kind is bool else None
