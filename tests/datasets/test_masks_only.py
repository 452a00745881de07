"""Reader studies: cases with masks and no image, and second readings by the same rater."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Reading, Task
from mrprism.datasets import Dataset, FileSample, open_dataset, write_dataset
from mrprism.datasets.check import check_dataset
from mrprism.fusion.one_case import fuse_case
from mrprism.images import Geometry, read_mask, write_mask

TASK = Task(0, ("plaque", "scale"), ("ann", "bob", "cy"))
SIZE = (24, 30)


def study(name: str, size: tuple[int, ...] = SIZE, seed: int = 0) -> MultiRaterSample:
    """Three raters; ann and bob were asked again, bob about the plaque only."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"))
    middle = np.array(size).reshape(-1, *[1] * len(size)) / 2
    distance = np.sqrt(((grid - middle) ** 2).sum(axis=0))

    def drawn() -> np.ndarray:
        return np.asarray(distance < rng.uniform(4, 8) + rng.normal(0, 0.4, size))

    masks = np.stack([[drawn(), drawn()] for _ in TASK.raters])
    rated = np.ones((3, 2), bool)
    rated[2, 1] = False
    again, reread = np.zeros_like(masks), np.array([[1, 1], [1, 0], [0, 0]], bool)
    again[0, 0], again[0, 1], again[1, 0] = drawn(), drawn(), drawn()
    masks[~rated] = False
    return MultiRaterSample(name, None, masks, rated, group=f"p{seed}", readings=(Reading(again, reread),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cases = [study("a", seed=0), study("b", (12, 40), seed=1), study("c", seed=2)]
    return write_dataset(cases, tmp_path / "study", name="study", task=TASK)


def test_what_is_written_is_read_back(folder: Path) -> None:
    data = open_dataset(folder)
    assert data.task == TASK
    assert data.pictured == dict.fromkeys("abc", False)
    assert data.read_again == dict.fromkeys("abc", True)
    for number, size in enumerate((SIZE, (12, 40), SIZE)):
        want, got = study("abc"[number], size, seed=number), data[number]
        assert got.image is None
        assert got.space == size
        np.testing.assert_array_equal(got.masks, want.masks)
        np.testing.assert_array_equal(got.rated, want.rated)
        (ours,), (theirs,) = want.readings, got.readings
        np.testing.assert_array_equal(ours.masks, theirs.masks)
        np.testing.assert_array_equal(ours.rated, theirs.rated)
    assert not (folder / "images").exists()


def test_what_needs_the_image_is_told() -> None:
    with pytest.raises(InputError, match="case 'a' has masks only and no image"):
        _ = study("a").picture


def test_readings_of_a_volume_keep_its_place(tmp_path: Path) -> None:
    place = Geometry(np.diag([-0.5, -0.5, 3.0, 1.0]), (9, 8, 5))
    case = FileSample(**vars(study("v", (5, 8, 9))), geometry=place)
    write_dataset([case], tmp_path / "scan", name="scan", task=TASK)
    got = open_dataset(tmp_path / "scan")[0]
    assert isinstance(got, FileSample)
    assert got.geometry is not None
    assert got.geometry.differs(place) is None
    assert got.spacing_mm == (3.0, 0.5, 0.5)
    np.testing.assert_array_equal(got.readings[0].masks, case.readings[0].masks)


def test_masks_of_a_case_lie_on_one_grid(folder: Path) -> None:
    write_mask(folder / "masks/bob/a_scale.png", np.zeros((24, 31), bool))
    with pytest.raises(
        InputError, match=r"size 24 × 31, another mask of the case, '.*a_plaque.png', 24 × 30; exp"
    ):
        open_dataset(folder)["a"]
    (fault,) = check_dataset(folder).errors
    assert "24 × 31" in fault.sentence
    assert call(["fuse", str(folder), "--out", str(folder.parent / "fused")]) == 2


def test_masks_of_a_case_lie_in_one_place(tmp_path: Path) -> None:
    places = [
        Geometry(np.diag([1.0, 1.0, 1.0, 1.0]), (6, 5, 4)),
        Geometry(np.diag([-1.0, 1.0, 1.0, 1.0]), (6, 5, 4)),
    ]
    for rater, place in zip(("ann", "bob"), places, strict=True):
        write_mask(tmp_path / f"{rater}.nii.gz", np.ones((4, 5, 6), bool), like=place)
    write(tmp_path, {"ann": {"m": "ann.nii.gz"}, "bob": {"m": "bob.nii.gz"}}, channels=[])
    with pytest.raises(InputError, match="lies in another place than another mask of the case"):
        open_dataset(tmp_path)[0]


def test_a_second_reading_has_the_size_of_the_first(folder: Path) -> None:
    write_mask(folder / "readings/2/ann/c_scale.png", np.zeros((4, 4), bool))
    with pytest.raises(InputError, match=r"readings/2/ann/c_scale.png' of case 'c' has the size 4 × 4"):
        open_dataset(folder)["c"]
    assert [f.case for f in check_dataset(folder).errors] == ["c"]


def write(folder: Path, masks: Any, *, channels: list[str], **more: Any) -> None:
    case = {"name": "x", "masks": masks, **more}
    document = {
        "format": "mrprism-dataset/1",
        "name": "one",
        "channels": channels,
        "structures": ["m"],
        "raters": ["ann", "bob"],
        "cases": [case],
    }
    (folder / "dataset.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("masks", "more", "said"),
    [
        ({}, {}, "case 'x' has neither an image nor a mask"),
        ({"ann": {"m": "m.png"}}, {"image": "m.png"}, "has an image, but channels is empty"),
        ({"ann": {"m": "m.png"}}, {"image": []}, "image"),
        (
            {"ann": {"m": "m.png"}},
            {"readings": {"bob": [{"m": "m.png"}]}},
            "a second reading by 'bob' and no first",
        ),
        ({"ann": {"m": "m.png"}}, {"readings": {"dan": [{"m": "m.png"}]}}, "unknown rater 'dan'"),
        ({"ann": {"m": "m.png"}}, {"readings": {"ann": []}}, "readings.ann"),
        ({"ann": {"m": "m.png"}}, {"readings": {"ann": {"m": "m.png"}}}, "readings.ann"),
        ({"ann": {"m": "m.png"}}, {"readings": {"ann": [{"q": "m.png"}]}}, "unknown structure 'q'"),
        (
            {"ann": {"m": "m.png"}},
            {"readings": {"ann": [{"m": "gone.png"}]}},
            "'gone.png' of case 'x' does not exist",
        ),
        ({"ann": {"m": "m.png"}}, {"readings": {"ann": ["m.png"]}}, "labels does not say"),
        ({"ann": {"m": "m.png"}}, {"spacing_mm": [1, 1, 1]}, "3 numbers in spacing_mm; expected 2"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, masks: Any, more: Any, said: str) -> None:
    write_mask(tmp_path / "m.png", np.eye(4, dtype=bool))
    write(tmp_path, masks, channels=[], **more)
    found = check_dataset(tmp_path)
    assert found.exit_code == 2
    assert any(said in fault.sentence for fault in found.errors), found.errors
    with pytest.raises(InputError):
        open_dataset(tmp_path)[0]


def test_check_counts_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = check_dataset(folder)
    assert [fault.sentence for fault in found.faults] == ["rater 'cy' never outlined 'scale'"]
    assert found.summary["images"] == 0
    assert found.summary["sizes"] == {"24 × 30": 2, "12 × 40": 1}
    assert found.summary["read_again"] == {"ann": 6, "bob": 3}
    assert "none, masks only" in found.as_html()
    assert call(["check", str(folder)]) == 1
    assert "ann (6), bob (3)" in capsys.readouterr().out


def test_a_copied_second_reading_is_suspicious(tmp_path: Path) -> None:
    cases = [study(name, seed=n) for n, name in enumerate("abc")]
    copied = [replace(case, readings=(Reading(case.masks, case.rated),)) for case in cases]
    write_dataset(copied, tmp_path / "study", name="study", task=TASK)
    said = [fault.sentence for fault in check_dataset(tmp_path / "study").warnings]
    assert any("3 of 3 masks of 'plaque' which rater 'ann' drew again" in sentence for sentence in said)


def test_some_cases_without_an_image(tmp_path: Path) -> None:
    one, other = study("a"), study("b", seed=1)
    mixed = [replace(one, image=np.random.default_rng(0).random((1, *SIZE), np.float32)), other]
    write_dataset(mixed, tmp_path / "mixed", name="mixed", task=replace(TASK, channels=1))
    data = open_dataset(tmp_path / "mixed")
    assert data.pictured == {"a": True, "b": False}
    assert any(
        "1 of 2 cases have masks only" in w.sentence for w in check_dataset(tmp_path / "mixed").warnings
    )


def test_further_readings_never_vote(folder: Path) -> None:
    case = open_dataset(folder)[0]
    for method in ("majority", "staple"):
        bare = fuse_case(replace(case, readings=()), method).probability
        np.testing.assert_array_equal(fuse_case(case, method).probability, bare)


@pytest.mark.parametrize("target", ["png", "tiff", "nifti", "bids", "nnunet", "coco"])
@pytest.mark.parametrize("raters", ["each", "majority"])
def test_masks_alone_are_exported(
    folder: Path, target: str, raters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    for case in manifest["cases"]:  # nnunet and coco hold whole raters only
        case["masks"].pop("cy")
    (folder / "dataset.json").write_text(json.dumps(manifest))
    out = folder.parent / target
    assert call(["export", str(folder), "--to", target, "--out", str(out), "--raters", raters]) == 0
    assert not any("image" in path.name for path in out.rglob("*"))
    said = capsys.readouterr().out
    dropped = raters == "each" and target in ("bids", "nnunet", "coco")
    assert ("readings" in said) == dropped
    if target == "png" and raters == "each":
        want = open_dataset(folder)["a"].readings[0].masks[0, 1]
        np.testing.assert_array_equal(read_mask(out / "ann.2" / "scale" / "a.png").array, want)


def test_volumes_of_masks_go_to_slicer(tmp_path: Path) -> None:
    whole = study("v", (5, 8, 9))
    data = Dataset.from_samples(
        "v", TASK, [replace(whole, rated=np.ones((3, 2), bool), spacing_mm=(3.0, 1.0, 1.0))]
    )
    from mrprism.layouts.writers import export_dataset

    made = export_dataset(data, "seg-nrrd", tmp_path / "out")
    assert made.left_out == ("readings", "patients")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.nrrd")) == ["v.seg.nrrd"] * 3


def test_a_rater_of_the_name_of_a_further_reading(tmp_path: Path) -> None:
    task = replace(TASK, raters=("ann", "ann.2", "cy"))
    data = Dataset.from_samples("v", task, [study("a")])
    from mrprism.layouts.writers import export_dataset

    with pytest.raises(InputError, match=r"'ann.2' is a rater, and where reading 2 by 'ann' would lie"):
        export_dataset(data, "png", tmp_path / "out")


@pytest.mark.parametrize(
    "command",
    [
        ["train", "DATA", "--out", "OUT"],
        ["compare", "DATA", "--out", "OUT"],
        ["export", "DATA", "--to", "dicom-seg", "--out", "OUT"],
    ],
    ids=lambda command: command[0],
)
def test_what_cannot_do_without_says_so(
    folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    places = {"DATA": str(folder), "OUT": str(out)}
    assert call([places.get(word, word) for word in command]) == 2
    said = capsys.readouterr().err
    assert "case 'a'" in said
    assert "masks only" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_the_viewer_shows_them_on_a_blank_ground(folder: Path) -> None:
    from mrprism.viewer.view import View

    view = View(open_dataset(folder), "study")
    case = view.case(0)
    assert case["facts"]["image"] is False
    assert case["facts"]["again"] == ["ann", "bob"]
    assert view.image(0, "", 0, 0, (0.0, 1.0)).startswith(b"\x89PNG")
    assert view.outlines(0, "", 0, "majority")["raters"][0][0].startswith("M")


def test_a_figure_of_masks_alone() -> None:
    from mrprism.report.plot_case import plot_case

    case = study("a")
    figure = plot_case(case, fuse_case(case, "majority"), raters=TASK.raters)
    assert figure.axes[0].get_title() == "no image"
