"""Names out of files reach the terminal as they would stand in JSON, and whatever the terminal can show."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.table import Table

import mrprism
from mrprism.output.console import console
from mrprism.output.terminal import guarded, note, one_line, printable, warn

HOUSE = Path(mrprism.__file__).parent

NASTY = {
    "escape": "\x1b[31mred\x1b[0m",
    "title of the window": "\x1b]0;owned\x07",
    "one byte that starts a sequence": "\x9b31m",
    "back over what stands there": "safe\x08\x08\x08\x08evil",
    "back to the start of the line": "bad\rgood",
    "other direction": "gpj.\u202eexe",
    "isolated": "\u2066left\u2069",
    "mark of direction": "a\u200fb",
    "separator of lines": "a\u2028b",
    "form feed": "a\x0cb",
    "delete": "a\x7fb",
    "null": "a\0b",
    "half of a pair": "a\ud800b",
    "byte of a file name": "a\udcffb",
    "order of bytes": "\ufeffa",
}
ALLOWED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u200f\ud800-\udfff]")


@pytest.mark.parametrize("name", NASTY.values(), ids=NASTY)
def test_control_characters_are_shown_as_json_writes_them(name: str) -> None:
    shown = printable(name)
    assert not ALLOWED.search(shown)
    assert json.loads(f'"{shown}"') == name


def test_ordinary_text_is_left_alone() -> None:
    text = "Зоя, 山田, José, ‘κ’ 3 × 4\tand\na line"
    assert printable(text, "utf-8") == text
    assert printable(text, "ascii").encode("ascii")
    assert printable("10 × 12, ± 3 – 4 µm, κ", "ascii") == "10 x 12, +- 3 - 4 um, kappa"
    assert printable("José", "latin-1") == "José"
    assert printable("José", "ascii") == "Jos\\u00e9"
    assert json.loads(f'"{printable("😀", "ascii")}"') == "😀"


def test_a_sentence_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line("a\nmrprism: all is well") == "a mrprism: all is well"
    warn("a\nb")
    note("a\nb")
    assert capsys.readouterr().err == "mrprism: warning: a b\nnote: a b\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_everything_printed_meanwhile_is_harmless(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with guarded():
        for name in NASTY.values():
            print(f"{name} ×")
            print(name, file=sys.stderr, flush=True)
            sys.stdout.writelines([name, "\n"])
            table = Table(name, title=name)
            table.add_row(f"{name} ↑ [/x] [red] :smile:")
            out = console(width=300)
            out.print(name)
            out.print(table)
            console(stderr=True, width=300).print(f"[bold]{name}")
    assert sys.stdout is stream
    stream.flush()
    said = raw.getvalue().decode(encoding)
    assert not ALLOWED.search(said)
    assert said.count("[/x] [red] :smile:") == len(NASTY), "names are not read as rich's markup"
    assert "[bold]" in said


def test_colours_of_ours_still_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with guarded():
        console(color_system="standard", force_terminal=True).print("\x1b[31mname", style="bold")
    assert terminal.getvalue() == "\x1b[1m\\u001b[31mname\x1b[0m\n"


def test_there_is_one_place_for_consoles_and_for_csv() -> None:
    """Every other file asks it; so what it keeps out is kept out everywhere."""
    for file in sorted(HOUSE.rglob("*.py")):
        name = file.relative_to(HOUSE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in (
                "Console",
                "rich.print",
                "sys.stdout.write",
                "sys.stderr.write",
                "rich.console.Console",
            ):
                assert name == "output/console.py", f"{name}, line {node.lineno}: {called}"  # type: ignore[attr-defined]
            if called in ("csv.writer", "csv.DictWriter"):
                assert name == "output/tables.py", f"{name}, line {node.lineno}: {called}"  # type: ignore[attr-defined]
