"""What `mrprism agree` writes: tables, JSON, and a page that needs nothing else and shows nothing raw."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mrprism.agreement import agree, within_spread
from mrprism.agreement.charts import DASH, heatmap, percent, short, words
from mrprism.agreement.findings import answer, finding, identical
from mrprism.agreement.pictures import disagreement, outline, panel
from mrprism.agreement.write import report, write_agreement
from mrprism.cli import call
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import write_dataset
from mrprism.images import write_mask

from .cases import Shelf, disc, drawn_by, shelf

NAN = float("nan")
VOID = {"meta", "image", "use", "path", "rect", "line", "circle", "i", "br", "link"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.text = []

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return " ".join(" ".join(parser.text).split())


def test_files(tmp_path):
    data = drawn_by([0, 1, -2], cases=4)
    found = agree(data, resamples=50)
    page = write_agreement(found, data, tmp_path / "new" / "out")
    assert page.name == "agreement.html"
    numbers = json.loads((page.parent / "agreement.json").read_text("utf-8"))
    assert sorted(numbers["tables"]) == [
        "again",
        "cases",
        "outlines",
        "overall",
        "pairs",
        "raters",
        "reference",
        "sizes",
        "spread",
    ]
    assert numbers["tables"].pop("again") == []  # nobody was asked again: no file
    assert numbers["tables"].pop("reference") == []  # nor was anybody held against references
    assert numbers["tables"].pop("outlines") == []  # nor asked where outlines lie
    assert not (page.parent / "again.csv").exists()
    for name, rows in numbers["tables"].items():
        with (page.parent / f"{name}.csv").open(encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == len(rows)
        assert list(lines[0]) == list(rows[0])
    assert not [path for path in page.parent.iterdir() if path.name.startswith(".")]


def test_the_page_stands_alone_and_says_what_was_found(tmp_path):
    data = drawn_by([0, 0.2, 3], cases=9)
    found = agree(data, resamples=50)
    html = write_agreement(found, data, tmp_path, pictures=2).read_text("utf-8")
    text = read(html)
    assert " ".join(finding(found).split()) in text
    assert "rater3 draws" in text
    for address in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert address.startswith(("data:image/", "#")) or (tmp_path / address).is_file()
    assert len(re.findall("<article>", html)) == 2
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ET.fromstring(svg)
    assert "nan" not in text.lower().split()


def test_names_are_never_markup(tmp_path):
    bad = "<script>alert(1)</script>"
    data = shelf([[5, 6, 7], [6, 7, 9]], raters=[bad, "b&b", '"c"'])
    task = Task(1, ("<b>disc</b>",), data.task.raters)
    samples = [MultiRaterSample(bad + s.name, s.image, s.masks, s.rated, group="<i>") for s in data.samples]
    data = Shelf(task, samples, name="<u>")
    html = write_agreement(agree(data, resamples=5), data, tmp_path).read_text("utf-8")
    assert "<script" not in html
    assert "<b>disc" not in html
    assert "<u>" not in html
    assert bad in read(html)


@pytest.mark.parametrize("radii", [[[0, 0, 0]] * 2, [[100] * 3] * 2, [[8, NAN, 0], [NAN, NAN, 5], [4, 0, 0]]])
def test_undefined_is_a_dash_and_no_crash(tmp_path, radii):
    data = shelf(radii)
    text = read(write_agreement(agree(data, resamples=5), data, tmp_path).read_text("utf-8"))
    assert DASH in text
    assert "undefined" in text


def test_many_raters_and_one_case(tmp_path):
    data = shelf([np.linspace(4, 14, 40)])
    html = write_agreement(agree(data, resamples=5), data, tmp_path).read_text("utf-8")
    assert len(html) < 3_000_000


def test_anonymous_raters_and_a_model(tmp_path):
    data = drawn_by([0, 1, -1], cases=8)
    data = Shelf(Task(1, ("disc",), data.task.raters, anonymous=True), data.samples)
    tests = within_spread(data, {s.name: s.masks[0] for s in data.samples}, resamples=50, name="net")
    html = write_agreement(agree(data, resamples=5), data, tmp_path, candidates=tests).read_text("utf-8")
    text = read(html)
    assert "anonymous" in text
    assert answer(tests) in text
    assert answer(tests) == "net is within the readers’ spread on the disc."
    assert not (tmp_path / "pairs.csv").exists()
    assert "rater1" not in html


def test_volumes_show_the_slice_most_disputed(tmp_path):
    masks = np.zeros((2, 1, 5, 12, 12), bool)
    masks[:, 0, 1:4, 2:8, 2:8] = True
    masks[1, 0, 3, 2:11, 2:11] = True
    sample = MultiRaterSample(
        "v", np.zeros((1, 5, 12, 12), np.float32), masks, np.ones((2, 1), bool), spacing_mm=(3.0, 2.0, 1.0)
    )
    shown = panel(sample, 0, "disc")
    assert shown.slice == 3
    assert shown.height / shown.width == pytest.approx(2.0)
    data = Shelf(Task(1, ("disc",), ("a", "b")), [sample])
    assert "slice 3" in write_agreement(agree(data), data, tmp_path).read_text("utf-8")


def test_disagreement_is_one_where_half_stands_against_half():
    masks = np.array([[[0, 1, 1, 1, 1]], [[0, 0, 1, 1, 1]], [[0, 0, 0, 1, 1]], [[0, 0, 0, 0, 1]]], bool)
    assert disagreement(masks, np.ones(4, bool)).tolist() == [[0, 0.5, 1, 0.5, 0]]
    assert disagreement(masks[:3], np.ones(3, bool)).tolist() == [[0, 1, 1, 0, 0]]


def test_outline_runs_around_the_pixels():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    points = np.array([[float(v) for v in p.split(",")] for p in outline(mask).strip("MZ").split()])
    assert points.min(axis=0).tolist() == [2, 1]
    assert points.max(axis=0).tolist() == [5, 3]


def test_equal_raters_are_remarked_on():
    found = agree(shelf([[6, 6, 8], [7, 7, 9]]), resamples=0)
    assert len(identical(found)) == 1
    assert "rater1 and rater2 have the same mask" in identical(found)[0]
    assert identical(agree(shelf([[6, 6, 8], [7, 7.5, 9]]), resamples=0)) == []


@pytest.mark.parametrize(
    ("value", "text"), [(0.8349, "0.83"), (-0.001, "0.00"), (NAN, DASH), (12345.0, "12 345"), (123.4, "123")]
)
def test_words(value, text):
    assert words(value).replace(" ", " ").replace(" ", " ") == text


def test_percent_has_no_negative_zero():
    assert percent(-0.001, True).split() == ["0", "%"]
    assert percent(0.5, True).split() == ["+50", "%"]


def test_heat_map_places():
    chart = heatmap(
        "Dice", "", ["a", "b", "c"], np.array([[NAN, 1, 0.5], [1, NAN, 0.7], [0.5, 0.7, NAN]]), best=1.0
    )
    assert len(chart.cells) == 6
    assert chart.low == "0.5"
    assert chart.cells[0].title == "a and b: 1.00"


@pytest.fixture
def folder(tmp_path):
    data = drawn_by([0, 0.2, -0.3], cases=3)
    return write_dataset(data.samples, tmp_path / "data", name="discs", task=data.task)


def test_command_line(folder, tmp_path, capsys):
    assert call(["agree", str(folder), "--out", str(tmp_path / "out"), "--resamples", "20"]) == 0
    assert "mean pairwise Dice" in capsys.readouterr().out
    assert (tmp_path / "out" / "agreement.html").is_file()
    assert call(["agree", str(folder), "--out", str(tmp_path / "out"), "--resamples", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        (tmp_path / "out" / "agreement.json").read_text()
    )


def test_where_each_rater_draws_the_outline(tmp_path, capsys):
    data = drawn_by([0, 0, 2, -1], cases=6)
    task = Task(1, ("disc",), ("ann", "<b>", "cem", "dan"))
    spaced = [replace(sample, spacing_mm=(0.5, 0.5)) for sample in data.samples]
    folder = write_dataset(spaced, tmp_path / "data", name="discs", task=task)
    line = ["agree", str(folder), "--out", str(tmp_path / "out"), "--resamples", "20", "--outline"]
    assert call(line) == 0
    said = capsys.readouterr().out
    assert "Beside the outline that the others show" in said
    assert "mm outside (" in said
    assert "mm inside (" in said
    with (tmp_path / "out" / "outlines.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rater"] for row in rows] == ["ann", "<b>", "cem", "dan"]
    assert float(rows[2]["outside"]) == pytest.approx(1.0, abs=0.15)  # two pixels of half a millimetre
    assert float(rows[3]["outside"]) == pytest.approx(-0.5, abs=0.15)
    text = read((tmp_path / "out" / "agreement.html").read_text("utf-8"))
    assert rows[2]["draws"] in text
    assert call([*line[:-2], "0", "--outline"]) == 0  # no resamples: no intervals
    assert "mm outside, ±" in capsys.readouterr().out


def test_anonymous_raters_have_no_habits(tmp_path, capsys):
    data = drawn_by([0, 0, 2], cases=3)
    task = Task(1, ("disc",), ("1", "2", "3"), anonymous=True)
    folder = write_dataset(data.samples, tmp_path / "data", name="discs", task=task)
    assert call(["agree", str(folder), "--out", str(tmp_path / "out"), "--resamples", "0", "--outline"]) == 0
    assert "Beside the outline" not in capsys.readouterr().out
    assert not (tmp_path / "out" / "outlines.csv").exists()


@pytest.mark.parametrize(
    "place", ["{case}/mask_disc.png", "{case}_disc.png", "{case}.png", "{case}/disc.png"]
)
def test_command_line_with_a_model(folder, tmp_path, capsys, place):
    for case in ("case0", "case1"):
        write_mask(tmp_path / "net" / place.format(case=case), disc(10))
    line = [
        "agree",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        "--candidate",
        str(tmp_path / "net"),
        "--json",
    ]
    assert call(line) == 0
    first = json.loads(capsys.readouterr().out)["tables"]["spread"][0]
    assert (first["candidate"], first["cases"], first["left_out"]) == ("net", 2, 1)
    assert "lower than" in first["null"]


def test_command_line_with_a_data_set_as_model(folder, tmp_path, capsys):
    one = shelf([[9.0]] * 3, raters=["net"])
    other = write_dataset(one.samples, tmp_path / "net", name="net", task=one.task)
    line = ["agree", str(folder), "--out", str(tmp_path / "out"), "--candidate", str(other), "--json"]
    assert call(line) == 0
    assert json.loads(capsys.readouterr().out)["tables"]["spread"][0]["cases"] == 3


@pytest.mark.parametrize("what", ["missing", "one rater", "file", "candidate", "readers", "negative"])
def test_bad_input_is_one_sentence_and_exit_code_2(folder, tmp_path, capsys, what):
    out, more = tmp_path / "out", []
    if what == "missing":
        folder = tmp_path / "nowhere"
    elif what == "one rater":
        data = shelf([[5]] * 2)
        folder = write_dataset(data.samples, tmp_path / "single", name="single", task=data.task)
    elif what == "file":
        out.write_text("here")
    elif what == "candidate":
        (tmp_path / "empty").mkdir()
        more = ["--candidate", str(tmp_path / "empty")]
    elif what == "readers":
        more = ["--candidate", str(folder)]
    else:
        more = ["--resamples", "-1"]
    assert call(["agree", str(folder), "--out", str(out), *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert not (out / "agreement.json").exists()


def test_json_of_candidates_comes_first():
    data = drawn_by([0, 1, -1], cases=3)
    tests = within_spread(data, {s.name: s.masks[0] for s in data.samples}, resamples=10, name="net")
    rows = report(agree(data, resamples=10), tests)["tables"]["spread"]
    assert [row["candidate"] for row in rows] == ["net", "rater1", "rater2", "rater3"]


def test_a_long_name_beside_a_chart_keeps_both_ends() -> None:
    assert short("Dr. A. Longname-Radiologist 6") == "Dr. A. L…logist 6"
    assert short("seventeen letters") == "seventeen letters"


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (9, 1)])
def test_an_outline_lies_where_its_mask_lies(corner: tuple[int, int]) -> None:
    mask = np.zeros((12, 16), bool)
    row, column = corner
    mask[row : row + 2, column : column + 3] = True
    points = np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", outline(mask)), float)
    # half a pixel around the pixels' centres: their borders
    assert points.min(axis=0).tolist() == [column, row]
    assert points.max(axis=0).tolist() == [column + 3, row + 2]
    assert outline(np.zeros((12, 16), bool)) == ""
