"""An agreement as a folder: tables, JSON and the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mrprism.agreement.cases import Cases
from mrprism.agreement.page import page
from mrprism.agreement.result import TABLES, Agreement, Row, about, rows_of, spread_row
from mrprism.agreement.spread import Spread
from mrprism.output.commands import SETTINGS, wrote_settings
from mrprism.output.files import replacing, write_file
from mrprism.output.folders import complete_set
from mrprism.output.lock import alone_in
from mrprism.output.tables import dict_lines

PAGE, NUMBERS = "agreement.html", "agreement.json"


def report(agreement: Agreement, candidates: Sequence[Spread] = ()) -> Row:
    """Everything that is written as JSON: `Agreement.to_json`, with the candidates' tests put first."""
    found = agreement.to_json()
    tests = [spread_row(spread) for spread in candidates]
    found["tables"]["spread"] = tests + found["tables"]["spread"]
    return found


def numbers(agreement: Agreement, candidates: Sequence[Spread] = ()) -> Iterator[str]:
    """`report` as JSON text, a piece after the other, for its tables may be longer than fits in memory twice."""
    yield json.dumps(about(agreement), ensure_ascii=False, indent=1).rstrip("\n}") + ',\n "tables": {'
    for place, table in enumerate(TABLES):
        yield f'{"," if place else ""}\n  "{table}": ['
        for row, values in enumerate(_rows(agreement, table, candidates)):
            yield f"{',' if row else ''}\n   {json.dumps(values, ensure_ascii=False, allow_nan=False)}"
        yield "]"
    yield "}\n}\n"


def _rows(agreement: Agreement, table: str, candidates: Sequence[Spread]) -> Iterator[Row]:
    if table == "spread":
        yield from map(spread_row, candidates)
    yield from rows_of(agreement, table)


@alone_in("folder")
def write_agreement(
    agreement: Agreement,
    dataset: Cases,
    folder: str | Path,
    *,
    candidates: Sequence[Spread] = (),
    pictures: int = 6,
) -> Path:
    """Write `agreement.html`, `agreement.json` and one CSV a table; tables without rows are left out.

    They take the places of an older agreement's all together; a folder without `agreement.json` holds none.

    Args:
        agreement: What `agree` found.
        dataset: The same data set, read again for the pictures.
        folder: Made if it is not there.
        candidates: Models tested with `within_spread`.
        pictures: How many of the cases people most disagree on are shown.

    Returns:
        The page.
    """
    folder = Path(folder)
    tables = [name for name in TABLES if next(_rows(agreement, name, candidates), None) is not None]
    names = [f"{name}.csv" for name in tables]
    html = page(agreement, dataset, candidates=candidates, pictures=pictures, tables=[NUMBERS, *names])
    older = [PAGE, NUMBERS, *(f"{name}.csv" for name in TABLES)]
    if (folder / NUMBERS).is_file() and wrote_settings("agree", folder / SETTINGS):
        older.append(SETTINGS)  # goes with the agreement that it made
    with complete_set(folder, "agreement", older, last=(NUMBERS, PAGE)) as new:
        _write(new / NUMBERS, numbers(agreement, candidates))
        for name in tables:
            _write(new / f"{name}.csv", dict_lines(_rows(agreement, name, candidates)))
        write_file(new / PAGE, html, durable=False)
    return folder / PAGE


def _write(path: Path, pieces: Iterable[str]) -> None:
    with replacing(path, durable=False) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8", "backslashreplace"))
