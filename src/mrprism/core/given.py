"""What a caller from Python has given, looked at before anything is done with it: one sentence where it is of another kind.

The command line knows the kinds of its arguments; a call from a notebook does not, and the fault would show deep inside.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mrprism.core.errors import InputError


def path(value: Any, what: str) -> Path:
    """A path.

    Raises:
        InputError: It is something else; `what` says what was expected, such as "the path of a data set".
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"expected {what}; found {said(value)}")
    return Path(os.fspath(value))


def several(values: Any, what: str) -> list[Any]:
    """A list; one text, which Python would take for a list of letters, is refused.

    Raises:
        InputError: It is one thing only.
    """
    if isinstance(values, str | bytes | os.PathLike) or not isinstance(values, Iterable):
        hint = f": write [{values!r}]" if isinstance(values, str) else ""
        raise InputError(f"expected a list of {what}; found {said(values)}{hint}")
    return list(values)


def paths(values: Any, what: str) -> list[Path]:
    """A list of paths."""
    return [path(value, f"{what} in this list") for value in several(values, what)]


def whole(value: Any, what: str, least: int = 0) -> int:
    """A whole number.

    Raises:
        InputError: It is none, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{what} must be a whole number; found {said(value)}") from None
    if number < least:
        raise InputError(f"{what} must be {least} or more, not {number}")
    return number


def number(value: Any, what: str, least: float = 0.0) -> float:
    """A number that is not NaN.

    Raises:
        InputError: It is none, or less than `least`.
    """
    try:
        found = float(value)
        if isinstance(value, str) or not found >= least:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"{what} must be a number of {least:g} or more; found {said(value)}") from None
    return found


def one_of(value: Any, kind: type, what: str) -> Any:
    """A thing of this kind.

    Raises:
        InputError: It is of another.
    """
    if not isinstance(value, kind):
        raise InputError(f"expected {what}; found {said(value)}")
    return value


def said(value: Any) -> str:
    """What somebody gave, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text '{value[:60]}'"
    if isinstance(value, bool | int | float):
        return f"the number {value}"
    return f"something of the kind {type(value).__name__}"
