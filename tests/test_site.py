"""The documentation site: every page is reached, commands and names are complete, the notebook runs."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import mrprism
from mrprism.cli import VERBS
from mrprism.cli.options import offered

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The modules that make the site can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "site"))
    yield importlib.import_module("program")
    for name in ("program", "ipynb", "check"):
        sys.modules.pop(name, None)


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    named = set(re.findall(r"[\w/.-]+\.md", menu))
    there = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert there <= named
    measured = {f"project/benchmarks/{file.name}" for file in (ROOT / "benchmarks").glob("*.md")}
    assert measured <= named


def test_every_how_to_is_reached_from_its_index() -> None:
    told = (ROOT / "docs/how-to/index.md").read_text(encoding="utf-8")
    for file in (ROOT / "docs/how-to").glob("*.md"):
        assert file.name == "index.md" or f"]({file.name})" in told, file.name
    home = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for page in ("agree", "train", "compare", "fuse"):
        assert f"(how-to/{page}.md)" in home


def test_the_page_of_commands_has_every_option(site: ModuleType) -> None:
    page = site.commands()
    for verb, (module, _) in VERBS.items():
        section = page.split(f"## mrprism {verb} ")[1].split("\n## ")[0]
        for option in offered(importlib.import_module(f"mrprism.cli.{module}").run):
            assert option.spoken.replace("|", " or ") in section, (verb, option.name)
    assert "| `--learning-rate` | Learning rate of Adam. | `0.0001` |" in page


def test_the_page_of_names_has_all_of_them(site: ModuleType) -> None:
    page = site.names()
    for name in mrprism.API:
        assert f"### mrprism.{name} " in page


def test_dead_links_and_requests_are_found(site: ModuleType, tmp_path: Path) -> None:
    check = importlib.import_module("check")
    good = '<a href="b.html#here">b</a> <a href="https://example.org">out</a> <img src="data:,">'
    (tmp_path / "a.html").write_text(good)
    (tmp_path / "b.html").write_text('<h2 id="here">b</h2> <a href="#here">up</a>')
    assert check.faults(tmp_path) == []
    (tmp_path / "c.html").write_text(
        '<a href="d.html">d</a><a href="b.html#there">b</a><script src="https://cdn.example/x.js"></script>'
    )
    assert sorted(check.faults(tmp_path)) == [
        "c.html fetches https://cdn.example/x.js",
        "c.html links to b.html#there, and that page has no such place",
        "c.html links to d.html, which is not there",
    ]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(site: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ipynb = importlib.import_module("ipynb")
    before = Path.cwd()
    made = ipynb.page(ROOT / "examples/notebook.ipynb")
    assert Path.cwd() == before
    page = str(made["notebook.md"])
    assert page.count("![") == 3, "three figures"
    assert "0 errors" in page
    assert re.search(r"majority vote\s+0\.[89]", page)
    assert "probability (1, 64, 64)" in page
