"""No cell of a CSV file is a formula, numbers stay numbers, and what is read is what was written."""

from __future__ import annotations

import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrprism.output.tables import as_meant, dicts_to_csv, plain, to_csv

FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1", "\n=1", " =1", "\0=1", "＝1+1", "＋1", "－1", "＠a",
    '=HYPERLINK("http://a.b")', "-", "--", "=", "+49 30 1", "-5%", "-1,5", "+a", "'=1", "''=1", "\tname", "\u00a0=1", "-0x1", "-1e5-",
]  # fmt: skip
NUMBERS = ["-1", "+1", "-1.5", "-.5", "1e-05", "-1e+300", "-inf", "nan", "-0", "+3."]
NAMES = [
    "ann",
    "O'Brien",
    "'quoted'",
    "a=b",
    "a-b",
    "1-2",
    "",
    "'",
    "x@y.z",
    "5",
    "'5",
    "'-5x".replace("-", "_"),
]


@pytest.mark.parametrize("text", FORMULAS, ids=repr)
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    rows = list(csv.reader(io.StringIO(to_csv(["a"], [[text]]), newline="")))
    assert rows == [["a"], [f"'{text}"]]
    assert plain(text) == f"'{text}"
    assert as_meant(plain(text)) == text


@pytest.mark.parametrize("text", [*NUMBERS, *NAMES], ids=repr)
def test_numbers_and_names_stay(text: str) -> None:
    assert plain(text) == text
    assert as_meant(text) == text


@given(st.text(alphabet="='+-@\t\r\n 1.eainf－x") | st.text())
def test_what_is_read_is_what_was_written(text: str) -> None:
    assert as_meant(plain(text)) == text
    first = plain(text).lstrip(" \t\r\n\0\u00a0\u3000")[:1]
    try:
        float(text)
    except ValueError:
        assert first not in tuple("=@")


def test_a_table_by_hand() -> None:
    rows = [
        {"=name": "=1", "value": -0.25, "count": 3, "note": None},
        {"=name": "b", "value": math.nan, "count": 0, "note": "x\ny"},
    ]
    written = dicts_to_csv(rows)  # type: ignore[arg-type]
    assert written == "'=name,value,count,note\n'=1,-0.25,3,\nb,nan,0,\"x\ny\"\n"
    assert dicts_to_csv([]) == ""
