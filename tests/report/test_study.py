"""A study in one file: each step once, again only where something changed; a page with the numbers of the tables."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import mrprism
from mrprism.cli import call

STUDY = """
[study]
dataset = "data"
out = "found"
title = "Discs & cups <three>"

[study.about]
readers = "Three of us"
weather = "rain"

[agree]
resamples = 30
distances = false
pictures = 0

[fuse]
method = "majority"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    mrprism.phantom("crowd", size=32, cases=6, out="data")
    Path("study.toml").write_text(STUDY, encoding="utf-8")
    return tmp_path


def times(folder: str) -> dict[str, int]:
    return {
        str(file): file.stat().st_mtime_ns
        for file in Path(folder).rglob("*")
        if file.is_file() and file.name not in ("study.json", "study.html")
    }


def test_all_steps_then_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["study", "study.toml"]) == 0
    said = capsys.readouterr().out
    assert "compare: left out, 'study.toml' has no table [compare]" in said
    assert said.rstrip().endswith(os.path.join("found", "study.html"))
    before = times("found")
    os.chdir("data")  # paths are those of the file, wherever one stands
    assert call(["study", "../study.toml"]) == 0
    os.chdir(place)
    again = capsys.readouterr().out
    for step in ("check", "agree", "fuse", "outline"):
        assert f"{step}: done already" in again
    assert times("found") == before


def test_what_changed_is_done_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["study", "study.toml"]) == 0
    Path("study.toml").write_text(STUDY.replace("resamples = 30", "resamples = 31"), encoding="utf-8")
    capsys.readouterr()
    assert call(["study", "study.toml"]) == 0
    said = capsys.readouterr().out
    assert "agree: done already" not in said
    assert "fuse: done already" in said
    assert json.loads(Path("found/agreement/agreement.json").read_text())["resamples"] == 31
    Path("found/agreement/agreement.json").unlink()  # as after a kill
    assert call(["study", "study.toml"]) == 0
    assert Path("found/agreement/agreement.json").is_file()


def test_a_study_that_was_killed_goes_on(place: Path) -> None:
    """Killed at some moment, the same command ends with what one never stopped has."""
    study = [sys.executable, "-m", "mrprism", "study", "study.toml"]
    running = subprocess.Popen(study, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not Path("found/agreement/agreement.json").is_file() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert call(["study", "study.toml"]) == 0
    went_on = Path("found/agreement/agreement.json").read_bytes(), Path("found/fused/skill.csv").read_bytes()
    Path("whole.toml").write_text(STUDY.replace('"found"', '"whole"'), encoding="utf-8")
    assert call(["study", "whole.toml"]) == 0
    assert went_on == (
        Path("whole/agreement/agreement.json").read_bytes(),
        Path("whole/fused/skill.csv").read_bytes(),
    )


class Page(HTMLParser):
    """Rows of cells, and all that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.fetched: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td") and self.rows:
            self.rows[-1].append("")
        self.fetched += [
            str(value) for name, value in attributes if name == "src" or (tag, name) == ("link", "href")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_page_has_the_numbers_of_the_tables(place: Path) -> None:
    case = Path("data/masks/rater3/case0002_cup.png")
    case.unlink()
    manifest = json.loads(Path("data/dataset.json").read_text())
    del manifest["cases"][2]["masks"]["rater3"]["cup"]
    Path("data/dataset.json").write_text(json.dumps(manifest))
    assert call(["study", "study.toml"]) in (0, 1)
    page = Page(Path("found/study.html").read_text(encoding="utf-8"))
    assert not page.fetched
    assert "Discs & cups <three>" in page.text
    for said in ("Three of us", "Weather", "rain", "1 of 84 masks are absent", "There are 6 patients"):
        assert said in page.text, said
    assert any(row[0] == "rater3" and row[-1] == "1" for row in page.rows), "the absent mask is counted"
    tables = json.loads(Path("found/agreement/agreement.json").read_text())["tables"]
    dice = next(r for r in tables["overall"] if (r["structure"], r["statistic"]) == ("cup", "dice"))
    row = next(row for row in page.rows if row[:2] == ["cup", "Dice"])
    assert row[2] == f"{dice['value']:.2f}"
    assert row[3] == f"{dice['low']:.2f} to {dice['high']:.2f}"
    outline = json.loads(Path("found/outline/outline.json").read_text())
    worst = max(outline, key=lambda one: abs(one["outside"]))
    shown = f"{worst['outside']:.2f}".replace("-", "−")
    assert any(row[0] == worst["rater"] and row[3].startswith(shown) for row in page.rows if len(row) == 5)
    assert "No model was compared with the readers" in page.text


def test_readers_who_are_slots_and_a_model(place: Path) -> None:
    """Nothing is said of single persons; a model has its line."""
    manifest = json.loads(Path("data/dataset.json").read_text())
    Path("data/dataset.json").write_text(json.dumps({**manifest, "anonymous": True}))
    for case in mrprism.open_dataset("data"):
        folder = Path("outlines", case.name)
        for structure, mask in zip(("disc", "cup"), case.masks[0], strict=True):
            mrprism_write(folder / f"mask_{structure}.png", mask)
    Path("study.toml").write_text(STUDY.replace("[agree]", '[agree]\ncandidate = ["outlines"]'))
    assert call(["study", "study.toml"]) in (0, 1)
    page = Page(Path("found/study.html").read_text(encoding="utf-8"))
    assert "Bias and spread of single readers are not given: raters are anonymous" in page.text
    assert any("outlines(model)" in row[1].replace(" ", "") for row in page.rows if len(row) == 8)
    assert not Path("found/outline").exists()


def mrprism_write(path: Path, mask: np.ndarray) -> None:
    from mrprism.images import write_mask

    write_mask(path, mask)


def test_second_readings_are_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, cases in {"ann": (1, 2, 3), "ann.2": (1, 3), "bob": (1, 2, 3), "cy": (1, 2, 3)}.items():
        for number in cases:
            mask = np.zeros((32, 32), bool)
            mask[8 : 16 + rng.integers(6), 8 : 18 + rng.integers(6)] = True
            mrprism_write(Path("study", folder, f"{number:04d}.png"), mask)
    mrprism.import_dataset("folder", "study", "data", readings=".2", structure="lesion")
    Path("s.toml").write_text('[study]\ndataset = "data"\nout = "found"\n[agree]\nresamples = 5\n[compare]\n')
    assert call(["study", "s.toml"]) in (0, 1)
    text = Page(Path("found/study.html").read_text(encoding="utf-8")).text
    assert "The same reader asked again" in text
    assert "to compare methods needs images" in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[study]", "[studies]", "[study] needs dataset"),
        ('dataset = "data"', "", "[study] needs dataset"),
        ('out = "found"', "out = 3", "[study] needs out"),
        ('title = "', 'titel = "', "unknown setting of [study] 'titel'"),
        ('readers = "Three of us"', "readers = 3", "[study.about] holds something that is not a text"),
        ("[fuse]", "[fues]", "unknown command 'fues'"),
        ('"majority"', '"majorty"', "unknown method 'majorty'"),
        ("[agree]", '[compare]\nmethods = "mrprsm"\n[agree]', "'mrprsm' is neither a table nor a method"),
        ("resamples = 30", "resampels = 30", "unknown setting 'resampels'"),
        ("resamples = 30", 'out = "there"', "leave out out in [agree]"),
        ('"data"', '"nowhere"', "data set 'nowhere' does not exist"),
        ('out = "found"', 'out = "data"', "holds files, but no study"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    old: str,
    new: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/dataset.json").write_text("{}")
    before = times("data")
    Path("study.toml").write_text(STUDY.replace(old, new, 1))
    assert call(["study", "study.toml"]) == 2
    printed = capsys.readouterr().err
    assert said in printed, printed
    assert len(re.findall("^mrprism: ", printed, re.M)) == 1
    assert not Path("found").exists()
    assert times("data") == before


def test_errors_of_the_data_end_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/masks/rater1/case0001_cup.png").write_bytes(b"no picture")
    assert call(["study", "study.toml"]) == 2
    assert "case0001_cup.png" in capsys.readouterr().err
    assert not Path("found/agreement").exists()


def test_a_damaged_study_is_one_sentence(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (
        "check.json",
        "agreement/agreement.json",
        "study.json",
        "fused/fuse.json",
        "outline/outline.json",
    ):
        good = (whole / file).read_bytes()
        for content in ("", "[]", "{}", "null", '{"summary": 3}', good.decode()[:-9]):
            (whole / file).write_text(content)
            code = call(["report", "--study", str(whole), "--out", str(tmp_path / "page.html")])
            printed = capsys.readouterr().err
            if (file, content) not in {("outline/outline.json", "[]"), ("outline/outline.json", "{}")}:
                assert code == 2, (file, content)
                assert printed.count("\n") == 1
                assert not (tmp_path / "page.html").exists()
            (tmp_path / "page.html").unlink(missing_ok=True)
        (whole / file).write_bytes(good)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    mrprism.phantom("crowd", size=32, cases=6, out=root / "data")
    (root / "study.toml").write_text(STUDY)
    assert call(["study", str(root / "study.toml")]) == 0
    return root / "found"


def test_report_asks_for_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["report"]) == 2
    assert "report needs the folders of runs, or --study FOLDER" in capsys.readouterr().err
    assert call(["report", "run", "--study", "found"]) == 2
    assert "leave out the runs" in capsys.readouterr().err
