"""An agreement as a folder: tables, JSON and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mrprism.agreement.cases import Cases
from mrprism.agreement.page import page
from mrprism.agreement.result import Agreement, Row, spread_row
from mrprism.agreement.spread import Spread
from mrprism.output.files import write_file
from mrprism.output.folders import complete_set
from mrprism.output.lock import alone_in
from mrprism.output.tables import dicts_to_csv

PAGE, NUMBERS = "agreement.html", "agreement.json"


def report(agreement: Agreement, candidates: Sequence[Spread] = ()) -> Row:
    """Everything that is written as JSON: `Agreement.to_json`, with the candidates' tests put first."""
    found = agreement.to_json()
    tests = [spread_row(spread) for spread in candidates]
    found["tables"]["spread"] = tests + found["tables"]["spread"]
    return found


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
    found = report(agreement, candidates)
    tables: dict[str, list[Row]] = {name: rows for name, rows in found["tables"].items() if rows}
    names = [f"{name}.csv" for name in tables]
    html = page(agreement, dataset, candidates=candidates, pictures=pictures, tables=[NUMBERS, *names])
    numbers = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False)
    older = [PAGE, NUMBERS, *(f"{name}.csv" for name in found["tables"])]
    with complete_set(folder, "agreement", older, last=(NUMBERS, PAGE)) as new:
        write_file(new / NUMBERS, numbers, durable=False)
        for name, rows in tables.items():
            write_file(new / f"{name}.csv", dicts_to_csv(rows), durable=False)
        write_file(new / PAGE, html, durable=False)
    return folder / PAGE
