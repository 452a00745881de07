"""Readers of what tools export, on made-up trees."""

from pathlib import Path

import numpy as np
import pytest
from trees import blob, cases, nifti, picture, png

from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.dataset import FileSample
from mrprism.layouts import DATASETS

# --- a folder for each rater --------------------------------------------------------------------


def test_folder(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        png(tmp_path / f"images/p{number}_a.png", picture(number))
        png(tmp_path / f"ann/p{number}_a.png", blob(number).astype(np.uint8))
    png(tmp_path / "bob/p10_a.png", blob(5) * np.uint8(0))
    png(tmp_path / "Reference/p1_a.png", blob(7))
    source = DATASETS["folder"](tmp_path, structure="lesion", group=r"^p(\d+)")
    found = cases(source)
    assert list(found) == ["p1_a", "p2_a", "p10_a"]
    assert (source.task.raters, source.task.structures) == (("ann", "bob"), ("lesion",))
    np.testing.assert_array_equal(found["p10_a"].rated, [[True], [True]])
    np.testing.assert_array_equal(found["p2_a"].rated, [[True], [False]])
    assert found["p2_a"].group == "2"
    np.testing.assert_array_equal(found["p1_a"].reference, blob(7)[None])
    assert found["p2_a"].reference is None
    png(tmp_path / "bob/p11_a.png", blob(5))
    with pytest.raises(InputError, match=r"has a mask 'p11_a.png' for which there is no image"):
        DATASETS["folder"](tmp_path)


def test_folder_with_structures_and_label_maps(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 10)).astype(np.uint8)
    for root in ("a", "b"):
        png(tmp_path / root / "images/1.png", picture(0, colour=True))
    png(tmp_path / "a/ann/disc/1.png", labels > 0)
    png(tmp_path / "a/ann/cup/1.png", labels == 2)
    png(tmp_path / "a/bob/cup/1.png", labels == 2)
    png(tmp_path / "b/ann/1.png", labels)
    one = cases(DATASETS["folder"](tmp_path / "a"))["1"]
    two = cases(DATASETS["folder"](tmp_path / "b", labels="cup:2,disc:1+2"))["1"]
    np.testing.assert_array_equal(one.masks[0], two.masks[0])
    np.testing.assert_array_equal(one.rated, [[True, True], [True, False]])
    with pytest.raises(InputError, match="holds the values 2; expected 0, 1"):
        cases(DATASETS["folder"](tmp_path / "b", labels="disc:1"))
    with pytest.raises(InputError, match="labels 'disc' are not understood"):
        DATASETS["folder"](tmp_path / "b", labels="disc")


def test_folder_of_a_rater_who_has_not_begun(tmp_path: Path) -> None:
    png(tmp_path / "images/1.png", picture(0))
    png(tmp_path / "ann/disc/1.png", blob(1))
    (tmp_path / "bob/disc").mkdir(parents=True)
    (tmp_path / "eve").mkdir()
    with pytest.raises(InputError, match=r"no mask of the rater 'bob' .* -o without=bob"):
        list(DATASETS["folder"](tmp_path).samples)
    source = DATASETS["folder"](tmp_path, without="bob, eve")
    (found,) = source.samples
    assert source.task.raters == ("ann",)
    np.testing.assert_array_equal(found.rated, [[True]])
    (tmp_path / "bob/disc/plan.txt").write_text("x")
    with pytest.raises(InputError, match=r"bob' holds no mask but 'plan.txt'"):
        DATASETS["folder"](tmp_path)


def test_folder_of_volumes_keeps_geometry(tmp_path: Path) -> None:
    affine = np.diag([-0.5, 0.5, 3.0, 1])
    affine[:3, 3] = (7, 8, 9)
    nifti(tmp_path / "in/images/v.nii.gz", picture(0, (6, 5, 4)), affine)
    mask = np.random.default_rng(0).random((6, 5, 4)) > 0.5
    nifti(tmp_path / "in/ann/v.nii.gz", mask.astype(np.uint8), affine)
    source = DATASETS["folder"](tmp_path / "in")
    write_dataset(
        source.samples, tmp_path / "out", name="v", task=source.task, image_format=source.image_format
    )
    found = open_dataset(tmp_path / "out")["v"]
    assert isinstance(found, FileSample)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.affine, affine)
    np.testing.assert_array_equal(found.masks[0, 0].T, mask)
    nifti(tmp_path / "in/ann/v.nii.gz", mask.astype(np.uint8), np.eye(4))
    with pytest.raises(InputError, match="lies in another place"):
        cases(DATASETS["folder"](tmp_path / "in"))
