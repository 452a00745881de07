"""What lies elsewhere is refused by name, or brought onto its image's grid; SimpleITK is the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset
from mrprism.datasets.check import check_dataset
from mrprism.images import Geometry, read_mask
from mrprism.images.resample import resample_image, resample_labels
from mrprism.layouts import DATASETS

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique(degrees: float, spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> Any:
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


HERE = Geometry(oblique(0, (0.7, 0.8, 2.5), (1, 2, 3)), (30, 26, 9))
THERE = Geometry(oblique(13, (1.1, 0.9, 1.9), (3.3, -1.2, 4.1)), (24, 22, 12))


def itk_image(array: np.ndarray, lies: Geometry) -> Any:
    itk = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(array)
    affine = LPS @ lies.affine
    image.SetSpacing(lies.spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / lies.spacing).ravel().tolist())
    return image


@pytest.mark.parametrize(("lies", "onto"), [(HERE, THERE), (THERE, HERE)])
def test_simpleitk_finds_the_same(lies: Geometry, onto: Geometry) -> None:
    itk = pytest.importorskip("SimpleITK")
    draw = np.random.default_rng(0)
    image = draw.random(lies.shape[::-1]).astype(np.float32)
    labels = draw.integers(0, 5, lies.shape[::-1]).astype(np.uint8)
    grid = itk_image(np.zeros(onto.shape[::-1], np.float32), onto)
    for array, order, ours in (
        (image, itk.sitkLinear, resample_image),
        (labels, itk.sitkNearestNeighbor, resample_labels),
    ):
        theirs = itk.GetArrayFromImage(itk.Resample(itk_image(array, lies), grid, itk.Transform(), order, 0))
        found = ours(array, lies, onto)
        assert found.dtype == array.dtype
        assert found.shape == onto.shape[::-1]
        assert (found != 0).mean() > 0.2
        assert np.allclose(found, theirs, atol=1e-4)


def test_onto_its_own_grid_nothing_changes() -> None:
    mask = np.random.default_rng(0).random(HERE.shape[::-1]) > 0.5
    assert np.array_equal(resample_labels(mask, HERE, HERE), mask)
    flipped = Geometry(
        HERE.affine @ np.diag([-1.0, 1, 1, 1]) + np.outer([29 * 0.7, 0, 0, 0], [0, 0, 0, 1]), HERE.shape
    )
    assert np.array_equal(resample_labels(mask, HERE, flipped), mask[..., ::-1])
    image = mask.astype(np.float32)
    assert np.allclose(resample_image(image, HERE, HERE), image, atol=1e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two CT volumes; bob drew one of them on another grid."""

    def save(path: str, array: np.ndarray, geometry: Geometry) -> None:
        (tmp_path / "ct" / path).parent.mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti1Image(array.T, geometry.affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / "ct" / path)

    box = np.zeros(HERE.shape[::-1], np.uint8)
    box[2:7, 6:20, 8:22] = 1
    for case in ("a", "b"):
        values = np.random.default_rng(0).integers(-1000, 1000, HERE.shape[::-1]).astype(np.int16)
        save(f"images/{case}.nii.gz", values, HERE)
        save(f"ann/{case}.nii.gz", box, HERE)
    save("bob/a.nii.gz", box, HERE)
    save("bob/b.nii.gz", resample_labels(box, HERE, THERE), THERE)
    return tmp_path / "ct"


def test_both_files_and_both_values_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["import", "folder", str(folder), str(folder.parent / "out")]) == 2
    said = capsys.readouterr().err
    for part in (
        "bob/b.nii.gz' has the size 12 × 22 × 24",
        "images/b.nii.gz' 9 × 26 × 30",
        "spacing (0.7, 0.8, 2.5) mm against (1.1, 0.9, 1.9)",
    ):
        assert part in said
    assert not (folder.parent / "out").exists()


def test_on_request_masks_come_onto_the_grid_of_their_image(folder: Path) -> None:
    out = folder.parent / "out"
    assert call(["import", "folder", str(folder), str(out), "--resample"]) == 0
    data = open_dataset(out)
    box = read_mask(folder / "ann" / "b.nii.gz").array
    there = read_mask(folder / "bob" / "b.nii.gz").array
    assert np.array_equal(data["a"].masks[1, 0], box)
    assert np.array_equal(data["b"].masks[1, 0], resample_labels(there, THERE, HERE))
    both = data["b"].masks[:, 0]
    assert 2 * (both[0] & both[1]).sum() / both.sum() > 0.75  # there and back loses some of the edge
    assert data["b"].spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert not check_dataset(out).errors


def test_a_data_set_in_place_and_written_anew(folder: Path) -> None:
    masks = {who: {"organ": f"{who}/b.nii.gz"} for who in ("ann", "bob")}
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "format": "mrprism-dataset/1",
                "name": "ct",
                "channels": ["CT"],
                "structures": ["organ"],
                "raters": ["ann", "bob"],
                "window": [-1000, 1000],
                "cases": [{"name": "b", "image": "images/b.nii.gz", "masks": masks}],
            }
        )
    )
    with pytest.raises(InputError, match=r"b.nii.gz' of case 'b' has the size 12 × 22 × 24, its image"):
        open_dataset(folder)["b"]
    sample = open_dataset(folder, resample=True)["b"]
    assert call(["import", "dataset", str(folder), str(folder.parent / "anew"), "--resample"]) == 0
    anew = open_dataset(folder.parent / "anew")["b"]
    assert np.array_equal(anew.masks, sample.masks)
    assert np.allclose(anew.image, sample.image, atol=1e-6)


def test_what_does_not_touch_its_image_is_refused_even_so(folder: Path) -> None:
    file = nibabel.load(folder / "bob" / "b.nii.gz")
    moved = file.affine.copy()
    moved[0, 3] += 1000
    nibabel.save(nibabel.Nifti1Image(np.asarray(file.dataobj), moved), folder / "bob" / "b.nii.gz")
    with pytest.raises(InputError, match=r"nothing of mask .*bob/b.nii.gz' lies inside its image"):
        list(DATASETS["folder"](folder, resample="yes").samples)


def test_a_series_is_the_image_of_a_case(folder: Path) -> None:
    pytest.importorskip("pydicom")
    from slices import series

    (folder / "images" / "b.nii.gz").unlink()
    (folder / "bob" / "b.nii.gz").unlink()
    (folder / "ann" / "b.nii.gz").unlink()
    values = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    series(folder / "images" / "b", values, axes=(1, 0, 0, 0, 1, 0), pixel_mm=(0.8, 0.7))
    affine = np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
    drawn = (np.arange(120).reshape(6, 5, 4) % 3 == 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(drawn, affine), folder / "ann" / "b.nii.gz")
    assert call(["import", "folder", str(folder), str(folder.parent / "out"), "-o", "window=-1000:1000"]) == 0
    data = open_dataset(folder.parent / "out")
    assert data.names == ("a", "b")
    assert np.allclose(data["b"].image[0], (values + 1000) / 2000, atol=1e-4)
    assert np.array_equal(data["b"].masks[0, 0], drawn.T)
    assert data["b"].rated.tolist() == [[True], [False]]
    about = {
        "format": "mrprism-dataset/1",
        "name": "ct",
        "channels": ["CT"],
        "structures": ["organ"],
        "raters": ["ann"],
        "window": [-1000, 1000],
        "cases": [{"name": "b", "image": "images/b", "masks": {"ann": {"organ": "ann/b.nii.gz"}}}],
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    assert np.allclose(open_dataset(folder)["b"].image, data["b"].image, atol=1e-4)
    nibabel.save(nibabel.Nifti1Image(drawn, np.eye(4)), folder / "ann" / "b.nii.gz")
    with pytest.raises(
        InputError, match=r"b.nii.gz' of case 'b' lies in another place than its image '.*images/b'"
    ):
        open_dataset(folder)["b"]
