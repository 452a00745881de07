"""DICOM series, made by hand and read by SimpleITK for comparison."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrprism.cli import call
from mrprism.core.errors import InputError

pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
import pydicom
import SimpleITK as Itk
from pydicom.uid import SecondaryCaptureImageStorage
from slices import TURNED, changed, series

from mrprism.datasets.dicom import read_series

VOLUME = np.random.default_rng(0).integers(-1000, 1500, (5, 6, 4)).astype(np.int16)


def test_a_series_is_what_simpleitk_reads(tmp_path: Path) -> None:
    paths = series(tmp_path, VOLUME)
    (tmp_path / "notes.txt").write_text("no slice")
    found = read_series(tmp_path)
    theirs = Itk.ReadImage([str(path) for path in paths])
    np.testing.assert_array_equal(found.array, Itk.GetArrayFromImage(theirs))
    np.testing.assert_array_equal(found.array, VOLUME)
    assert found.array.dtype == np.int16
    np.testing.assert_allclose(found.spacing_mm, theirs.GetSpacing()[::-1])
    np.testing.assert_allclose(found.origin, theirs.GetOrigin())
    np.testing.assert_allclose(found.direction, theirs.GetDirection(), atol=1e-9)
    assert found.files == tuple(paths)
    assert found.geometry.shape == (4, 6, 5)
    point = theirs.TransformIndexToPhysicalPoint((3, 1, 4))
    ras = (found.geometry.affine @ [3, 1, 4, 1])[:3]
    np.testing.assert_allclose(ras * [-1, -1, 1], point, atol=1e-4)


def test_slices_are_ordered_by_their_place(tmp_path: Path) -> None:
    series(tmp_path, VOLUME[::-1], step_mm=-2.5, SliceThickness=2.5)
    found = read_series(tmp_path)
    np.testing.assert_array_equal(found.array, VOLUME)
    assert found.spacing_mm == pytest.approx((2.5, 0.7, 0.5))
    np.testing.assert_allclose(found.origin, np.array([-10, 20, 30]) - [0, 0, 10])


def test_values_that_are_not_whole(tmp_path: Path) -> None:
    series(tmp_path, VOLUME[:1], RescaleSlope=0.5, RescaleIntercept=0)
    found = read_series(tmp_path)
    assert found.array.dtype == np.float32
    np.testing.assert_allclose(found.array, (VOLUME[:1] + 1024) * 0.5)
    assert found.spacing_mm[0] == 2.5


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p[2].unlink(), "5.000 mm apart, others 2.500 mm: 1 slice.s. missing between them"),
        (
            lambda p: changed(p[2], ImagePositionPatient=[-10, 20, 35.7]),
            "slices are not evenly spaced",
        ),
        (
            lambda p: changed(p[2], ImagePositionPatient=[-10, 20, 32.5]),
            "07.dcm' and '.*14.dcm' are two slices at one place",
        ),
        (
            lambda p: changed(p[4], ImagePositionPatient=[-10, 21, 40]),
            "shifted sideways",
        ),
        (lambda p: changed(p[3], SeriesInstanceUID="1.2.3"), "belongs to another series than"),
        (lambda p: changed(p[3], Rows=3, Columns=8), "another number of rows than"),
        (lambda p: changed(p[3], PixelSpacing=[1, 1]), "has the pixel spacing"),
        (lambda p: changed(p[3], PixelSpacing=[-1, 1]), "has the pixel spacing"),
        (lambda p: changed(p[3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), "another direction than"),
        (lambda p: changed(p[0], ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "not at right angles"),
        (lambda p: changed(p[3], ImagePositionPatient=[1, 2]), "expected three numbers"),
        (lambda p: changed(p[3], PixelData=b"\0\0"), "the pixels of '.*21.dcm' cannot be read"),
        (lambda p: changed(p[3], NumberOfFrames=2), "several frames"),
        (
            lambda p: p[3].write_bytes(p[3].read_bytes()[:700]),
            "21.dcm' is not a slice that can be placed: it lacks",
        ),
        (lambda p: p[3].write_bytes(b"nothing of the kind"), "21.dcm' is broken or not a DICOM file"),
        (lambda p: [path.unlink() for path in p], "holds no DICOM slice"),
    ],
)
def test_what_is_no_volume(tmp_path: Path, spoil: Callable[[list[Path]], object], says: str) -> None:
    spoil(series(tmp_path, VOLUME))
    with pytest.raises(InputError, match=says):
        read_series(tmp_path)


def test_what_lies_beside_a_series_is_passed_over(tmp_path: Path) -> None:
    paths = series(tmp_path, VOLUME)
    report = pydicom.dcmread(paths[0])
    for key in ("Rows", "Columns", "PixelData", "ImagePositionPatient"):
        delattr(report, key)
    report.Modality = "SR"
    report.save_as(tmp_path / "report.dcm")
    picture = pydicom.dcmread(paths[0])
    del picture.ImagePositionPatient
    picture.SOPClassUID = SecondaryCaptureImageStorage
    picture.save_as(tmp_path / "screenshot.dcm")
    np.testing.assert_array_equal(read_series(tmp_path).array, VOLUME)


def test_without_the_extra_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path / "in", VOLUME)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert call(["import", "dicom-seg", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "mrprism: 'import' needs the package 'pydicom': install it with pip install 'mrprism[dicom]'\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("seed", range(40))
def test_any_broken_byte_is_one_sentence(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    paths = series(tmp_path, VOLUME[:2])
    content = bytearray(paths[1].read_bytes())
    for place in rng.integers(132, len(content) - 2 * VOLUME[0].size, 6):
        content[place] = rng.integers(256)
    paths[1].write_bytes(content[: len(content) - int(rng.integers(2)) * int(rng.integers(300))])
    with contextlib.suppress(InputError):
        read_series(tmp_path)


def test_a_header_that_asks_for_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path, VOLUME, axes=TURNED)
    monkeypatch.setenv("MRPRISM_MAX_PIXELS", "100")
    with pytest.raises(InputError, match="5 × 6 × 4 pixels, more than MRPRISM_MAX_PIXELS"):
        read_series(tmp_path)
