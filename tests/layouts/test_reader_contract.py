"""What every reader of a layout promises, whatever its layout."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from faults.inputs import COMMANDS, GOOD

from mrprism.cli.import_ import _pair
from mrprism.layouts import DATASETS
from mrprism.layouts.contract import check_reader
from mrprism.layouts.importing import converted

LAYOUTS = [name for name, command in COMMANDS.items() if command.startswith("import ")]


def reader_of(command: str) -> tuple[str, dict[str, Any]]:
    """Which reader an import command asks for, and its options."""
    _, kind, _, _, *rest = shlex.split(command)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return kind, dict(_pair(value) if key == "-o" else (key.lstrip("-"), value) for key, value in pairs)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_contract(name: str, tmp_path: Path) -> None:
    GOOD[name](tmp_path / name)
    kind, options = reader_of(COMMANDS[name])
    check_reader(DATASETS[kind], tmp_path / name, tmp_path / "work", **converted(kind, options))


def test_every_reader_is_held_to_it() -> None:
    assert {reader_of(COMMANDS[name])[0] for name in LAYOUTS} == set(DATASETS) - {"dataset"}
