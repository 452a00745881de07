"""Tables against numbers worked out by hand, from folders made by hand."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from markup import Shape

from mrprism.compare import write_comparison
from mrprism.compare.candidates import TABLES, TableOfContents
from mrprism.compare.figures import rater_tables
from mrprism.compare.formats import escape, to_csv, to_latex, to_markdown
from mrprism.compare.page import outlines_best, remarks
from mrprism.compare.plan import Wanted, read_plan, write_plan
from mrprism.compare.results import read_comparison
from mrprism.compare.tables import Table, make_tables
from mrprism.core.errors import InputError
from mrprism.metrics.scores import FINAL, MEAN, RATERS, REFERENCE, Row

from .folder import CASES, make_plan, make_run

SOFT, HARD = "fused-label-label=soft-vote", "fused-label-label=majority"
BASE = np.linspace(0.70, 0.81, 12)  # mean 0.755


def flat(values: np.ndarray) -> dict[str, list[float]]:
    return {FINAL: values.tolist()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """On every case crowd layer is 5 points above the soft vote, the hard vote 10 below; two seeds."""
    make_plan(tmp_path, methods=["crowd-layer", "mrprism"])
    for seed, shift in ((0, -0.01), (1, 0.01)):
        make_run(tmp_path, SOFT, seed, flat(BASE + shift))
        make_run(tmp_path, HARD, seed, flat(BASE - 0.1 + shift))
        make_run(tmp_path, "crowd-layer", seed, flat(BASE + 0.05 + shift))
        steps = {"Rec0": (BASE + 0.2).tolist(), "Rec1": (BASE - 0.05).tolist(), FINAL: (BASE - 0.05).tolist()}
        given = [
            Row(c, f"patient{i}", "disc", FINAL, REFERENCE, "dice", 0.99, "both") for i, c in enumerate(CASES)
        ]
        make_run(tmp_path, "mrprism", seed, steps, more=given)
    return tmp_path


def the_table(folder: Path, name: str = "methods") -> Table:
    return next(t for t in make_tables(read_comparison(folder)) if t.contents.name == name)


def cell(table: Table, label: str, target: str, metric: str):  # type: ignore[no-untyped-def]
    (line,) = (line for line in table.structures[0].lines if line.label == label)
    place = next(i for i, c in enumerate(table.columns) if (c.target, c.metric) == (target, metric))
    return line.cells[place]


def test_mean_over_cases_and_spread_over_seeds(folder: Path) -> None:
    found = cell(the_table(folder), "Crowd layer (MW)", REFERENCE, "dice")
    assert found.mean == pytest.approx(0.805)
    assert found.spread == pytest.approx(np.std([0.795, 0.815], ddof=1))
    soft = cell(the_table(folder), "Crowd layer (MW)", REFERENCE, "soft_dice")
    assert soft.mean == pytest.approx(0.795)


def test_bold_is_who_beats_every_other_and_only_in_the_right_direction(folder: Path) -> None:
    table = the_table(folder)
    for target, metric in ((REFERENCE, "dice"), (MEAN, "brier")):
        bold = [x.label for x in table.structures[0].lines if cell(table, x.label, target, metric).best]
        assert bold == ["Crowd layer (MW)"]
    apart = cell(table, "U-Net on the hard vote", REFERENCE, "dice").against.difference
    assert apart.mean == pytest.approx(0.15)


def test_luck_with_one_seed_is_not_bold(folder: Path) -> None:
    """Over the seeds 5 points ahead for every patient, but 6 behind with one of them."""
    for seed, gain in ((0, 0.15), (1, -0.05)):
        (folder / "runs" / "crowd-layer" / f"seed{seed}").rename(folder / f"old{seed}")
        make_run(folder, "crowd-layer", seed, flat(BASE + gain))
    found = cell(the_table(folder), "Crowd layer (MW)", REFERENCE, "dice")
    assert found.mean == pytest.approx(0.805)
    assert not found.best
    assert found.level


def test_a_tie_is_not_bold(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in (0, 1):
        table = folder / "runs" / SOFT / f"seed{seed}" / "table.csv"
        table.unlink()
        table.parent.rename(folder / f"old{seed}")
        make_run(folder, SOFT, seed, flat(BASE + 0.05 + rng.normal(0, 0.02, 12)))
    table_ = the_table(folder)
    assert not any(found.best for line in table_.structures[0].lines for found in line.cells[:2])
    assert cell(table_, "U-Net on the soft vote", REFERENCE, "dice").level
    assert cell(table_, "Crowd layer (MW)", REFERENCE, "dice").level
    assert not cell(table_, "U-Net on the hard vote", REFERENCE, "dice").level


def test_only_the_last_recurrence_competes(folder: Path) -> None:
    """Rec0 is the highest number here, and no winner."""
    table = the_table(folder)
    lines = {line.label: line for line in table.structures[0].lines}
    assert not lines["MrPrism Rec0"].competes
    assert lines["MrPrism Rec1"].competes
    assert (
        cell(table, "MrPrism Rec0", REFERENCE, "dice").mean
        > cell(table, "Crowd layer (MW)", REFERENCE, "dice").mean
    )
    assert not cell(table, "MrPrism Rec0", REFERENCE, "dice").best


def test_who_was_given_the_masks_stands_apart(folder: Path) -> None:
    labels = [line.label for line in the_table(folder).structures[0].lines]
    assert "DivP (MrPrism)" not in labels
    fusions = the_table(folder, "fusions")
    assert [line.label for line in fusions.structures[0].lines] == [
        "Majority vote", "STAPLE", "DivP (MrPrism)"
    ]  # fmt: skip
    assert fusions.structures[0].lines[-1].reads == "both"
    assert cell(fusions, "DivP (MrPrism)", REFERENCE, "dice").mean == pytest.approx(0.99)


def test_no_column_mixes_targets(folder: Path) -> None:
    assert the_table(folder).groups == [
        (REFERENCE, ["soft_dice", "dice"]),
        (MEAN, ["soft_dice", "dice", "ece", "brier"]),
    ]


def test_the_ceiling_stands_there_and_competes_with_nobody(tmp_path: Path) -> None:
    make_plan(tmp_path, methods=["crowd-layer"], seeds=[0], has_reference=True)
    for key, gain in (
        (SOFT, 0.0),
        (HARD, -0.1),
        ("crowd-layer", 0.05),
        ("fused-label-label=reference", 0.15),
    ):
        make_run(tmp_path, key, 0, flat(BASE + gain))
    table = the_table(tmp_path)
    assert table.structures[0].lines[-1].label == "U-Net on the reference (a ceiling)"
    assert cell(table, "Crowd layer (MW)", REFERENCE, "dice").best
    assert np.isnan(cell(table, "Crowd layer (MW)", REFERENCE, "dice").spread)


def test_failed_and_impossible_methods_keep_a_line_that_says_why(folder: Path) -> None:
    make_plan(
        folder, methods=["crowd-layer", "mrprism", "mrnet", "wdnet"],
        impossible={"wdnet": "method 'wdnet' learns each rater as a person"},
    )  # fmt: skip
    for seed in (0, 1):
        (folder / "runs" / "mrnet").mkdir(exist_ok=True)
        (folder / "runs" / "mrnet" / f"seed{seed}.failed").write_text(
            "the loss is not a number any more & 5 %\n"
        )
    page, tables = write_comparison(folder)
    lines = {line.label: line for line in tables[0].structures[0].lines}
    assert lines["MRNet"].why.startswith("the loss is not a number")
    assert "as a person" in lines["WDNet"].why
    text = page.read_text()
    assert "the loss is not a number any more &amp; 5 %" in text
    latex = (folder / "methods.tex").read_text()
    assert r"the loss is not a number any more \& 5 \%" in latex


def test_one_failed_seed_leaves_the_others_in(folder: Path) -> None:
    (folder / "runs" / "crowd-layer" / "seed1").rename(folder / "away")
    (folder / "runs" / "crowd-layer" / "seed1.failed").write_text("no memory\n")
    line = next(x for x in the_table(folder).structures[0].lines if x.label == "Crowd layer (MW)")
    assert line.why == "seed 1 failed: no memory"
    assert line.seeds == 1
    assert line.cells[1].mean == pytest.approx(0.795)


def test_csv_holds_every_number_exactly(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(the_table(folder)))))
    row = next(row for row in rows if row["method"] == "U-Net on the hard vote")
    assert float(row["reference: dice: mean"]) == pytest.approx(0.655)
    assert float(row["reference: dice: best_minus_this"]) == pytest.approx(0.15)
    assert float(row["reference: dice: p_all_pairs"]) < 0.05
    assert row["reference: dice: verdict"] == "worse"
    assert row["reads"] == "image"
    best = next(row for row in rows if row["method"] == "Crowd layer (MW)")
    assert best["reference: dice: verdict"] == "best"


def test_latex_has_as_many_cells_as_columns(folder: Path) -> None:
    text = to_latex(the_table(folder), "5 % level")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(lines) == 5  # soft, hard, crowd layer, two recurrences
    assert {line.count("&") for line in lines} == {6}
    assert text.count(r"\textbf{80.5}") == 2
    assert r"5 \% level" in text
    assert escape("a_b & 50 %") == r"a\_b \& 50 \%"


def test_latex_says_who_read_the_masks(folder: Path) -> None:
    text = to_latex(the_table(folder, "fusions"), "")
    (line,) = [line for line in text.splitlines() if line.startswith("DivP")]
    head = next(line for line in text.splitlines() if line.startswith("Method"))
    assert head.startswith("Method & Reads &")
    assert "masks it is scored on" in line
    assert line.count("&") == head.count("&")


def test_markdown_has_as_many_cells_as_columns(folder: Path) -> None:
    text = to_markdown(the_table(folder), "Underlined: level.")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 5
    assert {line.count("|") for line in lines} == {8}
    assert text.count("**80.5**") == 2
    assert text.startswith("### Methods\n")
    assert text.endswith("Italic: level.\n")


def test_only_tables_of_the_paper_have_a_number() -> None:
    assert [TABLES[name].number for name in TABLES] == ["Table 1", "Table 2", "Table 3", "Table 4", ""]
    assert TableOfContents("methods", "Methods", ()).number == ""


def test_the_page_is_whole_and_needs_nothing_from_outside(folder: Path) -> None:
    text = write_comparison(folder)[0].read_text()
    shape = Shape()
    shape.feed(text)
    assert (shape.open, shape.wrong) == ([], [])
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "<b>80.5</b>" in text
    assert "Crowd layer (MW) outlines the disc best (80.5)" in text
    for rater in ("ann", "bob"):
        assert f"<th>{rater}</th>" in text
    for cost in ("1.50 M", "60 s", "12.5", "900 MiB"):
        assert cost in text


def test_anonymous_raters_are_not_listed_one_by_one(folder: Path) -> None:
    plan = read_comparison(folder).plan
    task = {**plan.model_dump()["task"], "anonymous": True}
    make_plan(folder, methods=["crowd-layer", "mrprism"], task=type(plan.task)(**task))
    assert "<th>ann</th>" not in write_comparison(folder)[0].read_text()


def test_a_collapse_is_said(folder: Path) -> None:
    (folder / "runs" / "crowd-layer" / "seed1").rename(folder / "away")
    make_run(folder, "crowd-layer", 1, flat(BASE), collapsed=True)
    assert "Crowd layer (MW) collapsed with seed 1: it is constant" in write_comparison(folder)[0].read_text()


def test_runs_on_different_data_are_not_compared(folder: Path) -> None:
    (folder / "runs" / "crowd-layer" / "seed1").rename(folder / "away")
    make_run(folder, "crowd-layer", 1, flat(BASE), dataset_hash="other")
    with pytest.raises(InputError, match="trained on different cases"):
        read_comparison(folder)


def test_a_page_of_nothing_yet(tmp_path: Path) -> None:
    make_plan(tmp_path, methods=["crowd-layer"])
    text = write_comparison(tmp_path)[0].read_text()
    assert "not trained yet" in text


def test_who_is_best_on_several_structures_is_named_once() -> None:
    assert outlines_best("MrPrism", [("disc", "98.2")]) == "MrPrism outlines the disc best (98.2)"
    said = outlines_best("MrPrism", [("disc", "98.2"), ("cup", "96.8")])
    assert said == "MrPrism outlines the disc (98.2) and the cup (96.8) best"


def answers(count: int, ged: np.ndarray) -> list[Row]:
    """What a table says of a method with so many answers."""
    return [
        Row(case, f"patient{i}", "disc", FINAL, RATERS, metric, value, "image")
        for i, case in enumerate(CASES)
        for metric, value in (("answers", count), ("ged", ged[i]), ("dice_max", 0.9), ("volume_crps", 12.0))
    ]


def again(folder: Path, key: str, seed: int = 0, **how: object) -> None:
    """A run in the place of another."""
    (folder / "runs" / key / f"seed{seed}").rename(folder / f"away-{key}-{seed}")
    make_run(folder, key, seed, flat(BASE), **how)  # type: ignore[arg-type]


def test_several_answers_have_a_table_of_their_own_with_the_plain_nets(folder: Path) -> None:
    """Only of methods that give some, and not of fusions that were shown the masks."""
    again(folder, "crowd-layer", more=answers(2, np.full(12, 0.3)))
    again(folder, SOFT, more=answers(1, np.full(12, 0.5)))
    table = the_table(folder, "spread")
    labels = [line.label for line in table.structures[0].lines]
    assert labels == ["U-Net on the soft vote", "U-Net on the hard vote", "Crowd layer (MW)"]
    assert cell(table, "Crowd layer (MW)", RATERS, "ged").mean == pytest.approx(0.3)
    assert cell(table, "Crowd layer (MW)", RATERS, "answers").mean == 2
    assert np.isnan(cell(table, "Crowd layer (MW)", RATERS, "ncc").mean)
    assert "Several answers" in write_comparison(folder)[0].read_text()
    assert (folder / "spread.csv").is_file() and "GED" in (folder / "spread.tex").read_text()
    assert "| answers " in (folder / "spread.md").read_text()
    assert all(c.target != RATERS for c in the_table(folder).columns)


def test_controls_stand_last_among_several_answers_and_compete_with_nobody(folder: Path) -> None:
    """They know the raters' masks: the best number of the column is no winner."""
    plan = read_plan(folder)
    others = (*plan.others, Wanted(method="control"), Wanted(method="control", options={"of": "consensus"}))
    write_plan(plan.model_copy(update={"others": others}), folder)
    for seed in (0, 1):
        again(folder, "crowd-layer", seed, more=answers(7, np.full(12, 0.3)))
    for key, ged in (("control", 0.0), ("control-of=consensus", 0.4)):
        rows = [row._replace(reads="masks") for row in answers(7, np.full(12, ged))]
        make_run(folder, key, 0, flat(BASE), reads="masks", more=rows)
    table = the_table(folder, "spread")
    lines = {line.label: line for line in table.structures[0].lines}
    controls = ["The raters themselves (a control)", "One consensus, repeated (a control)"]
    assert list(lines)[-2:] == controls
    assert cell(table, controls[0], RATERS, "ged").mean == 0
    assert not any(lines[label].competes for label in controls)
    assert not cell(table, controls[0], RATERS, "ged").best
    assert not table.masks
    written, tables = write_comparison(folder)
    everywhere = [line for each in tables for part in each.structures for line in part.lines]
    assert not any(line.competes for line in everywhere if line.result.candidate.method == "control")
    page = written.read_text()
    assert "compete with nobody: the raters themselves are the best that can be" in page


@pytest.mark.parametrize(("count", "bold"), [(5, True), (20, False)])
def test_nothing_is_bold_beside_another_number_of_answers(folder: Path, count: int, bold: bool) -> None:
    for seed in (0, 1):
        again(folder, "crowd-layer", seed, more=answers(5, np.full(12, 0.1) + 0.001 * BASE))
        again(folder, HARD, seed, more=answers(count, np.full(12, 0.3)))
    found = cell(the_table(folder, "spread"), "Crowd layer (MW)", RATERS, "ged")
    assert found.best is bold
    assert not cell(the_table(folder, "spread"), "Crowd layer (MW)", RATERS, "answers").best


def test_a_collapsed_run_is_out_of_the_ranking(folder: Path) -> None:
    """Its numbers stand there, but nobody is held against them."""
    again(folder, "crowd-layer", collapsed=True)
    page, tables = write_comparison(folder)
    (line,) = (x for x in tables[0].structures[0].lines if x.label == "Crowd layer (MW)")
    assert not line.competes
    assert not any(found.best or found.level for found in line.cells)
    assert cell(tables[0], "U-Net on the soft vote", REFERENCE, "dice").best  # of what is left
    assert "collapsed and out of the ranking, with seed 0: it is constant" in page.read_text()


def test_an_answer_that_is_empty_in_every_test_case_has_collapsed(folder: Path) -> None:
    """Whatever its training said: it is empty here; Dice 1 where nothing was drawn is no merit."""
    for key in (SOFT, HARD, "crowd-layer", "mrprism"):
        for seed in (0, 1):
            (folder / "runs" / key / f"seed{seed}").rename(folder / f"away-{key}-{seed}")
            make_run(folder, key, seed, {FINAL: [0.0] * 10 + [1.0] * 2})
    page, tables = write_comparison(folder)
    assert "every network collapsed: there is nothing to compare" in page.read_text()
    assert not any(found.best or found.level for found in tables[0].cells())
    assert "\\textbf" not in (folder / "methods.tex").read_text()


def test_with_few_patients_nobody_is_best(tmp_path: Path) -> None:
    make_plan(tmp_path, methods=["crowd-layer"], seeds=[0])
    for key, gain in ((SOFT, 0.0), (HARD, -0.1), ("crowd-layer", 0.05)):
        run = make_run(tmp_path, key, 0, flat(BASE + gain))
        table = (run / "table.csv").read_text()
        for i in range(12):
            table = table.replace(f"case{i:02d},patient{i},", f"case{i:02d},patient{i % 3},")
        (run / "table.csv").write_text(table)
    page, tables = write_comparison(tmp_path)
    text = page.read_text()
    assert "12 test cases of 3 patients, it cannot be said which method is best: 3 patients: too few" in text
    assert text.count("3 patients: too few") == 1
    assert "<b>" not in text
    assert not any(found.best for found in tables[0].cells())


def test_equal_methods_are_not_called_highest(folder: Path) -> None:
    for key in (SOFT, HARD, "crowd-layer", "mrprism"):
        for seed in (0, 1):
            (folder / "runs" / key / f"seed{seed}").rename(folder / f"away-{key}-{seed}")
            rng = np.random.default_rng(len(key) + seed)
            make_run(folder, key, seed, flat(BASE + rng.normal(0, 0.02, 12)))
    said = write_comparison(folder)[0].read_text()
    assert "no method is best on the disc: no difference could be shown between 4 of 4" in said
    assert "highest Dice" not in said


def of_three_patients(run: Path) -> None:
    table = (run / "table.csv").read_text()
    for i in range(12):
        table = table.replace(f"case{i:02d},patient{i},", f"case{i:02d},patient{i % 3},")
    (run / "table.csv").write_text(table)


def test_with_few_patients_nobody_is_level_either(tmp_path: Path) -> None:
    """An underline says "not to be told from the best", which three patients cannot bear."""
    make_plan(tmp_path, methods=["crowd-layer"], seeds=[0])
    for key in (SOFT, HARD, "crowd-layer"):
        of_three_patients(make_run(tmp_path, key, 0, flat(BASE)))
    page, tables = write_comparison(tmp_path)
    assert not any(found.level for found in tables[0].cells())
    assert 'class="level"' not in page.read_text()


def test_yardsticks_of_fusions_stand_though_the_method_failed(tmp_path: Path) -> None:
    make_plan(tmp_path, methods=["mrprism"], seeds=[0])
    for key in (SOFT, HARD):
        make_run(tmp_path, key, 0, flat(BASE))
    for key in ("fuse-fusion=majority", "fuse-fusion=staple"):
        make_run(tmp_path, key, 0, flat(BASE), reads="masks")
    failed = tmp_path / "runs" / "mrprism"
    failed.mkdir()
    (failed / "seed0.failed").write_text("the disk is full\n")
    table = the_table(tmp_path, "fusions")
    found = {line.label: line.why for line in table.structures[0].lines}
    assert found.pop("DivP (MrPrism)") == "the disk is full"
    assert set(found.values()) == {""} and len(found) == 2


def test_one_training_each_is_said(folder: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    once.mkdir()
    make_plan(once, methods=["crowd-layer"], seeds=[0])
    for key, gain in ((SOFT, 0.0), (HARD, -0.1), ("crowd-layer", 0.05)):
        make_run(once, key, 0, flat(BASE + gain))
    assert "each trained once" in write_comparison(once)[0].read_text()
    assert "each trained once" not in write_comparison(folder)[0].read_text()


def test_networks_that_collapsed_alike_are_named_in_one_sentence(folder: Path) -> None:
    for key in (SOFT, "crowd-layer"):
        for seed in (0, 1):
            again(folder, key, seed, collapsed=True)
    comparison = read_comparison(folder)
    assert remarks(comparison)[0] == (
        "U-Net on the soft vote, Crowd layer (MW) collapsed with seeds 0, 1: it is constant. "
        "They are out of the ranking."
    )
    (part,) = rater_tables(comparison, the_table(folder))
    shades = {name: {cell.shade for cell in cells} for name, cells, *_ in part.lines}
    assert shades["Crowd layer (MW) (collapsed)"] == {"transparent"}
    assert "transparent" not in shades["U-Net on the hard vote"]


def test_what_is_always_there_stands_once_also_in_comparisons_of_earlier_versions(tmp_path: Path) -> None:
    """Which trained it twice, under two names."""
    make_plan(tmp_path, methods=["fused-label", "fuse", "crowd-layer"], seeds=[0])
    for method in (SOFT, HARD, "fused-label", "crowd-layer"):
        make_run(tmp_path, method, 0, flat(BASE))
    labels = [line.label for line in the_table(tmp_path).structures[0].lines]
    assert len(labels) == len(set(labels)) == 3
    assert [line.label for line in the_table(tmp_path, "fusions").structures[0].lines] == [
        "Majority vote",
        "STAPLE",
    ]
