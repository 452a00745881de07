"""Rows of other tools: found, read, scored as a run is, or refused in a sentence."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrprism import cli
from mrprism.compare import Budget, compare
from mrprism.compare.answers import as_probability, find_answers, read_answer
from mrprism.compare.candidates import choose
from mrprism.compare.outside import find_rows, outside, score_row
from mrprism.compare.plan import make_plan, read_plan
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset, open_dataset, write_dataset
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.datasets.split import split_dataset
from mrprism.images import write_mask, write_probability
from mrprism.metrics.scores import score

BUDGET = Budget(epochs=1, size=32, batch_size=4, backbone="small")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_dataset(
        phantom("crowd", size=32, cases=12, seed=3), folder, name="phantom", task=phantom_task("crowd")
    )
    return open_dataset(folder)


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("mrprism.compare.build"), "sweep", lambda *_, **__: {})


def cases_of_tests(data: Dataset) -> list[MultiRaterSample]:
    return [data[name] for name in split_dataset(data, 0).test]


Write = Callable[[Path, MultiRaterSample], None]


def masks_beside(folder: Path, sample: MultiRaterSample) -> None:
    for c, structure in enumerate(("disc", "cup")):
        write_mask(folder / f"{sample.name}_{structure}.png", sample.masks[0, c])


def masks_within(folder: Path, sample: MultiRaterSample) -> None:
    for c, structure in enumerate(("disc", "cup")):
        write_mask(folder / sample.name.upper() / f"mask_{structure}.tif", sample.masks[0, c])


def probabilities(folder: Path, sample: MultiRaterSample) -> None:
    for c, structure in enumerate(("disc", "cup")):
        share = sample.masks[:, c].mean(axis=0, dtype=np.float32)
        write_probability(folder / sample.name / f"probability_{structure}.png", share)


def draws(folder: Path, sample: MultiRaterSample) -> None:
    for c, structure in enumerate(("disc", "cup")):
        for r in (10, 0, 2):  # by number, not by letter
            file = folder / sample.name / "draws" / f"draw{r}_{structure}.png"
            write_mask(file, sample.masks[r % 7, c])


def rounds(folder: Path, sample: MultiRaterSample) -> None:
    for r in range(3):
        for c, structure in enumerate(("disc", "cup")):
            write_mask(folder / f"draw_{r}" / f"{sample.name}_{structure}.png", sample.masks[r, c])


def expected(sample: MultiRaterSample, write: Write) -> Prediction:
    first = sample.masks[0].astype(np.float32)
    if write in (masks_beside, masks_within):
        return Prediction(probability=first)
    if write is probabilities:
        share = sample.masks.mean(axis=0, dtype=np.float32)
        return Prediction(probability=np.rint(share * 65535).astype(np.float32) / 65535)
    some = sample.masks[[0, 2, 3] if write is draws else [0, 1, 2]].astype(np.float32)
    return Prediction(probability=some.mean(axis=0), draws=some)


@pytest.mark.parametrize("write", [masks_beside, masks_within, probabilities, draws, rounds])
def test_a_row_is_scored_as_a_run_is(data: Dataset, tmp_path: Path, write: Write) -> None:
    cases = cases_of_tests(data)
    for sample in cases:
        write(tmp_path, sample)
    plan = make_plan(data, BUDGET, choose("ssn"), (0,), ())
    (found,) = find_rows({"net": tmp_path}, plan, data).values()
    scored = score_row("net", tmp_path, found, plan, data).rows
    ours = [row for s in cases for row in score(expected(s, write), s, data.task)]
    assert [row[:6] for row in scored] == [row[:6] for row in ours]
    np.testing.assert_allclose([r.value for r in scored], [r.value for r in ours], rtol=1e-6)


def test_rows_stand_in_every_table_with_their_pictures(data: Dataset, tmp_path: Path) -> None:
    for sample in cases_of_tests(data):
        masks_beside(tmp_path / "one", sample)
        rounds(tmp_path / "two", sample)
    out = tmp_path / "out"
    for name in ("one", "two"):
        outcome = compare(
            data, out, methods="table2", rows=[f"{name}={tmp_path / name}"], budget=BUDGET, quiet=True
        )
    table = (out / "table2.csv").read_text()
    assert "disc,one,with-name=one,final,image,1" in table and "disc,two," in table
    assert "two" in (out / "spread.csv").read_text() and "one" not in (out / "spread.csv").read_text()
    assert set(read_plan(out).outside) == {"one", "two"}
    page = outcome.page.read_text()
    assert "one, two were made by another tool" in page
    assert page.count('class="title" title="one"') == len(read_plan(out).shown) > 1


def test_chances_of_draws_go_along(data: Dataset, tmp_path: Path) -> None:
    name = cases_of_tests(data)[0].name
    draws(tmp_path, data[name])
    chances = {"disc": [0.5, 0.25, 0.25], "cup": [0.2, 0.2, 0.6]}
    (tmp_path / name / "prediction.json").write_text(json.dumps({"draw_weights": chances}))
    answer = find_answers(tmp_path, "x", [name], data.names, data.task)[name]
    found = read_answer(answer, data[name], data.task.structures)
    np.testing.assert_allclose(found.draw_weights.T, [chances["disc"], chances["cup"]])
    masks = data[name].masks[[0, 2, 3]]
    by_hand = 0.5 * masks[0, 0] + 0.25 * masks[1, 0] + 0.25 * masks[2, 0]
    np.testing.assert_allclose(found.probability[0], by_hand, atol=1e-6)
    (tmp_path / name / "prediction.json").write_text(json.dumps({"draw_weights": {"disc": [1], "cup": [1]}}))
    with pytest.raises(InputError, match="no chances of 3 draws"):
        find_answers(tmp_path, "x", [name], data.names, data.task)


def test_one_structure_needs_no_name(tmp_path: Path) -> None:
    task = Task(1, ("spot",), ("a", "b"))
    mask = np.zeros((6, 7), bool)
    mask[2:4, 1:5] = True
    write_mask(tmp_path / "case-1.png", mask)  # as an export calls "case 1"
    sample = MultiRaterSample("case 1", None, np.zeros((2, 1, 6, 7), bool), np.ones((2, 1), bool))
    answer = find_answers(tmp_path, "x", ["case 1"], ["case 1"], task)["case 1"]
    np.testing.assert_array_equal(read_answer(answer, sample, task.structures).probability[0], mask)


def _without_a_case(folder: Path) -> None:
    next(folder.glob("*_cup.png")).unlink()


def _another_size(folder: Path) -> None:
    write_mask(next(folder.glob("*_cup.png")), np.zeros((31, 32), bool))


def _grey(folder: Path) -> None:
    from PIL import Image

    Image.fromarray(np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)).save(next(folder.glob("*_cup.png")))


def _empty(folder: Path) -> None:
    for file in folder.glob("*.png"):
        file.unlink()


def _broken(folder: Path) -> None:
    next(folder.glob("*_cup.png")).write_bytes(b"no picture")


def _learned_from(folder: Path) -> None:
    case = sorted(folder.glob("*_cup.png"))[0].name.removesuffix("_cup.png")
    (folder / case).mkdir()
    (folder / case / "prediction.json").write_text('{"split": "train"}')


def _uneven(folder: Path) -> None:
    for number, file in enumerate(sorted(folder.glob("*.png"))):
        case, structure = file.stem.rsplit("_", 1)
        for draw in range(2 + (number < 2)):
            target = folder / case / f"draw{draw}_{structure}.png"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            _without_a_case,
            r"lacks 1 of the \d test cases: .* \(cup\); expected an answer for every test case",
        ),
        (_another_size, r"has the shape \(31, 32\); case .* has \(32, 32\): expected an answer at"),
        (_grey, "expected a mask of 0 and one other value, or a probability by its name"),
        (_empty, r"has no answer for any of the \d test cases; expected for example"),
        (_broken, "broken or not a PNG file"),
        (_learned_from, "trained or chosen on case"),
        (_uneven, "has 2 draws and case .* 3; expected as many of every case"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(
    data: Dataset, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    for sample in cases_of_tests(data):
        masks_beside(tmp_path / "theirs", sample)
    spoil(tmp_path / "theirs")
    out = tmp_path / "out"
    with pytest.raises(InputError, match=said):
        compare(data, out, methods="ssn", rows={"theirs": tmp_path / "theirs"}, budget=BUDGET, quiet=True)
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nnunet"], "should look like NAME=FOLDER"),
        (["=x"], "cannot be the name of a row"),
        (["a/b=x"], "cannot be the name of a row"),
        (["a=x", "A=y"], "is given twice"),
    ],
)
def test_names_of_rows(given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        outside(given)


def test_no_row_bears_the_name_of_a_method(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "compare",
        str(data.path),
        "--out",
        str(tmp_path / "out"),
        "--methods",
        "ssn",
        "--size",
        "32",
    ]
    assert cli.call([*arguments, "--backbone", "small", "--with", f"ssn={tmp_path}"]) == 2
    assert "a row is called 'ssn' already" in capsys.readouterr().err
    assert cli.call([*arguments, "--backbone", "small", "--with", f"net={tmp_path / 'nowhere'}"]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        (np.array([0, 255], np.uint8), "mask", [0, 1]),
        (np.array([0, 7], np.int16), "mask", [0, 1]),
        (np.array([0, 0.25], np.float64), "mask", [0, 0.25]),
        (np.array([0, 1], np.float64), "draw", [0, 1]),
        (np.array([False, True]), "draw", [0, 1]),
        (np.array([0, 51], np.uint8), "probability", [0, 0.2]),
        (np.array([0, 13107, 65535], np.uint16), "draw", [0, 0.2, 1]),
        (np.array([0, 1], np.uint16), "probability", [0, 1 / 65535]),
        (np.array([0, 65535], np.uint16), "probability", [0, 1]),
        (np.array([0, 255], np.uint8), "probability", [0, 1]),
        (np.array([0, 1], np.uint8), "draw", [0, 1]),
        (np.array([0, 1], np.int64), "probability", [0, 1]),
    ],
)
def test_what_values_mean(values: np.ndarray, kind: str, found: list[float]) -> None:
    np.testing.assert_allclose(as_probability(values, kind, Path("x")), found, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([0, 1.5]), "mask"),
        (np.array([-0.5, 0.5]), "probability"),
        (np.array([0, 1, 2], np.int32), "probability"),
        (np.array([0, 1, 2], np.uint8), "mask"),
        (np.array([0, 2.0, 3.0]), "draw"),
        (np.array([0, 1], np.uint8), "probability"),
        (np.array([1, 1], np.uint8), "probability"),
    ],
)
def test_values_that_are_neither(values: np.ndarray, kind: str) -> None:
    with pytest.raises(InputError, match=r"expected"):
        as_probability(values, kind, Path("x"))  # type: ignore[arg-type]


def test_a_volume_lies_where_its_case_lies(tmp_path: Path) -> None:
    import nibabel

    task = Task(1, ("organ",), ("a", "b"))
    mask = np.zeros((3, 5, 4), bool)
    mask[1, 2:, 1:3] = True
    folder = tmp_path / "data"
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    for rater in "ab":
        (folder / "masks" / rater).mkdir(parents=True)
        nibabel.save(
            nibabel.Nifti1Image(mask.T.astype(np.uint8), affine), folder / "masks" / rater / "v.nii.gz"
        )
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), np.float32), affine), folder / "v.nii.gz")
    document = {
        "format": "mrprism-dataset/1", "name": "v", "structures": ["organ"], "channels": ["ct"],
        "raters": [{"name": "a"}, {"name": "b"}],
        "cases": [{"name": "v", "image": "v.nii.gz", "masks": {r: {"organ": f"masks/{r}/v.nii.gz"} for r in "ab"}}],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(document))
    sample = open_dataset(folder)["v"]
    flipped = np.diag([-1.0, 1.0, 3.0, 1.0])
    flipped[0, 3] = 3.0  # the same voxels, stored from the other side
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    nibabel.save(nibabel.Nifti1Image(mask.T[::-1].astype(np.float32), flipped), theirs / "v.nii.gz")
    answer = find_answers(theirs, "x", ["v"], ["v"], task)["v"]
    np.testing.assert_array_equal(read_answer(answer, sample, task.structures).probability[0], mask)
    affine[0, 3] = 40
    nibabel.save(nibabel.Nifti1Image(mask.T.astype(np.float32), affine), theirs / "v.nii.gz")
    with pytest.raises(InputError, match="lies elsewhere than case 'v'"):
        read_answer(answer, sample, task.structures)


def test_folders_that_are_spoken_alike_are_each_their_own_case(tmp_path: Path) -> None:
    task = Task(1, ("spot",), ("a", "b"))
    for folder, row in (("A", 0), ("a", 1)):
        mask = np.zeros((4, 4), bool)
        mask[row] = True
        write_mask(tmp_path / folder / "mask_spot.png", mask)
    found = find_answers(tmp_path, "x", ["A", "a"], ["A", "a"], task)
    assert [found[case].probability[0].parent.name for case in ("A", "a")] == ["A", "a"]
    (tmp_path / "B").mkdir()
    (tmp_path / "b ").mkdir()
    with pytest.raises(InputError, match="holds 'B' and 'b ', and either could be case 'b'"):
        find_answers(tmp_path, "x", ["b"], ["b"], task)


def test_two_draws_of_one_number_are_refused(tmp_path: Path) -> None:
    task = Task(1, ("spot",), ("a", "b"))
    for folder in ("draw1", "draw01", "draw2"):
        write_mask(tmp_path / folder / "p.png", np.eye(4, dtype=bool))
    with pytest.raises(InputError, match="has 'draw01' and 'draw1', which are both draw 1"):
        find_answers(tmp_path, "x", ["p"], ["p"], task)


def test_what_cannot_be_read_beside_an_answer_is_not_absent(tmp_path: Path) -> None:
    task = Task(1, ("spot",), ("a", "b"))
    write_mask(tmp_path / "p" / "mask_spot.png", np.eye(4, dtype=bool))
    for text in ('{"split": "train"', "[]"):
        (tmp_path / "p" / "prediction.json").write_text(text)
        with pytest.raises(InputError, match=r"prediction\.json' (cannot be read|holds a list)"):
            find_answers(tmp_path, "x", ["p"], ["p"], task)
    (tmp_path / "p" / "prediction.json").unlink()
    for text, said in (
        ('{"labels": {"background": 0', "is not valid JSON"),
        ('{"labels": {"background": 0, "spot": "one"}}', "labels that are no numbers"),
        ('{"labels": {"spot": 1}, "mrprism_votes": {"spot": ["gone"]}}', "none of its labels"),
    ):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(InputError, match=said):
            find_answers(tmp_path, "x", ["p"], ["p"], task)
