"""The program as a whole: every verb is there and explains itself; wrong calls are answered in a sentence."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrprism import __version__
from mrprism.cli import VERBS, call


def test_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert call(arguments) == 0
        printed = capsys.readouterr().out
        for verb, (_, text) in VERBS.items():
            assert verb in printed
            assert text in printed
        assert max(map(len, printed.splitlines())) <= 110


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"mrprism {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_worth_reading(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = importlib.import_module(f"mrprism.cli.{VERBS[verb][0]}").run
    text = run.__doc__ or ""
    assert f"mrprism {verb}" in text, "help has an example"
    assert len(text.split()) > 20
    assert call([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "Usage" in printed
    assert "--help" in printed


def test_unknown_verb_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["trian"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mrprism: unknown command 'trian'; known: demo, phantom")
    assert said.count("\n") == 1


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "demo"])
def test_a_wrong_option_is_one_sentence(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([verb, "--no-such-option"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mrprism: ")
    assert "Traceback" not in said


def test_python_m_mrprism_is_the_program(tmp_path: Path) -> None:
    plain = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "mrprism", "phantom", "data", "--scenario", "herd"],
        cwd=tmp_path, env=plain, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("mrprism: unknown scenario 'herd'")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_demo_trains_compares_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    first = capsys.readouterr().out
    for row in (
        "U-Net, soft vote",
        "U-Net, hard vote",
        "MrPrism Rec0",
        "MrPrism Rec1",
        "majority vote",
        "STAPLE",
    ):
        assert row in first
    assert "Whom MrPrism trusts" in first
    assert "…" not in first, "nothing is cut off at 80 columns"
    page = tmp_path / "demo" / "report.html"
    assert "U-Net" in page.read_text(encoding="utf-8")
    assert str(page) in first

    weights = tmp_path / "demo/runs/mrprism/weights.safetensors"
    written = weights.stat().st_mtime_ns
    assert call(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    assert weights.stat().st_mtime_ns == written
    assert _rows(capsys.readouterr().out) == _rows(first)


def _rows(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("  MrPrism")]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("predict run a.png --out o --coverage many", "Invalid value for '--coverage': expected a number"),
        ("phantom o --seed x", "Invalid value for '--seed': expected a whole number"),
        ("phantom o --seed -1", "Invalid value for '--seed': expected at least 0"),
        ("view data --port 99999", "Invalid value for '--port': expected at most 65535"),
        (
            "export data --to nnunet --out o --labels vote",
            "Invalid value for '--labels': 'vote' is not one of 'masks', 'votes'.",
        ),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(
    command: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command.split()) == 2
    verb = command.split()[0]
    assert capsys.readouterr().err == f"mrprism: {says} (see mrprism {verb} --help)\n"
