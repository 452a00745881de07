"""Votes for nnU-Net and back: label maps that nnU-Net's own label manager reads, answers as rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrprism import cli
from mrprism.compare.answers import find_answers, read_answer
from mrprism.compare.nnunet_answers import labels_of
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset, write_dataset
from mrprism.datasets.split import split_dataset
from mrprism.images import read_labels, write_mask
from mrprism.layouts.writers import export_dataset
from mrprism.layouts.writers.nnunet_votes import VOTES, levels_of

TASK = Task(1, ("spot",), ("a", "b", "c"))
NESTED = Task(1, ("disc", "cup"), ("a", "b"))


def case(number: int, structures: int = 1, raters: int = 3) -> MultiRaterSample:
    draw = np.random.default_rng(number)
    masks = np.zeros((raters, structures, 8, 9), bool)
    for r in range(raters):
        for c in range(structures):
            top = 1 + c + int(draw.integers(0, 2))
            masks[r, c, top : 6 - c, 2 + c : 7 - c] = True
    image = draw.random((1, 8, 9), np.float32)
    return MultiRaterSample(f"case {number}", image, masks, np.ones((raters, structures), bool))


def dataset(task: Task, count: int = 6) -> Dataset:
    made = [case(n, len(task.structures), len(task.raters)) for n in range(count)]
    return Dataset.from_samples("made", task, made)


def exported(data: Dataset, folder: Path) -> dict[str, object]:
    export_dataset(data, "nnunet", folder, labels="votes")
    document: dict[str, object] = json.loads((folder / "dataset.json").read_text())
    return document


def test_the_label_map_of_one_structure_is_the_number_of_votes(tmp_path: Path) -> None:
    data = dataset(TASK)
    document = exported(data, tmp_path / "out")
    assert document["labels"] == {
        "background": 0, "spot_at_least_1": [1, 2, 3], "spot_at_least_2": [2, 3], "spot_at_least_3": [3]
    }  # fmt: skip
    assert document["regions_class_order"] == [1, 2, 3]
    split = split_dataset(data, 0)
    for name in data.names:
        file = tmp_path / "out" / "labelsTr" / f"{name.replace(' ', '-')}.png"
        if name in split.test:
            assert not file.exists()
            assert (tmp_path / "out" / "imagesTs" / f"{name.replace(' ', '-')}_0000.png").is_file()
        else:
            np.testing.assert_array_equal(read_labels(file).array, data[name].masks[:, 0].sum(axis=0))
    assert document["numTraining"] == len(split.train) + len(split.val)
    (fold,) = json.loads((tmp_path / "out" / "splits_final.json").read_text())
    assert {len(fold["train"]), len(fold["val"])} == {len(split.train), len(split.val)}


def test_regions_of_nested_structures_say_the_votes_of_each(tmp_path: Path) -> None:
    data = dataset(NESTED)
    document = exported(data, tmp_path / "out")
    labels = document["labels"]
    assert isinstance(labels, dict)
    assert list(labels)[1:] == [f"{s}_at_least_{k}" for s in ("disc", "cup") for k in (1, 2)]
    for name in split_dataset(data, 0).train:
        found = read_labels(tmp_path / "out" / "labelsTr" / f"{name.replace(' ', '-')}.png").array
        for c, structure in enumerate(NESTED.structures):
            votes = data[name].masks[:, c].sum(axis=0)
            for k in (1, 2):
                np.testing.assert_array_equal(np.isin(found, labels[f"{structure}_at_least_{k}"]), votes >= k)


def test_painting_as_nnunet_does_gives_the_votes_back(tmp_path: Path) -> None:
    """Regions one over the other, each where its probability is above half (as in its label manager)."""
    document = exported(dataset(TASK), tmp_path / "out")
    order = document["regions_class_order"]
    assert isinstance(order, list)
    votes = np.array([0, 1, 2, 3])
    painted = np.zeros(4, int)
    for k, value in enumerate(order, start=1):
        painted[votes >= k] = value
    assert painted.tolist() == [0, 1, 2, 3]


def test_fewer_raters_are_asked_at_the_same_shares() -> None:
    sample = case(0)
    rated = np.array([[True], [True], [False]])
    masks = np.zeros((3, 1, 1, 3), bool)
    masks[0, 0, 0] = [False, True, True]
    masks[1, 0, 0] = [False, False, True]
    masks[2] = True  # absent: never read
    image = np.zeros((1, 1, 3), np.float32)
    found = levels_of(replace(sample, image=image, masks=masks, rated=rated))
    assert found[0, 0].tolist() == [0, 1, 3]  # none, one of two, both


def test_a_case_that_nobody_rated_is_no_case_without_votes(tmp_path: Path) -> None:
    data = dataset(TASK)
    name = split_dataset(data, 0).train[0]
    samples = [replace(data[n], rated=data[n].rated & (n != name)) for n in data.names]
    exported(Dataset.from_samples("made", TASK, samples), tmp_path / "out")
    assert not list((tmp_path / "out").rglob(f"{name.replace(' ', '-')}*"))


def test_what_a_label_map_cannot_hold_is_refused(tmp_path: Path) -> None:
    data = dataset(NESTED)
    name = split_dataset(data, 0).train[0]
    samples = [data[n] for n in data.names]
    samples[data.names.index(name)].rated[:, 1] = False
    with pytest.raises(InputError, match=f"nobody did 'cup' of case '{name}'"):
        exported(Dataset.from_samples("made", NESTED, samples), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--to", "png"], ["--to", "nnunet", "--raters", "majority"]])
def test_votes_are_for_nnunet_and_all_raters(
    tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset([case(n) for n in range(4)], tmp_path / "data", name="made", task=TASK)
    out = tmp_path / "out"
    assert cli.call(["export", str(tmp_path / "data"), "--out", str(out), "--labels", "votes", *more]) == 2
    assert "votes are counted over all raters and are for nnunet" in capsys.readouterr().err
    assert not out.exists()


def _predicted(folder: Path, document: dict[str, object], votes: np.ndarray, saved: bool = True) -> None:
    """What nnU-Net would leave of a perfect network."""
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(document))
    write_mask(folder / "case-0.png", votes.astype(np.uint8))
    if saved:
        levels = np.stack([votes >= k for k in (1, 2, 3)]).astype(np.float32)
        levels[2] = np.where(votes >= 2, 0.75, 0)  # not sure of the third
        np.savez(folder / "case-0.npz", probabilities=levels[:, None])


def test_saved_probabilities_are_a_row_with_its_number_of_votes(tmp_path: Path) -> None:
    document = exported(dataset(TASK), tmp_path / "out")
    sample = case(0)
    votes = sample.masks[:, 0].sum(axis=0)
    _predicted(tmp_path / "theirs", document, votes)
    answer = find_answers(tmp_path / "theirs", "x", ["case 0"], ["case 0"], TASK)["case 0"]
    found = read_answer(answer, sample, TASK.structures)
    assert found.at_least is not None
    np.testing.assert_array_equal(found.at_least[1, 0], votes >= 2)
    expected = ((votes >= 1) * 1.0 + (votes >= 2) + 0.75 * (votes >= 2)) / 3
    np.testing.assert_allclose(found.probability[0], expected, atol=1e-6)


def test_without_probabilities_votes_cannot_be_read(tmp_path: Path) -> None:
    document = exported(dataset(TASK), tmp_path / "out")
    _predicted(tmp_path / "theirs", document, np.zeros((8, 9), int), saved=False)
    answer = find_answers(tmp_path / "theirs", "x", ["case 0"], ["case 0"], TASK)["case 0"]
    with pytest.raises(InputError, match="predict with --save_probabilities"):
        read_answer(answer, case(0), TASK.structures)
    np.savez(tmp_path / "theirs" / "case-0.npz", probabilities=np.zeros((2, 1, 8, 9)))
    with pytest.raises(InputError, match=r"has the shape \(2, 8, 9\); expected \(3, 8, 9\)"):
        read_answer(answer, case(0), TASK.structures)


@pytest.mark.parametrize("regions", [False, True])
def test_labels_of_any_nnunet_folder(tmp_path: Path, regions: bool) -> None:
    """Structures by their names: single labels, or regions of several."""
    cup = np.zeros((8, 9), np.uint8)
    cup[2:6, 2:6] = 1
    cup[3:5, 3:5] = 2
    labels: dict[str, object] = {"background": 0, "disc": [1, 2] if regions else 1, "cup": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    write_mask(tmp_path / "case-0.png", cup)
    answer = find_answers(tmp_path, "x", ["case 0"], ["case 0"], NESTED)["case 0"]
    found = read_answer(answer, case(0, 2, 2), NESTED.structures)
    np.testing.assert_array_equal(found.probability[0], cup > 0 if regions else cup == 1)
    np.testing.assert_array_equal(found.probability[1], cup == 2)
    chances = np.random.default_rng(0).random((2 if regions else 3, 1, 8, 9), np.float32)
    np.savez(tmp_path / "case-0.npz", probabilities=chances)
    found = read_answer(answer, case(0, 2, 2), NESTED.structures)
    np.testing.assert_allclose(found.probability, chances[-2:, 0], atol=1e-6)
    with pytest.raises(InputError, match="expected one called 'spot'"):
        find_answers(tmp_path, "x", ["case 0"], ["case 0"], TASK)


def test_some_probabilities_and_some_label_maps_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "spot": 1}}))
    names = [f"case {n}" for n in range(3)]
    for n in range(3):
        write_mask(tmp_path / f"case-{n}.png", np.zeros((8, 9), np.uint8))
    assert len(find_answers(tmp_path, "x", names, names, TASK)) == 3
    for n in range(2):
        np.savez(tmp_path / f"case-{n}.npz", probabilities=np.zeros((2, 1, 8, 9), np.float32))
    with pytest.raises(
        InputError, match=r"case 'case 0' has probabilities and case 'case 2' lacks 'case-2\.npz'"
    ):
        find_answers(tmp_path, "x", names, names, TASK)


def test_ladders_of_unlike_length_are_refused(tmp_path: Path) -> None:
    labels = {"background": 0, "disc 1": [1, 2, 3], "disc 2": [2, 3], "cup 1": [3]}
    votes = {"disc": ["disc 1", "disc 2"], "cup": ["cup 1"]}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, VOTES: votes}))
    with pytest.raises(InputError, match=r"1 region for 'cup' and 2 for 'disc'; expected as many"):
        labels_of(tmp_path, ("disc", "cup"))


def test_a_split_names_what_was_written_and_a_reference_is_said_to_be_left_out(tmp_path: Path) -> None:
    made = [case(n) for n in range(8)]
    unrated = split_dataset(dataset(TASK, 8), 0).train[0]
    for place, sample in enumerate(made):
        rated = sample.rated & (sample.name != unrated)
        made[place] = replace(sample, rated=rated, reference=sample.masks[0])
    found = export_dataset(
        Dataset.from_samples("made", TASK, made), "nnunet", tmp_path / "out", labels="votes"
    )
    assert "reference" in found.left_out
    written = {file.name.removesuffix(".png") for file in (tmp_path / "out" / "labelsTr").iterdir()}
    (fold,) = json.loads((tmp_path / "out" / "splits_final.json").read_text())
    assert {*fold["train"], *fold["val"]} == written
    assert unrated.replace(" ", "-") not in written
