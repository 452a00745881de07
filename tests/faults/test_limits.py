"""Limits are those of docs/reference/limits.md, and each can be set."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.inputs import COMMANDS, GOOD
from faults.test_bad_inputs import arguments
from mrprism.cli import call
from mrprism.images import LIMITS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "limit", "value", "says"),
    [
        (
            "folder",
            "MRPRISM_MAX_PIXELS",
            "100",
            "a.png' has 10 × 12 pixels, more than MRPRISM_MAX_PIXELS = 100 allows",
        ),
        (
            "slicer",
            "MRPRISM_MAX_PIXELS",
            "50",
            "has 5 × 5 × 3 pixels, more than MRPRISM_MAX_PIXELS = 50 allows",
        ),
        ("curvas", "MRPRISM_MAX_PIXELS", "50", "pixels, more than MRPRISM_MAX_PIXELS = 50 allows"),
        ("drive", "MRPRISM_MAX_PIXELS", "50", "pixels, more than MRPRISM_MAX_PIXELS = 50 allows"),
        ("lidc", "MRPRISM_MAX_UNPACKED", "1e3", "bytes, more than MRPRISM_MAX_UNPACKED = 1000 allows"),
        (
            "coco",
            "MRPRISM_MAX_TEXT",
            "100",
            "bytes of text, more than MRPRISM_MAX_TEXT = 100 allows",
        ),
        ("riga", "MRPRISM_MAX_TEXT", "100", "more than MRPRISM_MAX_TEXT = 100 allows"),
        ("squares", "MRPRISM_MAX_TEXT", "100", "dataset.json' has"),
        ("folder", "MRPRISM_MAX_PIXELS", "many", "MRPRISM_MAX_PIXELS is 'many'; expected a number"),
        ("coco", "MRPRISM_MAX_TEXT", "inf", "MRPRISM_MAX_TEXT is 'inf'; expected a number"),
    ],
)
def test_each_limit_can_be_set(
    given: str,
    limit: str,
    value: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    GOOD[given](tmp_path / "in")
    monkeypatch.setenv(limit, value)
    assert call(arguments(COMMANDS[given], tmp_path)) == 2
    said = capsys.readouterr().err
    assert says in said
    monkeypatch.delenv(limit)
    assert call(arguments(COMMANDS[given], tmp_path)) == 0


def test_the_page_about_limits_is_right() -> None:
    page = (ROOT / "docs/reference/limits.md").read_text()
    for name, value in LIMITS.items():
        assert f"| `{name}` | {value} |" in page
