"""An agreement as a folder: tables, JSON and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mrprism.agreement.cases import Cases
from mrprism.agreement.page import page
from mrprism.agreement.result import Agreement, Row, spread_row, to_csv
from mrprism.agreement.spread import Spread
from mrprism.output.files import write_file

PAGE, NUMBERS = "agreement.html", "agreement.json"


def report(agreement: Agreement, candidates: Sequence[Spread] = ()) -> Row:
    """Everything that is written as JSON: `Agreement.to_json`, with the candidates' tests put first."""
    found = agreement.to_json()
    tests = [spread_row(spread) for spread in candidates]
    found["tables"]["spread"] = tests + found["tables"]["spread"]
    return found


def write_agreement(
    agreement: Agreement,
    dataset: Cases,
    folder: str | Path,
    *,
    candidates: Sequence[Spread] = (),
    pictures: int = 6,
) -> Path:
    """Write `agreement.html`, `agreement.json` and one CSV a table; tables without rows are left out.

    Each file appears whole or not at all, the page last.

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
    found = report(agreement, candidates)
    tables: dict[str, list[Row]] = {name: rows for name, rows in found["tables"].items() if rows}
    names = [f"{name}.csv" for name in tables]
    html = page(agreement, dataset, candidates=candidates, pictures=pictures, tables=[NUMBERS, *names])
    write_file(folder / NUMBERS, json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False).encode())
    for name, rows in tables.items():
        write_file(folder / f"{name}.csv", to_csv(rows).encode())
    write_file(folder / PAGE, html.encode())
    return folder / PAGE
