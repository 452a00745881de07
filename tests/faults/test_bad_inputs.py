"""Every bad input of the table: one sentence, exit code 2, inputs untouched, nothing half-written."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.inputs import COMMANDS, GOOD
from faults.table import TABLE, Bad
from faults.test_damaged_runs import DAMAGED
from mrprism.cli import call

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Good inputs, each made once a process."""
    folder = tmp_path_factory.mktemp("good")

    def make(name: str) -> Path:
        if not (folder / name).exists():
            GOOD[name](folder / name)
        return folder / name

    return make


def content(root: Path) -> dict[str, str]:
    """Everything below a folder: a file's hash, where a link leads."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def arguments(command: str, root: Path) -> list[str]:
    places = {"{in}": str(root / "in"), "{out}": str(root / "out")}
    return [re.sub(r"\{in\}|\{out\}", lambda m: places[m[0]], part) for part in shlex.split(command)]


@pytest.mark.parametrize("name", COMMANDS)
def test_good_inputs_are_good(
    name: str, made: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made(name), tmp_path / "in")
    assert call(arguments(COMMANDS[name], tmp_path)) == 0, capsys.readouterr().err
    if "{out}" in COMMANDS[name]:
        assert any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("bad", [pytest.param(bad, id=f"{bad.given}: {bad.name}") for bad in TABLE])
def test_bad_inputs(bad: Bad, made: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made(bad.given), tmp_path / "in", symlinks=True)
    bad.spoil(tmp_path / "in")
    before = content(tmp_path)
    capsys.readouterr()
    code = call(arguments(bad.command or COMMANDS[bad.given], tmp_path))
    printed = capsys.readouterr()
    said = printed.out + printed.err
    sentence = bad.says.replace("{in}", str(tmp_path / "in"))
    parts = [re.escape(part) for part in re.split(r" ?\.\.\. ?", sentence)]
    assert re.search(".*".join(parts), said, re.DOTALL), f"said: {said}"
    assert code == 2
    assert "Traceback" not in said
    assert "warning: " not in printed.err
    after = content(tmp_path)
    assert {path: after[path] for path in after if path != bad.stays} == before


def test_the_table_is_long_and_names_everything_once() -> None:
    assert len(TABLE) + len(DAMAGED) >= 450
    assert [name for name, count in Counter((b.given, b.name) for b in TABLE).items() if count > 1] == []
    assert {bad.given for bad in TABLE} == set(GOOD)
