"""Tables: lists of rows that print in a line and become data frames where pandas is there."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from html import escape
from typing import Any, TypeVar

from mrprism.core.brief import counted
from mrprism.core.errors import InputError

Row = TypeVar("Row")
SHOWN = 30  # rows in a notebook


class Rows(list[Row]):
    """Rows of one kind: dictionaries, named tuples or dataclasses."""

    @property
    def columns(self) -> list[str]:
        return list(as_dict(self[0])) if self else []

    def to_frame(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
            InputError: pandas is not installed.
        """
        return frame([as_dict(row) for row in self], self.columns)

    def __repr__(self) -> str:
        columns = f": {', '.join(self.columns)}" if self else ""
        return f"<{counted(len(self), 'row')}{columns}>"

    def _repr_html_(self) -> str:
        rows = [as_dict(row) for row in self[:SHOWN]]
        return html_table(self.columns, [list(row.values()) for row in rows], len(self))


def as_dict(row: Any) -> dict[str, Any]:
    """A row by its columns."""
    if isinstance(row, Mapping):
        return dict(row)
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    named: dict[str, Any] = row._asdict()
    return named


def frame(rows: list[dict[str, Any]], columns: list[str]) -> Any:
    """Rows as a `pandas.DataFrame`.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise InputError(
            "a data frame needs the package pandas: install it with pip install pandas"
        ) from None
    return pandas.DataFrame(rows, columns=columns)


def html_table(columns: list[str], rows: list[list[Any]], count: int) -> str:
    """A table for a notebook; every text is escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    more = f"<p>and {count - len(rows)} more; to_frame() has them all</p>" if count > len(rows) else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    return escape("" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value))
