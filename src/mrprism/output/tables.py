"""CSV files: numbers as numbers, and no name that a spreadsheet would take for a formula.

A cell that begins with = + - or @ is calculated by spreadsheets, and may there call other programs or send the table to an
address. Names come from other people's files, so such a cell gets an apostrophe in front, which `as_meant` takes off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

# after a tab, a new line or blanks as well; the wide signs are those of Chinese and Japanese keyboards
_FORMULA = re.compile("'*[\\s\x00]*[=+\\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE | re.ASCII)

Cell = str | int | float | bool | None


def to_csv(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table as a CSV file; None is an empty cell, a NaN written as `nan`."""
    lines = [_line([plain(name) for name in head])]
    lines += [_line([plain(cell) if isinstance(cell, str) else cell for cell in row]) for row in rows]
    return "".join(lines)


def _line(cells: Sequence[Cell]) -> str:
    """One line of the file; csv quotes a carriage return only where it ends lines."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()[:-2] + "\n"


def dicts_to_csv(rows: Iterable[Mapping[str, Cell]]) -> str:
    """Rows that all have the keys of the first one, which become the first line. No rows: nothing."""
    return "".join(dict_lines(rows))


def dict_lines(rows: Iterable[Mapping[str, Cell]]) -> Iterator[str]:
    """`dicts_to_csv` line by line, for tables that are too long to be held."""
    names: list[str] = []
    for row in rows:
        if not names:
            names = list(row)
            yield to_csv(names, [])
        yield _line(
            [plain(cell) if isinstance(cell, str) else cell for cell in (row[name] for name in names)]
        )


def plain(text: str) -> str:
    """A text as no spreadsheet calculates it; numbers, however they are written, stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def as_meant(cell: str) -> str:
    """What `plain` was given, of a cell that was read."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
