"""The same words and the same `--resample` in the layouts of tools and challenges; SimpleITK is the judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from test_resample import HERE, THERE, itk_image, oblique

from mrprism.cli import call
from mrprism.datasets import open_dataset
from mrprism.images import Geometry

CURVAS, BRATS = "UKCHLL001", "BraTS20_Training_001"
BOX = np.zeros(THERE.shape[::-1], np.uint8)  # what is drawn, z, y, x, on the other grid
BOX[3:9, 6:16, 7:17] = 1


def on_image(drawn: np.ndarray, lies: Geometry, onto: Geometry) -> np.ndarray:
    """SimpleITK's answer."""
    itk = pytest.importorskip("SimpleITK")
    grid = itk_image(np.zeros(onto.shape[::-1], np.uint8), onto)
    image = itk_image(drawn.astype(np.uint8), lies)
    found = itk.Resample(image, grid, itk.Transform(), itk.sitkNearestNeighbor, 0)
    return np.asarray(itk.GetArrayFromImage(found) > 0)


def volume(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.T, geometry.affine), path)


def picture(geometry: Geometry = HERE) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, geometry.shape[::-1]).astype(np.int16)


def curvas(root: Path) -> None:
    volume(root / CURVAS / "image.nii.gz", picture(), HERE)
    here = np.zeros(HERE.shape[::-1], np.float32)
    here[2:5, 8:15, 9:20] = 3
    volume(root / CURVAS / "annotation_1.nii.gz", here, HERE)
    volume(root / CURVAS / "annotation_2.nii.gz", BOX * np.float32(3), THERE)


def brats(root: Path) -> None:
    for sequence in ("flair", "t1", "t1ce", "t2"):
        volume(root / BRATS / f"{BRATS}_{sequence}.nii.gz", picture(), HERE)
    volume(root / BRATS / f"{BRATS}_seg.nii.gz", BOX * np.uint8(4), THERE)


def slicer(root: Path) -> None:
    volume(root / "images/c.nii.gz", picture(), HERE)
    itk = pytest.importorskip("SimpleITK")
    image = itk_image(BOX, THERE)
    for key, value in {"ID": "s", "Name": "organ", "Layer": "0", "LabelValue": "1"}.items():
        image.SetMetaData(f"Segment0_{key}", value)
    (root / "bob").mkdir()
    itk.WriteImage(image, str(root / "bob/c.seg.nrrd"), useCompression=True)


def dicom(root: Path) -> None:
    """Bob's file says it was drawn on the series `ct`, but its frames are those of another one."""
    pytest.importorskip("highdicom")
    import pydicom
    from slices import TURNED, segmentation, series

    series(root / "ct", picture(), axes=(1, 0, 0, 0, 1, 0), pixel_mm=(0.8, 0.7))
    other = series(
        root.parent / "other", picture(THERE), uid="1.2.3.4", axes=TURNED, pixel_mm=(0.9, 1.1), step_mm=1.9
    )
    path = segmentation(root / "bob.dcm", other, {"organ": BOX > 0}, "Bob")
    file = pydicom.dcmread(path)
    assert len(file.PerFrameFunctionalGroupsSequence) == 6  # planes without a mark are not there
    file.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    file.save_as(path)


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "curvas": (curvas, "annotation 2", ("annotation_2.nii.gz", "image.nii.gz", "size 12 × 22 × 24", "9 × 26 × 30")),
    "qu-brats": (brats, "", ("_seg.nii.gz", "_flair.nii.gz", "size 12 × 22 × 24", "9 × 26 × 30")),
    "slicer": (slicer, "bob", ("bob/c.seg.nrrd", "images/c.nii.gz", "(0.7, 0.8, 2.5) mm against (1.1, 0.9, 1.9)")),
    "dicom-seg": (dicom, "Bob", ("bob.dcm", "/ct'", "(0.7, 0.8, 2.5) mm against (1.1, 0.9, 2.5) mm")),
}  # fmt: skip


def drawn(kind: str, sample: Any, rater: str, raters: tuple[str, ...]) -> np.ndarray:
    return np.asarray(sample.reference[0] if kind == "qu-brats" else sample.masks[raters.index(rater), -1])


@pytest.mark.parametrize("kind", LAYOUTS)
def test_refused_by_name_or_brought_onto_the_image(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, rater, says = LAYOUTS[kind]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    command = ["import", kind, str(tmp_path / "in"), str(tmp_path / "out")]
    assert call(command) == 2
    said = capsys.readouterr().err
    assert [part for part in says if part not in said] == [], said
    assert not (tmp_path / "out").exists()

    assert call([*command, "--resample"]) == 0, capsys.readouterr().err
    data = open_dataset(tmp_path / "out")
    lies, onto = THERE, HERE
    if kind == "dicom-seg":
        from mrprism.datasets.dicom import read_series

        lies, onto = (read_series(tmp_path / place).geometry for place in ("other", "in/ct"))
    expected = on_image(BOX, lies, onto)
    assert expected.sum() > 100
    assert np.array_equal(drawn(kind, data[0], rater, data.task.raters), expected)
    if kind == "curvas":
        here = np.zeros(HERE.shape[::-1], bool)
        here[2:5, 8:15, 9:20] = True
        assert np.array_equal(data[0].masks[0, -1], here)  # what lay right stays


@pytest.mark.parametrize("kind", LAYOUTS)
def test_what_does_not_touch_its_image_is_refused_even_so(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    far = Geometry(oblique(13, (1.1, 0.9, 1.9), (1003.3, -1.2, 4.1)), THERE.shape)
    monkeypatch.setitem(globals(), "THERE", far)
    make, _, says = LAYOUTS[kind]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    if kind == "dicom-seg":
        import pydicom

        file = pydicom.dcmread(tmp_path / "in/bob.dcm")
        for group in file.PerFrameFunctionalGroupsSequence:
            place = group.PlanePositionSequence[0]
            place.ImagePositionPatient = [1003, *place.ImagePositionPatient[1:]]
        file.save_as(tmp_path / "in/bob.dcm")
    assert call(["import", kind, str(tmp_path / "in"), str(tmp_path / "out"), "--resample"]) == 2
    said = capsys.readouterr().err
    assert "nothing of" in said
    assert says[0] in said
    assert "expected some of it" in said
    assert not (tmp_path / "out").exists()


def test_frames_that_are_no_stack_cannot_be_resampled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    dicom(tmp_path / "in")
    import pydicom

    file = pydicom.dcmread(tmp_path / "in/bob.dcm")
    place = file.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    place.ImagePositionPatient = [*place.ImagePositionPatient[:2], place.ImagePositionPatient[2] + 1]
    file.save_as(tmp_path / "in/bob.dcm")
    assert call(["import", "dicom-seg", str(tmp_path / "in"), str(tmp_path / "out"), "--resample"]) == 2
    said = capsys.readouterr().err
    assert "bob.dcm' has frames at" in said
    assert "not planes of one stack, 1.9 mm apart" in said


@pytest.mark.parametrize("kind", ["nnunet", "monai", "qu-brats"])
def test_channels_of_one_image_lie_on_one_grid(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read by channel from files of their own, they are compared too, and come along linearly."""
    root, box = tmp_path / "in", np.zeros(HERE.shape[::-1], np.uint8)
    box[2:5, 8:15, 9:20] = 1
    options = []
    if kind == "qu-brats":
        brats(root)
        volume(root / BRATS / f"{BRATS}_seg.nii.gz", box, HERE)
        first, second = (f"{BRATS}/{BRATS}_{name}.nii.gz" for name in ("flair", "t1"))
    else:
        first, second = "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz"
        volume(root / first, picture(), HERE)
        volume(root / "labelsTr_ann/a.nii.gz", box, HERE)
        if kind == "nnunet":
            labels = '"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"'
            document = f'{{"channel_names": {{"0": "T1", "1": "T2"}}, {labels}}}'
        else:
            document = (
                f'{{"training": [{{"image": ["{first}", "{second}"], "ann": "labelsTr_ann/a.nii.gz"}}]}}'
            )
            options = ["-o", "raters=an*"]
        (root / "dataset.json").write_text(document)
    volume(root / second, picture(THERE), THERE)
    command = ["import", kind, str(root), str(tmp_path / "out"), *options]
    assert call(command) == 2
    said = capsys.readouterr().err
    for part in (first, second, "size 12 × 22 × 24", "9 × 26 × 30", "(0.7, 0.8, 2.5) mm against"):
        assert part in said
    assert call([*command, "--resample"]) == 0, capsys.readouterr().err
    image = open_dataset(tmp_path / "out")[0].image
    assert image.shape[1:] == HERE.shape[::-1]
    itk = pytest.importorskip("SimpleITK")
    values = picture(THERE).astype(np.float32)
    values = (values - values.min()) / (values.max() - values.min())
    grid = itk_image(np.zeros(HERE.shape[::-1], np.float32), HERE)
    theirs = itk.GetArrayFromImage(
        itk.Resample(itk_image(values, THERE), grid, itk.Transform(), itk.sitkLinear, 0)
    )
    theirs = (theirs - theirs.min()) / (theirs.max() - theirs.min())  # stretched on the grid it has now
    assert np.allclose(image[1], theirs, atol=1e-3)
