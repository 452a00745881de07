"""DICOM SEG: files made by highdicom over a series made by hand."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.dataset import FileSample
from mrprism.images import Geometry
from mrprism.layouts import DATASETS
from mrprism.layouts.writers import export_dataset

pytest.importorskip("highdicom", reason="needs the extra 'dicom'")
import highdicom as hd
import pydicom
from slices import FRAME, changed, segmentation, series
from trees import cases, nifti

from mrprism.datasets.dicom import read_series

read = DATASETS["dicom-seg"]
VOLUME = np.random.default_rng(0).integers(-1000, 1500, (5, 6, 4)).astype(np.int16)
RNG = np.random.default_rng(1)
LIVER, TUMOUR = RNG.random((2, *VOLUME.shape)) > 0.5
LIVER[1] = TUMOUR[3:] = False


def test_frames_are_put_where_they_lie(tmp_path: Path) -> None:
    slices = series(tmp_path / "CT/liver01", VOLUME)
    turned = [4, 2, 3, 1, 0]  # a writer may list slices in any order
    both = {"liver": LIVER[turned], "tumour": TUMOUR[turned]}
    segmentation(tmp_path / "seg/1.dcm", [slices[i] for i in turned], both, "Lee^Ann")
    segmentation(tmp_path / "seg/2.dcm", slices[:2], {"tumour": TUMOUR[:2]}, "Bob")
    source = read(tmp_path, window="-160:240")
    (found,) = cases(source).values()
    assert (source.task.raters, source.task.structures) == (("Bob", "Lee^Ann"), ("liver", "tumour"))
    assert (found.name, found.group) == ("liver01", "P1")
    np.testing.assert_array_equal(found.masks[1], [LIVER, TUMOUR])
    np.testing.assert_array_equal(found.rated, [[False, True], [True, True]])
    assert not found.masks[0, 1, 2:].any()
    np.testing.assert_array_equal(found.masks[0, 1, :2], TUMOUR[:2])
    np.testing.assert_allclose(found.image[0], np.clip((VOLUME + 160.0) / 400, 0, 1), atol=1e-6)
    assert found.spacing_mm == pytest.approx((2.5, 0.7, 0.5))


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_rater_who_saw_nothing(tmp_path: Path, kind: str) -> None:
    slices = series(tmp_path / "a", VOLUME)
    nothing = {"liver": LIVER & False, "tumour": LIVER & False}
    segmentation(tmp_path / "s/x.dcm", slices, nothing, "Ann", kind)
    segmentation(tmp_path / "s/y.dcm", slices, {"liver": LIVER, "tumour": LIVER & False}, "Bob", kind)
    (found,) = cases(read(tmp_path)).values()
    assert found.rated.all()
    assert not found.masks[0].any()
    np.testing.assert_array_equal(found.masks[1, 0], LIVER)


def test_label_maps_and_fractions(tmp_path: Path) -> None:
    slices = series(tmp_path / "a", VOLUME)
    segmentation(tmp_path / "x.dcm", slices, {"liver": LIVER, "rest": ~LIVER & TUMOUR}, "Ann", "LABELMAP")
    (found,) = cases(read(tmp_path)).values()
    np.testing.assert_array_equal(found.masks[0], [LIVER, ~LIVER & TUMOUR])
    share = RNG.random(VOLUME.shape)
    segmentation(tmp_path / "x.dcm", slices, {"liver": share}, "Ann", "FRACTIONAL", max_fractional_value=200)
    with pytest.raises(InputError, match="is fractional; expected -o threshold="):
        read(tmp_path)
    with pytest.raises(InputError, match="threshold '50%' is not understood"):
        read(tmp_path, threshold="50%")
    (found,) = cases(read(tmp_path, threshold="0.25")).values()
    np.testing.assert_array_equal(found.masks[0, 0], np.round(share * 200) > 50)


def test_names_of_cases_and_raters(tmp_path: Path) -> None:
    for number, patient in ((1, "P1"), (2, "P2"), (3, "P2")):
        folder = tmp_path / f"{patient}/{number if number == 3 else 'x'}/CT"
        slices = series(folder, VOLUME, uid=f"1.2.826.0.1.3680043.8.498.{number}0", patient=patient)
        segmentation(tmp_path / f"{number}.dcm", slices, {"liver": LIVER}, None)
    source = read(tmp_path)
    found = cases(source)
    assert sorted(found) == ["P1_CT", "P2_CT", "P2_CT_2"]
    assert source.task.raters == ("by somebody",)
    assert "names no content creator; its series is described as 'by somebody'" in source.notes[0]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda s, path: segmentation(path.with_name("y.dcm"), s, {"liver": LIVER}, "Ann"),
            "both hold 'liver' by 'Ann' on one series",
        ),
        (
            lambda s, path: changed(path, FrameOfReferenceUID="1.2.3"),
            f"lies in the frame of reference 1.2.3, its series in {FRAME}",
        ),
        (lambda s, path: [p.unlink() for p in s], "was drawn on the series .*, which is not there"),
        (
            lambda s, path: changed(path, ContentCreatorName=None, SeriesDescription=None),
            "has neither a content creator nor a series description",
        ),
        (lambda s, path: shortened(path), "describes 3 frames but holds 4"),
        (lambda s, path: changed(path, PixelData=b"\0\0"), "the pixels of .*x.dcm' cannot be read"),
        (lambda s, path: changed(path, SegmentSequence=[]), "lists no segments"),
        (lambda s, path: path.unlink(), "holds no DICOM SEG file"),
        (lambda s, path: s[2].unlink(), "1 slice.s. missing between them"),
        (lambda s, path: moved(path, [0.25, 0, 0]), "has a frame between the voxels of its series"),
        (lambda s, path: moved(path, [500, 0, 0]), "has a frame"),
        (
            lambda s, path: turned(path),
            r"is not on the grid of the series it was drawn on, .*/a': direction \(",
        ),
    ],
)
def test_faults(tmp_path: Path, spoil: Callable[[list[Path], Path], object], says: str) -> None:
    slices = series(tmp_path / "a", VOLUME)
    spoil(slices, segmentation(tmp_path / "x.dcm", slices, {"liver": LIVER}, "Ann"))
    with pytest.raises(InputError, match=says):
        cases(read(tmp_path))


def shortened(path: Path) -> None:
    file = pydicom.dcmread(path)
    file.PerFrameFunctionalGroupsSequence.pop()
    file.save_as(path)


def moved(path: Path, by: list[float]) -> None:
    file = pydicom.dcmread(path)
    place = file.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(v) + d for v, d in zip(place.ImagePositionPatient, by, strict=True)]
    file.save_as(path)


def turned(path: Path) -> None:
    file = pydicom.dcmread(path)
    shared = file.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    file.save_as(path)


@pytest.mark.parametrize("seed", range(30))
def test_any_broken_byte_is_one_sentence(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slices = series(tmp_path / "a", VOLUME)
    path = segmentation(tmp_path / "x.dcm", slices, {"liver": LIVER}, "Ann")
    content = bytearray(path.read_bytes())
    for place in rng.integers(132, len(content), 8):
        content[place] = rng.integers(256)
    path.write_bytes(content[: len(content) - int(rng.integers(2)) * int(rng.integers(2000))])
    with contextlib.suppress(InputError):
        cases(read(tmp_path))


def test_the_series_a_case_came_from_is_referred_to(tmp_path: Path) -> None:
    paths = series(tmp_path / "set/ct/c1", VOLUME)
    affine = read_series(tmp_path / "set/ct/c1").geometry.affine
    nifti(tmp_path / "set/ann.nii.gz", LIVER.T.astype(np.uint8), affine)
    case = {"name": "c1", "image": "ct/c1", "masks": {"ann": {"liver": "ann.nii.gz"}}}
    about = {"format": "mrprism-dataset/1", "name": "set", "channels": ["CT"], "structures": ["liver"]}
    (tmp_path / "set/dataset.json").write_text(json.dumps({**about, "raters": ["ann"], "cases": [case]}))
    out = export_dataset(open_dataset(tmp_path / "set"), "dicom-seg", tmp_path / "out").folder
    drawn = pydicom.dcmread(out / "ann/c1.dcm")
    original = pydicom.dcmread(paths[0])
    assert drawn.ReferencedSeriesSequence[0].SeriesInstanceUID == original.SeriesInstanceUID
    assert drawn.PatientID == "P1"
    assert (out / "images/c1/0001.dcm").read_bytes() == paths[0].read_bytes()
    (found,) = cases(read(out)).values()
    np.testing.assert_array_equal(found.masks[0, 0], LIVER)


def test_what_is_exported_is_what_highdicom_reads(tmp_path: Path) -> None:
    affine = np.diag([-0.5, -0.7, 2.5, 1.0])
    affine[:3, 3] = 10, 20, -30
    geometry = Geometry(affine, VOLUME.shape[::-1])
    image = (VOLUME[None] + 1000) / np.float32(2500)
    masks = np.stack([[LIVER, TUMOUR], [LIVER & False, TUMOUR & False]])
    rated = np.array([[True, True], [True, True]])
    sample = FileSample("c1", image, masks, rated, group="P7", spacing_mm=(2.5, 0.7, 0.5), geometry=geometry)
    dataset = Dataset.from_samples("set", Task(1, ("liver", "tumour"), ("ann", "bob")), [sample])
    for out in ("one", "two"):
        export_dataset(dataset, "dicom-seg", tmp_path / out)
    drawn = hd.seg.segread(tmp_path / "one/ann/c1.dcm")
    assert str(drawn.ContentCreatorName) == "ann"
    assert [s.SegmentLabel for s in drawn.SegmentSequence] == ["liver", "tumour"]
    again = pydicom.dcmread(tmp_path / "two/ann/c1.dcm")
    assert again.SOPInstanceUID == drawn.SOPInstanceUID
    volume = drawn.get_volume(allow_missing_positions=False)
    # highdicom counts slices from the other end, as its affine says
    np.testing.assert_array_equal(np.moveaxis(volume.array[::-1], -1, 0), [LIVER, TUMOUR])
    series_ = sorted((tmp_path / "one/images/c1").iterdir())
    source = hd.get_volume_from_series([pydicom.dcmread(path) for path in series_])
    np.testing.assert_allclose(source.array[::-1], image[0], atol=1e-4)
    np.testing.assert_allclose(source.affine @ [4, 0, 0, 1], [-10, -20, -30, 1], atol=1e-6)
    found = cases(read(tmp_path / "one"))["c1"]
    np.testing.assert_array_equal(found.masks, masks)
    assert found.group == "P7"
    assert found.rated.all()
    fused = export_dataset(dataset, "dicom-seg", tmp_path / "fused", raters="majority").folder
    assert pydicom.dcmread(fused / "majority/c1.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert "was made by an algorithm" in read(fused).notes[0]
