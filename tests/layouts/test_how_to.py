"""The how-to pages about layouts: every tree is made, every command run, and what they show compared.

    python tests/layouts/test_how_to.py      # writes trees and outputs into the pages anew

A tree is a `text` block whose first line is a folder; a folder that is not there yet is made by
`layouts.py`. Of commands in `console` blocks the output is shown, except for `check`, which has a page of
its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from mrprism.cli import call
from mrprism.datasets.tree import natural
from mrprism.layouts import DATASETS

FOLDER = Path(__file__).parents[2] / "docs/how-to"
PAGES = [FOLDER / "your-own-folder.md", *sorted(FOLDER.glob("import-*.md"))]
WIDTH = 110
NEED_DICOM = ("import-dicom-seg.md", "import-lidc.md")


def tree(folder: Path) -> str:
    """What lies in a folder, one line a folder, its files behind its name."""
    return "\n".join(_lines(folder, folder.name, 0)) + "\n"


def _lines(folder: Path, label: str, indent: int) -> list[str]:
    inside = sorted(folder.iterdir(), key=lambda path: natural(path.name))
    files, folders = ([p for p in inside if p.is_dir() == wanted] for wanted in (False, True))
    if len(folders) == 1 and not files:
        return _lines(folders[0], f"{label}/{folders[0].name}", indent)
    head = " " * indent + f"{label}/"
    names = "".join(f"  {path.name.replace(' ', chr(0))}" for path in files)
    lines = textwrap.wrap(
        head + names,
        WIDTH,
        subsequent_indent=" " * (indent + 4),
        break_long_words=False,
        break_on_hyphens=False,
    )
    lines = [line.replace(chr(0), " ") for line in lines] if names else [head]
    return lines + [line for path in folders for line in _lines(path, path.name, indent + 2)]


def output(command: str) -> str:
    """What a command prints, notes first as on a terminal."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = call(shlex.split(command, comments=True)[1:])
    assert code in ((0, 1) if command.startswith("mrprism check") else (0,)), f"{command}: {told.getvalue()}"
    return told.getvalue()


def filled(page: str) -> str:
    """The page with its trees and outputs as they are now; runs in the current folder."""
    from layouts import LAYOUTS

    def block(match: re.Match[str]) -> str:
        kind, body = match[1], match[2]
        if kind == "text":
            name = re.match(r"([\w.-]+)/", body)
            if name is None:
                return match[0]
            folder = Path(name[1])
            if not folder.exists():
                LAYOUTS[name[1]](folder)
            return f"```text\n{tree(folder)}```"
        told = [line for line in body.splitlines() if not line.startswith("$ mrprism")]
        lines = []
        for line in body.splitlines():
            if line.startswith("$ mrprism"):
                found = output(line.removeprefix("$ "))
                lines += [line, *(told if "mrprism check" in line else found.splitlines())]
        return "```console\n" + "\n".join(lines) + "\n```"

    return re.sub(r"^```(text|console)\n(.*?)^```", block, page, flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_shows_what_happens(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name in NEED_DICOM and find_spec("highdicom") is None:
        pytest.skip("needs the extra 'dicom'")
    monkeypatch.chdir(tmp_path)
    shown = page.read_text(encoding="utf-8")
    assert "```console" in shown
    assert filled(shown) == shown


def test_every_layout_is_shown() -> None:
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    imported = set(re.findall(r"^\$ mrprism import ([\w-]+)", shown, re.M))
    assert imported == set(DATASETS) - {"dataset"}  # which is our own


if __name__ == "__main__":
    for path in PAGES:
        with tempfile.TemporaryDirectory() as temporary:
            os.chdir(temporary)
            path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
