"""Settings of commands in a TOML file: read with `--config`, written back beside what a command made.

    [train]
    dataset = "fundus"
    out = "runs/prism"
    epochs = 40

    [train.option]
    recurrences = 4

A table has the name of a command, a key that of an option or argument. What is typed on the command line goes before what
stands in the file. Paths are relative to the folder of the file.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrprism.cli.options import Offered, offered
from mrprism.core.errors import InputError, unknown
from mrprism.output.commands import SETTINGS

FLAG = "--config"
KEPT = ("train", "agree", "fuse", "compare")  # commands that write their settings back
NOT_KEPT = ("jobs", "on")  # who did the work says nothing about what came of it
MOST_BYTES = 1 << 20


def with_settings(
    verb: str, run: Callable[..., Any], arguments: Sequence[str], verbs: Sequence[str]
) -> list[str]:
    """The command line with the settings of the file that `--config` names put in where nothing is typed.

    Raises:
        InputError: There is no such file, or it says something that the command does not know.
    """
    rest, files = _without_flag(arguments)
    if not files:
        return rest
    if len(files) > 1:
        raise InputError(f"{FLAG} is given twice; expected one file")
    file = Path(files[0])
    return rest if {"-h", "--help"} & set(rest) else filled(run, rest, table_of(file, verb, verbs), file)


def read_toml(file: Path) -> dict[str, Any]:
    """A file of settings.

    Raises:
        InputError: It is not there, or no TOML.
    """
    if file.is_dir():
        raise InputError(
            f"'{file}' is a folder; expected a file of settings, such as '{file / 'settings.toml'}'"
        )
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(f"'{file}' is larger than 1 MiB; expected a file of settings")
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"settings '{file}' cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"settings '{file}' are not TOML: {error}; expected tables such as [train] with lines such as epochs = 20"
        ) from error


def table_of(file: Path, verb: str, verbs: Sequence[str]) -> dict[str, Any]:
    """The table of one command in a file of settings; every other table has to be of a command, too.

    Raises:
        InputError: A table is of no command, or that of this command is missing.
    """
    found = read_toml(file)
    for name in found:
        if name not in verbs:
            raise InputError(f"settings '{file}': {unknown('command', name, verbs)}")
    if not isinstance(found.get(verb), dict):
        there = ", ".join(f"[{name}]" for name in found if isinstance(found[name], dict)) or "none"
        raise InputError(f"settings '{file}' have no table [{verb}]; tables there: {there}")
    return dict(found[verb])


def filled(run: Callable[..., Any], typed: Sequence[str], table: Mapping[str, Any], file: Path) -> list[str]:
    """A command line with what a table says where nothing was typed.

    Raises:
        InputError: The table has a key that the command does not know, or a value of another kind.
    """
    known = {option.name: option for option in offered(run)}
    given, positional = _typed(typed, list(known.values()))
    before: list[str] = []
    after: dict[str, list[str]] = {}  # in the order of the command, not of the file
    spoken = {_key(option): option for option in known.values()}
    for key, value in table.items():
        option = spoken.get(key.replace("-", "_"))
        if option is None:
            raise InputError(f"settings '{file}': {unknown('setting', key, spoken)}")
        words = _words(option, value, file)
        if option.argument and not positional:
            after[option.name] = words
        elif not option.argument and option.name not in given:
            before += words if option.kind is bool else [f"{option.spoken}={word}" for word in words]
    last = [word for name in known for word in after.get(name, ())]
    return [*before, *typed, *(["--", *last] if last and "--" not in typed else last)]


def kept(verb: str, run: Callable[..., Any], values: Mapping[str, Any]) -> tuple[Path, str] | None:
    """What a command was told, as a file of settings in the folder that it made; None: it keeps none.

    Paths are written relative to that folder.
    """
    out = values.get("out")
    if verb not in KEPT or not isinstance(out, Path) or values.get("resume") is not None:
        return None
    if values.get("masks"):  # mask files fused: a handful of files, and no study
        return None
    lines = [
        f"# mrprism {verb} {FLAG} {SETTINGS} does the same again; what is typed goes before what stands here.",
        f"[{verb}]",
    ]
    tables: list[str] = []
    for option in offered(run):
        value = values.get(option.name)
        if (
            value is None
            or value == []
            or (value is False and option.off is None)
            or option.name == "as_json"
            or (option.name in NOT_KEPT and verb != "compare")
        ):
            continue
        if option.kind is Path:
            value = [_relative(each, out) for each in value] if option.many else _relative(value, out)
        if option.many and option.kind is str:  # NAME=VALUE
            pairs = [str(each).partition("=") for each in value]
            tables += ["", f"[{verb}.{_key(option)}]", *(f"{_quoted(n)} = {_quoted(v)}" for n, _, v in pairs)]
        else:
            lines.append(f"{_key(option)} = {_toml(value)}")
    return out / SETTINGS, "\n".join([*lines, *tables]) + "\n"


def _key(option: Offered) -> str:
    """What an option is called in a file."""
    return option.name if option.argument else option.spoken.removeprefix("--").replace("-", "_")


def _without_flag(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    rest: list[str] = []
    files: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*rest, word, *words], files
        if word == FLAG:
            try:
                files.append(next(words))
            except StopIteration:
                raise InputError(f"{FLAG} needs a file of settings behind it, such as study.toml") from None
        elif word.startswith(f"{FLAG}="):
            files.append(word.partition("=")[2])
        else:
            rest.append(word)
    return rest, files


def _typed(words: Sequence[str], options: list[Offered]) -> tuple[set[str], bool]:
    """Names of the options that are typed, and whether any argument is."""
    by_word = {option.spoken: option for option in options if not option.argument}
    by_word |= {option.off: option for option in options if option.off}
    given: set[str] = set()
    positional = False
    rest: Iterator[str] = iter(words)
    for word in rest:
        if word == "--":
            return given, positional or any(True for _ in rest)
        name, equals, _ = word.partition("=")
        if name in by_word:
            given.add(by_word[name].name)
            if not equals and by_word[name].kind is not bool:
                next(rest, None)
        elif word.startswith("-o"):  # the one short option, of `import`
            given.add("option")
            if word == "-o":
                next(rest, None)
        elif not (word.startswith("-") and len(word) > 1):
            positional = True
    return given, positional


def _words(option: Offered, value: Any, file: Path) -> list[str]:
    """A value of a file as it would be typed."""
    here = f"settings '{file}': '{_key(option)}'"
    if option.many:
        if option.kind is str and isinstance(value, dict):
            return [f"{name}={_plain(each, here)}" for name, each in value.items()]
        values = value if isinstance(value, list) else [value]
        return [word for each in values for word in _words(replace(option, many=False), each, file)]
    if option.kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{here} is {value!r}; expected true or false")
        return [option.spoken] if value else [option.off] if option.off else []
    kinds: tuple[type, ...] = {int: (int,), float: (int, float), str: (str, int, float)}.get(
        option.kind, (str,)
    )
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = {int: "a whole number", float: "a number", str: "a text", Path: "a path as a text"}
        raise InputError(f"{here} is {value!r}; expected {names[option.kind]}")
    if option.choices and value not in option.choices:
        raise InputError(f"{here}: {unknown('value', value, option.choices)}")
    if option.kind is Path:
        if _no_path(str(value)):
            return [str(value)]
        if "\0" in str(value):
            raise InputError(f"{here} is not a path: it holds a zero byte")
        return [str(Path(os.path.normpath(file.parent / str(value))))]
    return [str(value)]


def _plain(value: Any, here: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise InputError(f"{here} has a value {value!r}; expected a text, a number, true or false")
    return str(value)


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder, so that both can move together; whole where they have nothing in common."""
    whole, place = os.path.abspath(path), os.path.abspath(folder)
    if _no_path(str(path)):
        return str(path)
    if Path(whole).parts[:2] != Path(place).parts[:2]:
        return whole
    return Path(os.path.relpath(whole, place)).as_posix()


def _no_path(text: str) -> bool:
    """Whether what may be a path is none: a model of a hub, or a plan that is made from the data."""
    return text.startswith("hf:") or text == "auto"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return repr(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
