"""The page: honest sentences, bold only by proof, and no crash when pieces are missing."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fabricate import RATERS, fabricate_comparison, fabricate_run  # type: ignore[import-not-found]
from markup import Shape

from mrprism import cli
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.metrics.examples import write_example
from mrprism.metrics.scores import Row, read_table, write_table
from mrprism.report import build_report, findings
from mrprism.report.build import render
from mrprism.report.findings import headline, main_table, points, rank_agreement, rank_raters, remarks
from mrprism.report.pictures import flatten, outline_path, window_of
from mrprism.report.reading import entries_of, main_entry, read_runs

SMALL = {"cases": 5, "size": 36}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return fabricate_comparison(tmp_path_factory.mktemp("runs"), **SMALL)


def page_of(*runs: Path) -> str:
    return render(read_runs(runs))


def visible(page: str) -> str:
    page = re.sub(r"<style.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_whole_page(comparison: list[Path], tmp_path: Path) -> None:
    out = build_report(comparison, tmp_path / "new folder" / "page.html")
    page = out.read_text(encoding="utf-8")
    shape = Shape()
    shape.feed(page)
    assert shape.wrong == shape.open == []
    for heading in (
        "From one recurrence",
        "Example cases",
        "Where each rater is expected",
        "The raters, by mean confidence",
        "Settings",
    ):
        assert heading in page
    assert "Training" in page
    # nothing is fetched from anywhere, and nothing runs
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "url(http" not in page
    assert "<script" not in page
    assert [file.name for file in out.parent.iterdir()] == ["page.html"]


def test_the_same_runs_give_the_same_page(comparison: list[Path]) -> None:
    assert page_of(comparison[0]) == page_of(comparison[0])


def make_runs(tmp_path: Path, dices: dict[str, np.ndarray], **options: dict[str, object]) -> list[Path]:
    """Runs with given Dice of one structure, and no pictures."""
    for name, values in dices.items():
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            Row(f"c{i}", f"p{i}", "cup", "final", "reference", "dice", float(v)) for i, v in enumerate(values)
        ]
        write_table(rows, folder / "table.csv")
        config = {"method": name, "options": options.get(name, {}), "task": {"structures": ["cup"]}}
        (folder / "config.json").write_text(json.dumps(config))
    return [tmp_path / name for name in dices]


def sentence(runs: list[Path]) -> str:
    entries = entries_of(read_runs(runs))
    return headline(entries, main_entry(entries), ["cup"])


NOISE = np.random.default_rng(0).normal(0, 0.01, (3, 30))


def test_no_folder_of_the_author_is_on_the_page(comparison: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(comparison[0], run)
    config = json.loads((run / "config.json").read_text())
    config["dataset_path"] = "/home/mallory/secret project/retina-set"
    (run / "config.json").write_text(json.dumps(config))
    page = build_report([run], tmp_path / "page.html").read_text()
    assert "mallory" not in page
    assert str(tmp_path) not in page
    assert "retina-set" in page


def test_says_when_it_wins(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"other": 0.90 + NOISE[0], "mrprism": 0.93 + NOISE[1]})
    assert re.fullmatch(
        r"On 30 test cases, MrPrism does better than other on the cup "
        r"\(Dice 93\.\d against 89\.\d, difference \+\d\.\d to \+\d\.\d\)\.",
        sentence(runs),
    )


def test_says_when_it_loses(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"a": 0.90 + NOISE[0], "b": 0.96 + NOISE[2], "mrprism": 0.93 + NOISE[1]})
    said = sentence(runs)
    assert "MrPrism falls behind b, the best of 2 other methods, on the cup" in said
    assert "difference −" in said


def test_says_when_nobody_wins(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"mrprism": 0.93 + NOISE[1], "other": 0.9301 + NOISE[0]})
    assert "shows no clear difference to other on the cup" in sentence(runs)


def test_points() -> None:
    assert [points(x) for x in (0.012, -0.0312, -0.0001, 0.0004)] == ["+1.2", "−3.1", "0.0", "0.0"]


def test_the_ceiling_is_no_rival(tmp_path: Path) -> None:
    dices = {"mrprism": 0.93 + NOISE[1], "fused-label": 0.97 + NOISE[0]}
    runs = make_runs(tmp_path, dices, **{"fused-label": {"label": "reference"}})
    assert sentence(runs).startswith("On 30 test cases, MrPrism outlines the cup with a Dice of 93")
    table = main_table(entries_of(read_runs(runs)), ["cup"])
    assert [block.title.split(":")[0] for block in table.structures[0].blocks] == [
        "Look at the image only",
        "Ceiling",
    ]
    assert not any(
        cell.best for block in table.structures[0].blocks for line in block.lines for cell in line.cells
    )


@pytest.mark.parametrize(("lead", "bold"), [(0.03, True), (0.0005, False)])
def test_bold_only_when_better_than_all_others_beyond_chance(tmp_path: Path, lead: float, bold: bool) -> None:
    dices = {"a": 0.9 + lead + NOISE[0], "b": 0.9 + NOISE[1], "c": 0.8 + NOISE[2]}
    table = main_table(entries_of(read_runs(make_runs(tmp_path, dices))), ["cup"])
    (block,) = table.structures[0].blocks
    assert [line.cells[0].best for line in block.lines] == [bold, False, False]


def test_lower_is_better_for_errors(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"a": 0.5 + NOISE[0], "b": 0.3 + NOISE[1]})
    for run in runs:
        rows = [row._replace(target="mean of raters", metric="ece") for row in read_table(run / "table.csv")]
        write_table(rows, run / "table.csv")
    (block,) = main_table(entries_of(read_runs(runs)), ["cup"]).structures[0].blocks
    assert [line.cells[0].best for line in block.lines] == [False, True]


def test_what_reads_masks_stands_apart_and_is_never_bold(comparison: list[Path]) -> None:
    table = main_table(entries_of(read_runs(comparison)), ["disc", "cup"])
    for part in table.structures:
        assert [len(block.lines) for block in part.blocks] == [4, 1, 1]
        fused = part.blocks[-1].lines[0]
        assert fused.entry.reads == "masks"
        assert not any(cell.best for cell in fused.cells)
        assert "100.0" in [cell.mean for cell in fused.cells]


def test_numbers_of_the_table(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, {"mrprism": np.array([0.8, 0.9, 0.7, 0.95])})
    far = [2.0, 4.0, math.nan, 3.0]
    rows = read_table(run / "table.csv")
    rows += [row._replace(metric="hd95", value=far[i]) for i, row in enumerate(rows)]
    write_table(rows, run / "table.csv")
    (block,) = main_table(entries_of(read_runs([run])), ["cup"]).structures[0].blocks
    dice, hd95 = block.lines[0].cells
    assert (dice.mean, dice.spread, dice.missing) == ("83.8", "11.1", 0)
    assert (hd95.mean, hd95.spread, hd95.missing) == ("3.00", "1.00", 1)
    assert "HD95 of the cup in up to 1 cases" in visible(page_of(run))


def test_seeds_become_one_line(tmp_path: Path) -> None:
    runs = [
        fabricate_run(tmp_path / f"seed{s}", seed=s, examples=False, log=False, **SMALL) for s in (0, 1, 2)
    ]
    (entry,) = entries_of(read_runs(runs))
    assert len(entry.runs) == 3
    assert "3 seeds" in page_of(*runs)


def test_methods_of_one_name_are_told_apart_by_their_options(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"mrprism": 0.9 + NOISE[0], "x": 0.9 + NOISE[1]})
    config = json.loads((runs[0] / "config.json").read_text())
    for run, fusion in zip(runs, ("log-odds", "ratio"), strict=True):
        (run / "config.json").write_text(json.dumps(config | {"options": {"fusion": fusion, "shuffle": 0.3}}))
    names = [entry.name for entry in entries_of(read_runs(runs))]
    assert names == ["MrPrism (fusion log-odds)", "MrPrism (fusion ratio)"]


def test_different_cases_are_not_passed_over(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"mrprism": 0.9 + NOISE[0], "b": 0.8 + NOISE[1][:20]})
    entries = entries_of(read_runs(runs))
    assert any("different cases (20 in common)" in said for said in remarks(entries, entries[0], ["cup"]))


def test_a_collapse_is_said_at_the_top(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, {"mrprism": 0.1 + NOISE[0]})
    (run / "result.json").write_text(
        json.dumps({"collapsed": True, "collapse": ["the cup is the same everywhere"]})
    )
    assert "MrPrism collapsed in mrprism: the cup is the same everywhere" in visible(page_of(run))


def test_raters_are_ranked_beside_their_true_skill(comparison: list[Path]) -> None:
    entry = main_entry(entries_of(read_runs(comparison)))
    ranked = rank_raters(entry, RATERS, ["disc", "cup"])
    assert {ranked[0].name, ranked[1].name} == {"Abe", "Barnes"}  # the two good hands
    assert all(a.trust >= b.trust for a, b in itertools.pairwise(ranked))
    from scipy.stats import spearmanr

    expected = spearmanr([r.trust for r in ranked], [r.skill for r in ranked]).statistic
    assert rank_agreement(ranked) == pytest.approx(expected)


BARE = [
    {"recurrences": 0},
    {"confidence": False},
    {"reference": False},
    {"anonymous": True},
    {"missing": True},
    {"log": False},
    {"examples": False},
    {"spacing": True},
    {"cases": 1},
    {"cases": 2},
    {"recurrences": 7},
    {"raters": ("only one",)},
    {"raters": tuple(f"rater {i}" for i in range(23))},
    {"recurrences": 0, "confidence": False, "reference": False, "log": False, "method": "fused-label"},
]


@pytest.mark.parametrize("setting", BARE, ids=str)
def test_missing_pieces_leave_their_section_out(tmp_path: Path, setting: dict[str, object]) -> None:
    page = page_of(fabricate_run(tmp_path / "run", **(SMALL | setting)))
    text = visible(page)
    assert ("From one recurrence" in text) == (setting.get("recurrences", 4) != 0)
    assert ("Where each rater is expected" in text) == (
        setting.get("confidence", True) and setting.get("examples", True)
    )
    assert ("by mean confidence" in text) == (
        setting.get("confidence", True) and not setting.get("anonymous", False)
    )
    assert ("True skill" in text) == ("by mean confidence" in text and setting.get("reference", True))
    assert ("against the reference" in text) == setting.get("reference", True)
    assert ("Example cases" in text) == setting.get("examples", True)
    assert ("Training" in page) == setting.get("log", True)
    assert ("Does a probability mean" in text) == setting.get("examples", True)
    assert ("HD95" in text) == ("spacing" in setting)
    assert "nan" not in text.lower()


def test_a_table_alone_is_enough(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, {"new-method": 0.9 + NOISE[0]})
    (run / "config.json").write_text("{}")
    assert "On 30 test cases, ? outlines the cup" in visible(page_of(run))


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    raters = (bad, 'B" onload="x', "$\\frac{1}", "ränk & Co", "", "Ω" * 60, "日本")
    run = fabricate_run(tmp_path / "run", raters=raters, **SMALL)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(
        json.dumps(config | {"dataset": bad, "method": "$x_" + bad, "options": {bad: bad}})
    )
    page = page_of(run)
    assert "<script" not in page
    assert 'B" onload' not in page
    shape = Shape()
    shape.feed(page)
    assert shape.wrong == shape.open == []
    assert "&lt;script&gt;alert(1)" in page


def test_volumes_are_cut_where_most_is_drawn(tmp_path: Path) -> None:
    masks = np.zeros((2, 1, 5, 20, 30), bool)
    masks[:, :, 3, 5:15, 8:20] = True
    masks[:, :, 1, 5:7, 8:10] = True
    sample = MultiRaterSample(
        "volume", np.random.rand(1, 5, 20, 30).astype(np.float32), masks, np.ones((2, 1), bool)
    )
    write_example(tmp_path / "0.npz", sample, Prediction(masks[0].astype(np.float32)))
    from mrprism.metrics.examples import read_example

    flat = flatten(read_example(tmp_path / "0.npz"))
    assert flat.cut == 3
    assert flat.size == (20, 30)
    window = window_of(flat)
    assert window.left >= 0
    assert window.left + window.width <= 30


def test_outlines_of_masks_enclose_their_pixels() -> None:
    mask = np.zeros((12, 12), bool)
    assert outline_path(mask) == ""
    mask[3:9, 0:6] = True  # it touches the border, and is closed there
    points = np.array([part.split() for part in re.split("[MLZ]", outline_path(mask)) if part], float)
    assert outline_path(mask).count("M") == outline_path(mask).count("Z") == 1
    np.testing.assert_allclose([points[:, 0].min(), points[:, 0].max()], [0, 6], atol=0.1)
    np.testing.assert_allclose([points[:, 1].min(), points[:, 1].max()], [3, 9], atol=0.1)
    lone = np.zeros((5, 5), bool)
    lone[2, 2] = True
    assert outline_path(lone)


# ---- the command --------------------------------------------------------------------------------


def test_command(comparison: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert cli.call(["report", str(comparison[0]), str(comparison[1]), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda run: run.rename(run.with_name("gone")), "not a run folder"),
        (lambda run: (run / "config.json").unlink(), "no config.json"),
        (lambda run: (run / "config.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "config.json").write_text("[]"), "one JSON object"),
        (lambda run: (run / "table.csv").unlink(), "does not exist: evaluate the run first"),
        (lambda run: (run / "table.csv").write_text(",".join(Row._fields) + "\n"), "holds no scores"),
        (lambda run: (run / "examples" / "0.npz").write_bytes(b"PK"), "not an example case"),
    ],
)
def test_bad_input(prepare, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fabricate_run(tmp_path / "run", cases=2, size=40)
    prepare(run)
    assert cli.call(["report", str(run), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_runs_of_different_data_are_refused(comparison: list[Path], tmp_path: Path) -> None:
    other = fabricate_run(tmp_path / "other", cases=2, size=40)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"dataset": "something else"}))
    with pytest.raises(InputError, match="of another data set"):
        build_report([comparison[0], other], tmp_path / "page.html")
    with pytest.raises(InputError, match="at least one run"):
        build_report([], tmp_path / "page.html")
    with pytest.raises(InputError, match="is a folder"):
        build_report([comparison[0]], tmp_path)


def test_only_a_page_is_replaced(comparison: list[Path], tmp_path: Path) -> None:
    """A slip of the shell's completion names the run's own config, its weights, a data set's manifest."""
    for name, content in (("config.json", b"{}"), ("weights.safetensors", b"\x08\0\0\0\0\0\0\0{}")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="not an HTML page: name another file"):
            build_report(comparison, tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    page = tmp_path / "page.html"
    page.touch()
    for _ in range(2):
        assert build_report(comparison, page).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_needs_no_torch() -> None:
    code = "import sys, mrprism.report; sys.exit(not sys.modules.keys().isdisjoint({'torch', 'matplotlib'}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_raters_are_ranked_by_the_weight_that_acts_where_a_run_says_it(tmp_path: Path) -> None:
    """Not by the mean of a map most of which is background."""
    run = fabricate_run(tmp_path / "run", **SMALL)
    entry = main_entry(entries_of(read_runs([run])))
    assert findings.ranked_by(entry, RATERS, ["disc", "cup"]) == "confidence"
    rows = read_table(run / "table.csv")
    cases = dict.fromkeys((row.case, row.group) for row in rows)
    rows += [
        Row(case, group, structure, "final", f"rater:{name}", "weight", 0.6 + 0.05 * place)
        for case, group in cases
        for structure in ("disc", "cup")
        for place, name in enumerate(RATERS)
    ]
    write_table(rows, run / "table.csv")
    entry = main_entry(entries_of(read_runs([run])))
    assert [rater.name for rater in rank_raters(entry, RATERS, ["disc", "cup"])] == list(reversed(RATERS))
    text = visible(page_of(run))
    assert "by their weight in the fusion" in text and "Weight in the fusion" in text
    assert "by mean confidence" not in text


def test_few_patients_make_no_method_better(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"mrprism": 0.9 + NOISE[0][:3], "b": 0.5 + NOISE[1][:3]})
    entries = entries_of(read_runs(runs))
    said = headline(entries, entries[0], ["cup"])
    assert "too few to compare anything" in said
    assert "better" not in said
    assert not any(
        cell.best
        for part in main_table(entries, ["cup"]).structures
        for block in part.blocks
        for line in block.lines
        for cell in line.cells
    )


def test_a_collapsed_method_is_nobodys_rival(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"mrprism": 0.9 + NOISE[0], "b": 0.5 + NOISE[1]})
    (runs[0] / "result.json").write_text(json.dumps({"collapsed": True, "collapse": ["the cup is constant"]}))
    entries = entries_of(read_runs(runs))
    assert "collapsed" in headline(entries, entries[0], ["cup"])
    assert "better" not in headline(entries, entries[0], ["cup"])


def test_where_every_dice_is_equal_no_case_is_the_best(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run = fabricate_comparison(root, **SMALL)[0]
    assert '<span class="role">best</span>' in page_of(run)
    lines = (run / "table.csv").read_text().splitlines()
    place = lines[0].split(",").index("value")
    cells = [line.split(",") for line in lines[1:]]
    flat = [
        ",".join([*row[:place], "0", *row[place + 1 :]]) if "dice" in row else ",".join(row) for row in cells
    ]
    (run / "table.csv").write_text("\n".join([lines[0], *flat, ""]))
    assert '<span class="role">' not in page_of(run)


def test_settings_read_as_words(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, {"a": 0.9 + NOISE[0], "b": 0.8 + NOISE[1]})
    seeds = []
    for run, flag in zip(runs, (True, False), strict=True):
        config = json.loads((run / "config.json").read_text())
        config |= {"options": {"attention": flag}, "dataset_hash": "0123456789abcdef" * 4}
        (run / "config.json").write_text(json.dumps(config))
        seeds.append(run.parent / f"{run.name}-runs" / "seed0")
        seeds[-1].parent.mkdir()
        run.rename(seeds[-1])
    said = visible(page_of(*seeds))
    assert "a-runs, seed0" in said and "b-runs, seed0" in said
    assert "0123456789ab…" in said and "0123456789abc" not in said
    assert "yes" in said and "True" not in said
