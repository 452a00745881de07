"""Readers of published data sets that are not at hand, on made-up trees in their layouts."""

from pathlib import Path

import numpy as np
import pytest
from trees import blob, cases, nifti, picture, png

from mrprism.core.errors import InputError
from mrprism.datasets.dataset import FileSample
from mrprism.layouts import DATASETS

# --- QUBIQ --------------------------------------------------------------------------------------


def test_qubiq_is_ragged(tmp_path: Path) -> None:
    root = tmp_path / "training_data_v2/prostate/Training"
    for case, raters in (("case01", 6), ("case09", 5)):
        nifti(root / case / "image.nii.gz", picture(0, (10, 12, 1)))
        for rater in range(1, raters + 1):
            for task in (1, 2):
                mask = blob(rater + 10 * task, (10, 12)) * (rater != 3)
                nifti(
                    root / case / f"task{task:02d}_seg{rater:02d}.nii.gz", mask[..., None].astype(np.float64)
                )
    nifti(tmp_path / "QUBIQ21_test/prostate/Testing/case01/image.nii.gz", picture(0, (10, 12, 1)))
    source = DATASETS["qubiq"](tmp_path, set="prostate")
    assert source.task.structures == ("task01", "task02")
    assert source.task.raters == tuple(f"seg{i:02d}" for i in range(1, 7))
    found = cases(source)
    assert list(found) == ["train_case01", "train_case09"]
    np.testing.assert_array_equal(found["train_case09"].rated.sum(0), [5, 5])
    assert found["train_case09"].rated[2].all()  # rater 3 looked and drew nothing
    np.testing.assert_array_equal(found["train_case01"].masks[5, 1], blob(26, (10, 12)).T)
    assert found["train_case01"].spacing_mm is None
    assert any("Testing" in note for note in source.notes)


def test_qubiq_brain_tumour_has_modalities_and_no_slices(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(0, 100, (10, 12, 4)) * [1, 10, 100, 1000]
    case = tmp_path / "brain-tumor/Validation/case1"
    nifti(case / "image.nii.gz", image.astype(np.float32), np.diag([2.0, 2, 5, 1]))
    for rater in (1, 2, 3):
        nifti(case / f"task02_seg{rater:02d}.nii.gz", blob(rater, (10, 12)).astype(np.uint8))
    (found,) = cases(DATASETS["qubiq"](tmp_path / "brain-tumor")).values()
    assert (found.image.shape, found.split) == ((4, 12, 10), "val")
    np.testing.assert_allclose(found.image.reshape(4, -1).max(1), 1)
    low, high = image[..., 2].min(), image[..., 2].max()
    np.testing.assert_allclose(found.image[2], ((image[..., 2] - low) / (high - low)).T, atol=1e-5)
    nifti(case / "task02_seg03.nii.gz", np.ones((10, 11), np.uint8))
    with pytest.raises(InputError, match="has the size 11 × 10, its image"):
        cases(DATASETS["qubiq"](tmp_path / "brain-tumor"))


def test_qubiq_pancreas_slices_come_first(tmp_path: Path) -> None:
    case = tmp_path / "training_data_v3_QC/pancreas/case13-1"
    image = nifti(
        case / "image.nii.gz", np.random.default_rng(0).normal(0, 9, (5, 10, 12)).astype(np.float32)
    )
    mask = np.random.default_rng(1).random((5, 10, 12)) > 0.5
    for rater in (1, 2):
        nifti(case / f"case13-1_seg{rater:02d}.nii.gz", mask.astype(np.uint8), np.diag([-1.0, 1, 1, 1]))
    source = DATASETS["qubiq"](tmp_path, set="pancreas")
    found = cases(source)["train_case13-1"]
    assert found.image.shape == (1, 5, 10, 12)
    np.testing.assert_array_equal(found.masks[1, 0], mask)
    assert np.argmax(found.image) == np.argmax(image)
    assert found.group == "case13"
    with pytest.raises(InputError, match="which set of"):
        DATASETS["qubiq"](tmp_path)


# --- Gleason ------------------------------------------------------------------------------------


def test_gleason(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    grades = np.array([0, 1, 3, 4, 5, 6], np.uint8)[np.random.default_rng(0).integers(0, 6, (12, 10))]
    (tmp_path / "Train Imgs").mkdir()
    for core in ("slide001_core003", "slide001_core004", "slide002_core001"):
        Pillow.fromarray(picture(0, colour=True)).save(tmp_path / f"Train Imgs/{core}.jpg")
    png(tmp_path / "Maps1_T/Maps1_T/slide001_core003_classimg_nonconvex.png", grades)
    png(tmp_path / "Maps3_T/slide001_core003_classimg_nonconvex.png", grades * 0)
    png(tmp_path / "Maps3_T/slide001_core004_classimg_nonconvex.png", grades)
    source = DATASETS["gleason"](tmp_path)
    found = cases(source)
    assert source.task.raters == ("pathologist 1", "pathologist 3")
    assert list(found) == ["slide001_core003", "slide001_core004"]
    first = found["slide001_core003"]
    np.testing.assert_array_equal(first.rated.all(1), [True, False])
    np.testing.assert_array_equal(first.masks[0, 0], (grades == 1) | (grades == 6))
    np.testing.assert_array_equal(first.masks[0, 2], grades == 4)
    assert first.group == "slide001"
    assert len(source.notes) == 2
    grades[0, 0] = 2
    png(tmp_path / "Maps1_T/Maps1_T/slide001_core003_classimg_nonconvex.png", grades)
    with pytest.raises(InputError, match="holds the values 2; expected 0, 1, 3, 4, 5, 6"):
        cases(DATASETS["gleason"](tmp_path))


# --- CURVAS -------------------------------------------------------------------------------------


def test_curvas(tmp_path: Path) -> None:
    affine = np.diag([0.8, 0.8, 2.0, 1])
    affine[:3, 3] = (-100, 30, 5)
    labels = np.random.default_rng(0).integers(0, 4, (6, 5, 4))
    folder = tmp_path / "training_set/UKCHLL001"
    hounsfield = nifti(folder / "image.nii.gz", (labels * 200.0 - 260).astype(np.float32), affine)
    for number in (1, 2, 3):
        nifti(folder / f"annotation_{number}.nii.gz", (labels * 0.99999).astype(np.float32), affine)
    found = cases(DATASETS["curvas"](tmp_path))["UKCHLL001"]
    assert isinstance(found, FileSample)
    np.testing.assert_allclose(found.image[0].T, np.clip((hounsfield + 160) / 400, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(found.masks[2, 1].T, labels == 2)
    np.testing.assert_allclose(found.spacing_mm, (2, 0.8, 0.8), rtol=1e-6)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.affine, affine, atol=1e-6)
    nifti(folder / "annotation_2.nii.gz", labels.astype(np.float32), np.eye(4))
    with pytest.raises(
        InputError, match=r"lies in another place than its image .* spacing \(0.8, 0.8, 2\) mm"
    ):
        cases(DATASETS["curvas"](tmp_path))
    nifti(folder / "annotation_2.nii.gz", (labels * 0.9).astype(np.float32), affine)
    with pytest.raises(InputError, match="not nearly whole numbers"):
        cases(DATASETS["curvas"](tmp_path))


def test_curvas_pdacvi_has_a_reference(tmp_path: Path) -> None:
    for number in range(1, 6):
        mask = np.random.default_rng(number).random((6, 5, 4)) > 0.5
        nifti(tmp_path / f"x/annotation_{number}.nii.gz", mask.astype(np.uint8))
    nifti(tmp_path / "x/image.nii.gz", np.zeros((6, 5, 4), np.int16))
    source = DATASETS["curvas"](tmp_path, set="pdacvi")
    assert source.task.raters == tuple(f"annotation {i}" for i in (2, 3, 4, 5))
    (found,) = cases(source).values()
    assert found.reference is not None
    np.testing.assert_array_equal(found.reference[0].T, np.random.default_rng(1).random((6, 5, 4)) > 0.5)
