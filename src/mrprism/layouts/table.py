"""CSV files of published data sets: odd encodings, Windows paths, and nothing that leaves the folder."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path, PurePosixPath

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.datasets.links import ALLOWED, leads_outside
from mrprism.images import limit_text


def read_table(
    path: Path, *columns: str, encodings: tuple[str, ...] = ("utf-8",), separator: str = ","
) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns; the first encoding that fits is used."""
    limit_text(path, plain_file(path).stat().st_size)
    raw = path.read_bytes()
    for encoding in encodings:
        try:
            text = raw.decode(encoding).removeprefix("\ufeff")
            break
        except UnicodeDecodeError:
            continue
    else:
        raise InputError(f"table '{path}' is not text in {' or '.join(encodings)}")
    try:
        return _rows(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator), path, columns)
    except csv.Error as error:
        raise InputError(f"'{path}' cannot be read as a table: {error}") from error


def _rows(reader: csv.DictReader[str], path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    missing = [name for name in columns if name not in (reader.fieldnames or [])]
    if missing:
        raise InputError(f"table '{path}' has no column '{missing[0]}'; it has {reader.fieldnames}")
    rows = []
    for row in reader:
        if any(row[name] is None for name in columns):
            raise InputError(f"table '{path}' is cut short in line {reader.line_num}")
        rows.append({key: value or "" for key, value in row.items() if key is not None})
    return rows


def inside(root: Path, text: str, table: Path) -> Path:
    """The file a table names, with either kind of slash, inside ``root``."""
    relative = PurePosixPath(text.strip().replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or set(text) & set(":\0"):
        raise InputError(f"table '{table}' names '{text}', which is not a path inside '{root}'")
    if target := leads_outside(root / relative, os.path.realpath(root)):
        raise InputError(f"'{root / relative}' is a link to '{target}', outside '{root}'; {ALLOWED}")
    return root / relative
