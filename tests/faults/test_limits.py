"""Limits are those of docs/reference/limits.md, and each can be set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from faults.inputs import COMMANDS, GOOD
from faults.test_bad_inputs import arguments
from mrprism.cli import call
from mrprism.datasets import open_dataset
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


def test_links_may_lead_outside_where_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in ("folder", "squares"):
        GOOD[given](tmp_path / given)
    here, away = tmp_path / "folder", tmp_path / "disk"
    (here / "images").rename(away)
    (here / "images").symlink_to(away)
    images = tmp_path / "squares/images"
    images.rename(tmp_path / "squares-images")
    images.symlink_to(tmp_path / "squares-images")
    command = ["import", "folder", str(here)]
    assert call([*command, str(tmp_path / "out")]) == 2
    assert call(["check", str(tmp_path / "squares")]) == 2
    monkeypatch.setenv("MRPRISM_FOLLOW_LINKS", "1")
    assert call([*command, str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert call([*command, str(here / "dataset.json")]) == 0, capsys.readouterr().err
    assert call(["check", str(here)]) == call(["check", str(tmp_path / "out")]) != 2
    assert call(["check", str(tmp_path / "squares")]) == 0
    capsys.readouterr()


def test_links_inside_are_followed(tmp_path: Path) -> None:
    """As git-annex makes them: a name that leads to a store in the same folder."""
    GOOD["folder"](tmp_path / "in")
    (tmp_path / "in/.git/annex").mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "in").rglob("*.png"))):
        store = tmp_path / f"in/.git/annex/{number}"
        path.rename(store)
        path.symlink_to(os.path.relpath(store, path.parent))
    assert call(["import", "folder", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert open_dataset(tmp_path / "out").task.raters == ("ann", "bob")


def test_names_cannot_leave_the_folder_that_is_written_to(tmp_path: Path) -> None:
    """Cases, raters and structures named like paths upwards, in every command that makes files of them."""
    root = tmp_path / "one/two/three"
    root.mkdir(parents=True)
    GOOD["squares"](root / "in")
    file = root / "in/dataset.json"
    document = json.loads(file.read_text())
    document.update(name="../../x", structures=["disc", "../../x"], raters=["../../x", "bob", "cy"])
    for number, case in enumerate(document["cases"]):
        renamed = {rater.replace("ann", "../../x"): drawn for rater, drawn in case["masks"].items()}
        for drawn in (*renamed.values(), case["reference"]):
            drawn["../../x"] = drawn.pop("cup")
        case.update(name=f"../../x{number}", group=f"../../x{number}", masks=renamed)
    file.write_text(json.dumps(document))
    for number, command in enumerate(
        (
            "import dataset {in} {out}",
            "fuse {in} --method majority --out {out}",
            "agree {in} --out {out} --resamples 5 --no-distances --pictures 1",
            *(f"export {{in}} --to {target} --out {{out}}" for target in ("png", "coco", "bids")),
            "export {in} --to nnunet --raters majority --out {out}",
        )
    ):
        given = [
            part.replace(str(root / "out"), str(root / f"out{number}")) for part in arguments(command, root)
        ]
        assert call(given) == 0, command
    assert {path.name for path in root.iterdir()} == {"in", *(f"out{n}" for n in range(7))}
    assert [path for path in tmp_path.rglob("*x*") if root not in path.parents] == []


def test_the_page_about_limits_is_right() -> None:
    page = (ROOT / "docs/reference/limits.md").read_text()
    for name, value in LIMITS.items():
        assert f"| `{name}` | {value} |" in page


@pytest.mark.parametrize(
    "given", [name for name, command in COMMANDS.items() if command.startswith("import ")]
)
def test_links_in_circles_end(given: str, tmp_path: Path) -> None:
    """Four links between two folders: followed one after the other they never end."""
    GOOD[given](tmp_path / "in")
    folders = [tmp_path / "in", *(path for path in (tmp_path / "in").rglob("*") if path.is_dir())]
    deepest = max(folders, key=lambda path: len(path.parts))
    for name in "xy":
        (deepest / name).mkdir()
    for place, leads in (("x/1", "../y"), ("x/2", "../y"), ("y/1", "../x"), ("y/2", "../x")):
        (deepest / place).symlink_to(leads)
    assert call(arguments(COMMANDS[given], tmp_path)) in (0, 2)  # and not never
