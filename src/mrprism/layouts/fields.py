"""What stands in other people's JSON: each thing asked for by name, and a sentence where it is not there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from mrprism.core.errors import InputError

_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_SHOWN = 60  # letters of a value in a sentence
Value = TypeVar("Value")


def shown(value: Any) -> str:
    """A value as it can stand in a sentence."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def of_kind(value: Any, kind: type[Value], what: str) -> Value:
    """The value, if it is of this kind; a float may be written without a point, true and false are no numbers.

    Raises:
        InputError: ``what`` is of another kind.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)  # type: ignore[return-value]
        except OverflowError:
            raise InputError(f"{what} is {shown(value)}; expected a number of a sensible size") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{what} is {shown(value)}; expected {_WORDS[kind]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{what} is {value}; expected a finite number")
    return value


def entry(of: Any, key: str, kind: type[Value], where: str) -> Value:
    """What an object has under a key.

    Args:
        where: Which object, and in which file, for the sentence.

    Raises:
        InputError: It is no object, has no such key, or has something of another kind there.
    """
    if key not in of_kind(of, dict, where):
        raise InputError(f"{where} has no '{key}'; it has {', '.join(map(str, of)) or 'nothing'}")
    return of_kind(of[key], kind, f"'{key}' of {where}")


def number(of: Any, key: str, where: str, default: float | None = None) -> float:
    """A number under a key; of a text that reads as one, the number."""
    if default is not None and (not isinstance(of, dict) or of.get(key) is None):
        return default
    return entry(of, key, float, where)


def whole(of: Any, key: str, where: str) -> int:
    """A whole number under a key, which may be written as 12.0."""
    value = entry(of, key, float, where)
    if value != int(value):
        raise InputError(f"'{key}' of {where} is {value:g}; expected a whole number")
    return int(value)


def name_of(value: Any, what: str) -> str:
    """A name: a text, or a number that stands for one.

    Raises:
        InputError: It is something else, or blank.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise InputError(f"{what} is {shown(value)}; expected a name")
    return str(value)


class Ids(dict[Any, Value]):
    """Somebody else's ids: a second, other value for one is refused, and so is one that was never listed."""

    def __init__(self, what: str, file: object) -> None:
        """
        Args:
            what: What the ids are of, such as "picture".
        """
        super().__init__()
        self.what, self.file = what, file

    def add(self, key: Any, value: Value) -> Value:
        """Remember what an id stands for, and give it back.

        Raises:
            InputError: It stands for something else already, or is no number or text.
        """
        if not isinstance(key, str | int | float) or isinstance(key, bool):  # true is no 1
            raise InputError(
                f"'{self.file}' has a {self.what} with the id {shown(key)}; expected a number or a text"
            )
        if key in self and self[key] != value:
            raise InputError(
                f"'{self.file}' says two things of the {self.what} with the id {shown(key)}: {shown(self[key])} and {shown(value)}; "
                "expected each id once"
            )
        self[key] = value
        return value

    def find(self, key: Any, where: str) -> Value:
        """What an id stands for.

        Raises:
            InputError: The file does not list it.
        """
        if not isinstance(key, str | int | float) or isinstance(key, bool) or key not in self:
            raise InputError(f"{where} names the {self.what} {shown(key)}, which '{self.file}' does not list")
        return self[key]


def pairs(values: Sequence[Any], what: str) -> list[tuple[float, float]]:
    """Points, each of two numbers.

    Raises:
        InputError: One is something else.
    """
    points = []
    for point in of_kind(values, list, what):  # type: ignore[type-abstract,var-annotated]
        if not isinstance(point, list) or len(point) != 2:
            raise InputError(f"{what} hold {shown(point)}; expected pairs of numbers")
        points.append((of_kind(point[0], float, what), of_kind(point[1], float, what)))
    return points
