"""BraTS 2020 and QU-BraTS: one reference, and maps that are no raters."""

from pathlib import Path

import numpy as np
import pytest
from trees import cases, nifti, picture

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset
from mrprism.layouts import DATASETS

read = DATASETS["qu-brats"]
SHAPE = (6, 5, 4)
LABELS = np.random.default_rng(0).choice(np.array([0, 1, 2, 4], np.uint8), SHAPE)


def case(root: Path, number: int, seg: str = "{0}_seg.nii.gz", labels: np.ndarray = LABELS) -> Path:
    name = f"BraTS20_Training_{number:03d}"
    folder = root / "MICCAI_BraTS2020_TrainingData" / name
    for k, sequence in enumerate(("flair", "t1", "t1ce", "t2")):
        nifti(folder / f"{name}_{sequence}.nii.gz", picture(10 * number + k, SHAPE).astype(np.int16))
    if seg:
        nifti(folder / seg.format(name), labels)
    return folder


def test_regions_sequences_and_what_is_left_out(tmp_path: Path) -> None:
    first = case(tmp_path, 1)
    for part in ("whole", "core", "enhance"):
        nifti(first / f"BraTS20_Training_001_unc_{part}.nii.gz", picture(1, SHAPE))
    case(tmp_path, 355, "W39_1998.09.19_Segm.nii")
    case(tmp_path, 2, "")
    source = read(tmp_path)
    found = cases(source)
    assert source.task.raters == ()
    assert source.channels == ("FLAIR", "T1", "T1ce", "T2")
    assert list(found) == ["BraTS20_Training_001", "BraTS20_Training_355"]
    reference = found["BraTS20_Training_355"].reference
    assert reference is not None
    expected = [LABELS > 0, np.isin(LABELS, (1, 4)), LABELS == 4]
    np.testing.assert_array_equal(reference, [mask.T for mask in expected])
    t1ce = picture(12, SHAPE).astype(float)
    scaled = (t1ce - t1ce.min()) / (t1ce.max() - t1ce.min())
    np.testing.assert_allclose(found["BraTS20_Training_001"].image[2].T, scaled, atol=1e-6)
    assert (
        "3 uncertainty maps of 'BraTS20_Training_001' are no rater's masks and were left out" in source.notes
    )
    assert "'W39_1998.09.19_Segm.nii' was taken for the reference of 'BraTS20_Training_355'" in source.notes
    assert source.ledger is not None
    assert {(item.case, item.why) for item in source.ledger.left} == {
        ("BraTS20_Training_002", "of a case that has no reference")
    }
    one = cases(read(tmp_path, labels="oedema:2"))["BraTS20_Training_001"].reference
    assert one is not None
    np.testing.assert_array_equal(one[0].T, LABELS == 2)


def test_imported_by_the_command(tmp_path: Path) -> None:
    case(tmp_path / "in", 1)
    assert call(["import", "qu-brats", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    data = open_dataset(tmp_path / "out")
    assert data.task.raters == ()
    assert data[0].reference is not None


def test_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder with NAME_flair"):
        read(tmp_path)
    with pytest.raises(InputError, match="name the value 3, which BraTS 2020 does not have"):
        read(tmp_path, labels="enhancing:3")
    folder = case(tmp_path, 1, labels=np.where(LABELS == 4, 3, LABELS).astype(np.uint8))
    with pytest.raises(InputError, match=r"_seg\.nii\.gz' holds the value 3; BraTS 2020 has 0, 1, 2 and 4"):
        cases(read(tmp_path))
    case(tmp_path, 1)
    nifti(folder / "BraTS20_Training_001_t2.nii.gz", picture(1, SHAPE), np.diag([2.0, 1, 1, 1]))
    with pytest.raises(
        InputError, match=r"channel .*_t2.nii.gz' lies in another place than its image .*_flair.nii.gz'"
    ):
        cases(read(tmp_path))
    nifti(folder / "BraTS20_Training_001_t2.nii.gz", picture(1, (6, 5, 3)))
    with pytest.raises(
        InputError,
        match=r"channel .*_t2.nii.gz' has the size 3 × 5 × 6, its image .*_flair.nii.gz' 4 × 5 × 6",
    ):
        cases(read(tmp_path))
    (folder / "BraTS20_Training_001_t2.nii.gz").unlink()
    with pytest.raises(InputError, match="has no 't2' beside its other sequences"):
        read(tmp_path)
