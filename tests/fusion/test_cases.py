"""Whole data sets: pooled skill, intervals, and the folder that is written."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import write_dataset
from mrprism.fusion import FUSIONS
from mrprism.fusion.by_pattern import skill_counts
from mrprism.fusion.cases import fuse_cases
from mrprism.fusion.pooling import pool_skill
from mrprism.fusion.skill_table import SkillRow, skill_table
from mrprism.images import read_image, read_mask

TRUE_SKILL = np.array([[0.95, 0.97], [0.8, 0.99], [0.6, 0.9], [0.9, 0.7]])  # sensitivity, specificity


def simulated(count=12, size=24, seed=0, structures=1):
    """Cases of independent pixels by raters of known skill; patients of two cases each."""
    rng = np.random.default_rng(seed)
    cases = []
    for i in range(count):
        truth = np.zeros((structures, size, size), bool)
        for c in range(structures):
            low = rng.integers(2, 8)
            truth[c, low : low + 10 - 3 * c, 5 : 5 + rng.integers(6, 14)] = True
        p, q = TRUE_SKILL.T[..., None, None, None]
        masks = np.where(truth, rng.random((4, *truth.shape)) < p, rng.random((4, *truth.shape)) > q)
        cases.append(
            MultiRaterSample(
                name=f"case {i}",
                image=rng.random((1, size, size)).astype(np.float32),
                masks=masks,
                rated=np.ones((4, structures), bool),
                reference=truth,
                group=f"patient {i // 2}",
            )
        )
    return cases


def without(case, rater, structure):
    masks, rated = case.masks.copy(), case.rated.copy()
    masks[rater, structure], rated[rater, structure] = False, False
    return MultiRaterSample(case.name, case.image, masks, rated, case.reference, case.group)


def written(tmp_path, cases, structures=("disc",), anonymous=False):
    task = Task(1, structures, ("ann", "ben", "cem", "dan"), anonymous)
    return write_dataset(cases, tmp_path / "data", name="phantom", task=task)


@pytest.mark.parametrize("method", ["staple", "dawid-skene"])
def test_pooling_finds_the_raters_skill(method):
    cases = [without(case, i % 4, 0) for i, case in enumerate(simulated(20))]
    skill = pool_skill(cases, method, margin=None)
    found = np.stack([skill.confusion[:, 0, 1, 1], skill.confusion[:, 0, 0, 0]], axis=1)
    # STAPLE's prior is the mean vote, which false marks raise; Dawid and Skene's is estimated
    np.testing.assert_allclose(found, TRUE_SKILL, atol=0.1 if method == "staple" else 0.05)


def test_a_pool_of_one_case_is_the_case_alone():
    cases = simulated(1)
    pooled = next(fuse_cases(cases, "staple", pooled=True))
    alone = FUSIONS["staple"](cases[0].masks, cases[0].rated)
    np.testing.assert_allclose(pooled.probability, alone.probability, atol=1e-5)
    np.testing.assert_allclose(pooled.confusion, alone.confusion, atol=1e-5)


def test_pooling_helps_where_images_are_small():
    cases = simulated(30, size=20, seed=4)

    def errors(pooled):
        fused = fuse_cases(cases, "staple", pooled=pooled)
        return sum(((f.probability > 0.5) != c.reference).sum() for f, c in zip(fused, cases, strict=True))

    assert errors(pooled=True) < errors(pooled=False)


def test_a_structure_nobody_drew_is_named():
    case = simulated(1)[0]
    for rater in range(4):
        case = without(case, rater, 0)
    with pytest.raises(InputError, match="case 'case 0': structure 0: no rater"):
        next(fuse_cases([case], "majority"))
    with pytest.raises(InputError, match="no rater at all"):
        pool_skill([case])
    with pytest.raises(InputError, match="unknown method 'vote'; known: soft-vote"):
        next(fuse_cases([case], "vote"))
    with pytest.raises(InputError, match="not for 'majority'"):
        next(fuse_cases([case], "majority", pooled=True))


def test_skill_counts_are_those_of_staple():
    case = without(simulated(1)[0], 2, 0)
    fused = FUSIONS["staple"](case.masks, case.rated)
    counts = skill_counts(case.masks, case.rated, fused.probability)
    assert not counts[2].any()
    rates = counts[[0, 1, 3], 0] / counts[[0, 1, 3], 0].sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(rates, fused.confusion[[0, 1, 3], 0], atol=1e-4)


def test_intervals():
    cases = simulated(12)
    counts = np.stack(
        [skill_counts(c.masks, c.rated, c.reference.astype(np.float32), margin=None) for c in cases]
    )
    rows = skill_table(counts, ["a", "b", "c", "d"], ["disc"], [c.group for c in cases])
    for row, (p, q) in zip(rows, TRUE_SKILL, strict=True):
        assert row.sensitivity_low - 0.02 < p < row.sensitivity_high + 0.02
        assert row.specificity_low - 0.02 < q < row.specificity_high + 0.02
        assert row.dice_low < row.dice < row.dice_high
        assert row.cases == 12
        assert row.interval == "bootstrap over 6 patients"
    one = skill_table(counts[:1], ["a", "b", "c", "d"], ["disc"], ["p"])[0]
    assert one.sensitivity_low < one.sensitivity < one.sensitivity_high
    assert "too narrow" in one.interval
    none = skill_table(counts[:1] * 0, ["a", "b", "c", "d"], ["disc"], ["p"])[0]
    assert none.sensitivity is None
    assert none.interval == "none: did not rate"


def test_who_drew_alone_is_not_held_against_their_own_mask():
    alone = np.zeros((2, 2, 1, 2, 2))
    alone[0, 0, 0] = [[90, 0], [0, 10]]
    rows = skill_table(alone, ["a", "b"], ["disc"], ["p", "q"])
    assert [(row.cases, row.dice, row.interval) for row in rows] == [
        (0, None, "none: always alone"),
        (0, None, "none: did not rate"),
    ]
    alone[1, :, 0] = [[80, 10], [5, 5]]
    first = skill_table(alone, ["a", "b"], ["disc"], ["p", "q"])[0]
    assert (first.cases, first.sensitivity) == (1, 0.5)


@pytest.mark.parametrize("pooled", [False, True])
def test_command_writes_what_fuse_cases_gives(tmp_path, pooled, capsys):
    cases = simulated(4, structures=2)
    cases[1] = without(cases[1], 0, 0)
    for rater in range(4):
        cases[2] = without(cases[2], rater, 1)
    data = written(tmp_path, cases, ("disc", "cup"))
    flags = ["--pooled"] if pooled else []
    assert call(["fuse", str(data), "--out", str(tmp_path / "out"), "--json", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cases"] == 4
    assert told["undrawn"] == [["case 2", "cup"]]
    assert not (tmp_path / "out/cases/case-2/cup.png").exists()
    expected = FUSIONS["staple"](cases[0].masks, cases[0].rated)
    if pooled:
        skill = pool_skill(cases)
        expected = FUSIONS["staple"](cases[0].masks, cases[0].rated, skill=skill.confusion)
    for c, structure in enumerate(("disc", "cup")):
        folder = tmp_path / "out/cases/case-0"
        chance = read_image(folder / f"{structure}_probability.png").array[0]
        np.testing.assert_allclose(chance, expected.probability[c], atol=2e-5)
        mask = read_mask(folder / f"{structure}.png").array
        np.testing.assert_array_equal(mask, expected.probability[c] > 0.5)
    with (tmp_path / "out/skill.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rater"] for row in rows] == ["ann", "ben", "cem", "dan"] * 2
    assert rows[0]["cases"] == "3"
    assert float(rows[0]["sensitivity"]) == told["skill"][0]["sensitivity"]
    assert json.loads((tmp_path / "out/skill.json").read_text()) == told["skill"]


def test_command_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    data = written(tmp_path, simulated(4))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert call(["fuse", str(data), "--out", str(whole)]) == 0

    import mrprism.fusion.folder as folder

    fuse, done = folder.some_structures, []

    def killed(case, *arguments, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(case.name)
        return fuse(case, *arguments, **options)

    monkeypatch.setattr(folder, "some_structures", killed)
    assert call(["fuse", str(data), "--out", str(broken)]) == 130
    assert not (broken / "skill.csv").exists()
    before = (broken / "cases/case-0/case.json").stat().st_mtime_ns
    monkeypatch.setattr(folder, "some_structures", fuse)
    assert call(["fuse", str(data), "--out", str(broken)]) == 0
    assert (broken / "cases/case-0/case.json").stat().st_mtime_ns == before
    for path in whole.rglob("*"):
        if path.is_file():
            assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert {p.relative_to(whole) for p in whole.rglob("*")} == {
        p.relative_to(broken) for p in broken.rglob("*")
    }


def test_command_refuses_in_one_sentence(tmp_path, capsys):
    data = written(tmp_path, simulated(2), anonymous=True)
    out = str(tmp_path / "out")

    def said(*arguments):
        assert call(["fuse", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "unknown method 'vote'; known: soft-vote" in said(str(data), "--out", out, "--method", "vote")
    assert "anonymous" in said(str(data), "--out", out, "--pooled")
    assert "not for 'simple'" in said(str(data), "--out", out, "--pooled", "--method", "simple")
    assert "--ties belongs to --method majority" in said(str(data), "--out", out, "--ties", "background")
    assert "one data set" in said(str(data), str(data), "--out", out)
    assert not (tmp_path / "out").exists()
    assert call(["fuse", str(data), "--out", out, "--method", "majority"]) == 0
    capsys.readouterr()
    assert "method majority, not staple" in said(str(data), "--out", out)
    assert "other files" in said(str(data), "--out", str(data))


def test_the_bootstrap_takes_no_more_memory_for_more_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of a few resamples it gives what it gives at once; what is kept is the counts."""
    import tracemalloc

    from mrprism.fusion import skill_table as module

    def table(patients: int) -> list[SkillRow]:
        counts = np.random.default_rng(1).integers(1, 50, (patients, 2, 3, 2, 2)).astype(float)
        names = [str(number) for number in range(patients)]
        return skill_table(counts, ("ann", "bob"), ("disc", "cup", "rim"), names, resamples=40)

    at_once = table(30)
    for block in (1, 100, 7 * 30, 10_000):
        monkeypatch.setattr(module, "BLOCK", block)
        in_blocks = table(30)
        for one, other in zip(at_once, in_blocks, strict=True):
            assert one.structure == other.structure and one.rater == other.rater
            assert one.sensitivity_low == pytest.approx(other.sensitivity_low, rel=1e-12)
            assert one.dice_high == pytest.approx(other.dice_high, rel=1e-12)
    monkeypatch.setattr(module, "BLOCK", 1 << 15)
    peaks = []
    for patients in (1000, 5000):
        tracemalloc.start()
        table(patients)
        peaks.append(tracemalloc.get_traced_memory()[1] / patients)
        tracemalloc.stop()
    assert (
        peaks[1] < 2000
    )  # bytes a patient; the draws alone were 40 × 8 × patients before, and 16,000 by default
