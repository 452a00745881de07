"""BIDS derivatives: named masks and label maps, raters in an entity."""

import json
from pathlib import Path

import numpy as np
import pytest
from trees import blob, cases, nifti, picture

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS

AFFINE = np.diag([0.8, 0.8, 2.0, 1.0])
SHAPE = (6, 5, 4)


def raw(root: Path) -> Path:
    """Two subjects; the first has two sessions and, in one, a second contrast. Gives the derivative."""
    for name in ("sub-01/ses-1/anat/sub-01_ses-1_T1w", "sub-01/ses-2/anat/sub-01_ses-2_T1w"):
        nifti(root / f"{name}.nii.gz", picture(1, SHAPE), AFFINE)
    nifti(root / "sub-02/anat/sub-02_T1w.nii.gz", picture(2, SHAPE), AFFINE)
    (root / "sub-02/anat/sub-02_T1w.json").write_text("{}")
    derivative = root / "derivatives/manual"
    derivative.mkdir(parents=True)
    about = {"Name": "manual", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (derivative / "dataset_description.json").write_text(json.dumps(about))
    return derivative


def mask(path: Path, seed: int, empty: bool = False) -> np.ndarray:
    return nifti(path, (blob(seed, SHAPE) & (not empty)).astype(np.uint8), AFFINE)


def test_masks(tmp_path: Path) -> None:
    root = raw(tmp_path)
    for session, rater in ((1, "ann"), (1, "bob"), (2, "ann")):
        for label in ("lesion", "cyst"):
            stem = f"sub-01_ses-{session}_label-{label}_desc-{rater}_mask.nii.gz"
            mask(root / f"sub-01/ses-{session}/anat/{stem}", len(rater + label), rater == "bob")
    mask(root / "sub-02/anat/sub-02_label-lesion_desc-bob_mask.nii.gz", 7)
    mask(root / "sub-02/anat/sub-02_label-lesion_mask.nii.gz", 7)
    mask(root / "sub-02/anat/sub-02_label-lesion_probseg.nii.gz", 7)
    source = DATASETS["bids"](root)
    found = cases(source)
    assert list(found) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert source.task.raters == ("ann", "bob")
    lesion = source.task.structures.index("lesion")
    np.testing.assert_array_equal(found["sub-01_ses-2"].rated, [[True, True], [False, False]])
    np.testing.assert_array_equal(found["sub-02"].rated[:, lesion], [False, True])
    assert found["sub-02"].rated.sum() == 1
    np.testing.assert_array_equal(found["sub-01_ses-1"].masks[0, lesion].T, blob(9, SHAPE))
    assert found["sub-01_ses-1"].rated.all() and not found["sub-01_ses-1"].masks[1].any()
    assert [s.group for s in found.values()] == ["01", "01", "02"]
    assert found["sub-02"].spacing_mm == pytest.approx((2, 0.8, 0.8))
    assert source.ledger is not None
    assert len(source.ledger.left) == 2


def test_label_maps_are_named_by_the_nearest_table(tmp_path: Path) -> None:
    root = raw(tmp_path)
    labels = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    for rater in ("r1", "r10", "r2"):
        nifti(root / f"sub-02/anat/sub-02_space-orig_seg-{rater}_desc-manual_dseg.nii.gz", labels, AFFINE)
    table = "index\tname\tcolor\n0\tbackground\t#000000\n1\tgrey\t#0\n2\tlesion\t#1\n3\tlesion\t#2\n"
    (root / "dseg.tsv").write_text(table)
    (root / "sub-02/anat/sub-02_seg-r10_dseg.tsv").write_text(table.replace("grey", "white"))
    (root / "sub-02/anat/sub-02_acq-no_dseg.tsv").write_text("wrong")
    source = DATASETS["bids"](root, rater="seg")
    (found,) = cases(source).values()
    assert source.task.raters == ("r1", "r2", "r10")
    assert source.task.structures == ("grey", "lesion", "white")
    np.testing.assert_array_equal(found.masks[1, 1].T, labels >= 2)
    np.testing.assert_array_equal(found.rated[2], [False, True, True])
    (root / "dseg.tsv").write_text(table.replace("3\tlesion\t#2\n", ""))
    with pytest.raises(InputError, match=r"holds the values 3; expected 0, 1, 2"):
        cases(DATASETS["bids"](root, rater="seg"))
    (root / "dseg.tsv").write_text("index\tlabel\n")
    with pytest.raises(InputError, match="has no column 'name'"):
        DATASETS["bids"](root, rater="seg")
    (root / "dseg.tsv").unlink()
    with pytest.raises(InputError, match=r"has no dseg\.tsv beside it or above"):
        DATASETS["bids"](root, rater="seg")


def test_which_image(tmp_path: Path) -> None:
    root = raw(tmp_path / "ds")
    drawn = "sub-02/anat/sub-02_desc-ann_mask.nii.gz"
    mask(root / drawn, 1)
    nifti(tmp_path / "ds/sub-02/anat/sub-02_FLAIR.nii.gz", picture(5, SHAPE), AFFINE)
    with pytest.raises(InputError, match="expected -o suffix= one of FLAIR, T1w"):
        DATASETS["bids"](root)
    (found,) = cases(DATASETS["bids"](root, suffix="FLAIR", structure="lesion")).values()
    values = picture(5, SHAPE).astype(np.float32) / 255
    np.testing.assert_allclose(found.image[0].T, values, atol=1e-6)
    (root.parent / "manual").rename(tmp_path / "apart")
    with pytest.raises(InputError, match=r"has no image in .*apart'; expected the raw data set"):
        DATASETS["bids"](tmp_path / "apart", suffix="T1w")
    again = DATASETS["bids"](tmp_path / "apart", images=str(tmp_path / "ds"), suffix="FLAIR")
    np.testing.assert_array_equal(cases(again)["sub-02"].masks, found.masks)
    nifti(tmp_path / "apart" / drawn, blob(1, SHAPE).astype(np.uint8), np.eye(4))
    with pytest.raises(InputError, match="lies in another place than its image"):
        cases(DATASETS["bids"](tmp_path / "apart", images=str(tmp_path / "ds"), suffix="FLAIR"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sub-02_desc-brain_mask", "'desc-brain', which names a kind of processing and no rater"),
        ("sub-02_desc-ann_label_mask", "not named as BIDS wants it"),
        ("sub-02_label-lesion_mask", "has no mask or dseg file with the entity 'desc-'"),
        ("sub-03_desc-ann_mask", "has no image"),
    ],
)
def test_faults(tmp_path: Path, name: str, says: str) -> None:
    root = raw(tmp_path)
    mask(root / f"sub-02/anat/{name}.nii.gz", 1)
    with pytest.raises(InputError, match=says):
        DATASETS["bids"](root)


def test_the_same_structure_twice(tmp_path: Path) -> None:
    root = raw(tmp_path)
    mask(root / "sub-02/anat/sub-02_res-1_desc-ann_mask.nii.gz", 1)
    mask(root / "sub-02/anat/sub-02_res-2_desc-ann_mask.nii.gz", 1)
    with pytest.raises(InputError, match="are both 'object' by 'ann'"):
        DATASETS["bids"](root)
