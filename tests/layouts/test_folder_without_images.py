"""A folder of masks alone, and the folders of second readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrprism
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset
from mrprism.images import Geometry, write_image, write_mask


def square(place: int, size: tuple[int, int] = (20, 24)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[4 : 10 + place, 5 : 12 + place] = True
    return mask


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """ann and bob drew x1, x2 and x10; ann was asked again about x1 and x10, twice about x10; bob once about x2."""
    root = tmp_path / "study"
    for n, rater in enumerate(("ann", "bob")):
        for m, case in enumerate(("x1", "x2", "x10")):
            write_mask(root / rater / f"{case}.png", square(n + m))
    write_mask(root / "ann.2" / "x1.png", square(3))
    write_mask(root / "ann.2" / "x10.png", square(4))
    write_mask(root / "ann.3" / "x10.png", square(5))
    write_mask(root / "bob.2" / "x2.png", np.zeros((20, 24), bool))
    return root


@pytest.mark.parametrize("way", ["new", "in place"])
def test_masks_alone_with_readings(tree: Path, way: str) -> None:
    out = tree / "dataset.json" if way == "in place" else tree.with_name("out")
    assert (
        call(["import", "folder", str(tree), str(out), "-o", "readings=.2,.3", "-o", "structure=spot"]) == 0
    )
    data = open_dataset(out)
    assert data.names == ("x1", "x2", "x10")
    assert data.task == mrprism.Task(0, ("spot",), ("ann", "bob"))
    assert not any(data.pictured.values())
    one, two, ten = data
    np.testing.assert_array_equal(one.masks[:, 0], [square(0), square(1)])
    assert [r.rated.ravel().tolist() for r in one.readings] == [[True, False]]
    np.testing.assert_array_equal(one.readings[0].masks[0, 0], square(3))
    assert [r.rated.ravel().tolist() for r in two.readings] == [[False, True]]
    assert not two.readings[0].masks.any()  # looked again and saw nothing
    assert [r.rated.ravel().tolist() for r in ten.readings] == [[True, False], [True, False]]
    np.testing.assert_array_equal(ten.readings[1].masks[0, 0], square(5))
    assert not mrprism.check_dataset(out).errors


def test_without_the_option_they_are_raters_of_their_own(tree: Path) -> None:
    data = mrprism.import_dataset("folder", tree, tree.with_name("out")).dataset
    assert data.task.raters == ("ann", "ann.2", "ann.3", "bob", "bob.2")


def test_what_is_exported_is_imported_again(tree: Path) -> None:
    data = mrprism.import_dataset("folder", tree, tree.with_name("out"), readings=".2,.3").dataset
    mrprism.export(data, "png", tree.with_name("png"))
    again = mrprism.import_dataset(
        "folder", tree.with_name("png"), tree.with_name("two"), readings=".2,.3"
    ).dataset
    for ours, theirs in zip(data, again, strict=True):
        np.testing.assert_array_equal(ours.masks, theirs.masks)
        for one, other in zip(ours.readings, theirs.readings, strict=True):
            np.testing.assert_array_equal(one.masks, other.masks)
            np.testing.assert_array_equal(one.rated, other.rated)


def test_readings_beside_images(tree: Path) -> None:
    for case in ("x1", "x2", "x10"):
        write_image(tree / "images" / f"{case}.png", np.zeros((3, 20, 24), np.float32))
    data = mrprism.import_dataset("folder", tree, tree.with_name("out"), readings=".2,.3").dataset
    assert all(data.pictured.values())
    assert [len(case.readings) for case in data] == [1, 1, 2]


def test_structures_labels_and_reference(tmp_path: Path) -> None:
    root = tmp_path / "study"
    for folder in ("ann", "ann_again", "bob", "reference"):
        write_mask(root / folder / "x.png", square(0).astype(np.uint8) * 2)
    done = mrprism.import_dataset(
        "folder", root, tmp_path / "out", readings="_again", labels="cup:2,disc:1+2"
    )
    (case,) = done.dataset
    assert case.reference is not None
    assert case.readings[0].masks[0, 0].sum() == square(0).sum()
    for rater in ("ann", "ann.2"):
        for part in ("cup", "disc"):
            write_mask(tmp_path / "parts" / rater / part / "x.png", square(1))
    parts = mrprism.import_dataset("folder", tmp_path / "parts", tmp_path / "two", readings=".2").dataset
    assert parts[0].readings[0].rated.all()


def test_volumes_keep_their_place(tmp_path: Path) -> None:
    place = Geometry(np.diag([-1.0, -1.0, 2.5, 1.0]), (6, 5, 4))
    for rater in ("ann", "bob"):
        write_mask(tmp_path / "scans" / rater / "v.nii.gz", np.ones((4, 5, 6), bool), like=place)
    (case,) = mrprism.import_dataset("folder", tmp_path / "scans", tmp_path / "out").dataset
    assert case.spacing_mm == (2.5, 1.0, 1.0)
    assert case.image is None


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (lambda root: None, {"readings": ".4"}, "no folder ends in '.4'"),
        (lambda root: (root / "bob").rename(root / "eva"), {"readings": ".2"}, "'bob.2' is reading 2 by 'bob', but there is no"),
        (lambda root: (root / "ann" / "x1.png").unlink(), {"readings": ".2"}, "of a case for which 'ann' has no first reading"),
        (lambda root: write_mask(root / "bob" / "x2.png", square(0, (20, 25))), {"readings": ".2,.3"}, "size 20 × 25, another mask"),
        (lambda root: write_mask(root / "bob.2" / "x2.png", square(0, (9, 9))), {"readings": ".2,.3"}, "size 9 × 9, another mask"),
        (
            lambda root: write_image(root / "photos" / "x1.png", np.random.default_rng(0).random((3, 20, 24), np.float32)),
            {},
            "-o images=photos says so",
        ),
        (lambda root: None, {"images": "pictures"}, "has no folder 'pictures'"),
    ],
)  # fmt: skip
def test_what_does_not_fit(tree: Path, spoil: Any, options: dict[str, str], said: str) -> None:
    spoil(tree)
    with pytest.raises(InputError) as caught:
        mrprism.import_dataset("folder", tree, tree.with_name("out"), **options)
    assert said in str(caught.value)
    assert not tree.with_name("out").exists()


def test_that_there_are_no_images_is_noted(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["import", "folder", str(tree), str(tree.with_name("out"))]) == 0
    assert "masks only" in capsys.readouterr().err
