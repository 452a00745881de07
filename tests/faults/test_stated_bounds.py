"""Bounds that docs/reference/limits.md states and no other test holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.images import read_labels
from mrprism.layouts.shapes import polygon


def test_a_numpy_header_is_at_most_ten_kilobytes(tmp_path: Path) -> None:
    for pad, fits in ((9_000, True), (11_000, False)):
        head = (f"{{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }}{' ' * pad}\n").encode()
        file = tmp_path / f"{pad}.npy"
        file.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(4))
        if fits:
            assert read_labels(file).array.shape == (2, 2)
        else:
            with pytest.raises(InputError, match=r"11000.npy' is broken"):
                read_labels(file)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr"])
def test_an_nrrd_header_is_at_most_ten_megabytes(ending: str, tmp_path: Path) -> None:
    head = b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 2 2\nencoding: raw\n"
    for kilobytes, fits in ((9_900, True), (10_100, False)):
        file = tmp_path / f"{kilobytes}{ending}"
        more = b"data file: x.raw\n" if ending == ".nhdr" else b""
        (tmp_path / "x.raw").write_bytes(bytes(4))
        comments = b"#" + b"x" * (kilobytes * 1000) + b"\n"
        file.write_bytes(head + more + comments + (b"\n" + bytes(4) if ending == ".nrrd" else b""))
        if fits:
            assert read_labels(file).array.shape == (2, 2)
        else:
            with pytest.raises(InputError, match="no header"):
                read_labels(file)


def test_a_point_lies_within_a_million_pixels() -> None:
    near = np.array([[-1e6, 0], [1e6, 0], [0, 1e6]])
    assert polygon(near, (3, 3)).all()
    for far in (1.1e6, -1.1e6, np.nan, np.inf):
        with pytest.raises(InputError):
            polygon(np.array([[far, 0], [1, 0], [0, 1]]), (3, 3))


def test_a_dicomdir_is_passed_over(tmp_path: Path) -> None:
    """Whatever paths it names: only what lies in the folder itself is looked at."""
    pydicom = pytest.importorskip("pydicom")
    from slices import series

    from mrprism.datasets.dicom import read_series

    volume = np.arange(3 * 6 * 5, dtype=np.int16).reshape(3, 6, 5)
    paths = series(tmp_path / "ct", volume)
    listing = pydicom.Dataset()
    listing.FileSetID = "X"
    record = pydicom.Dataset()
    record.ReferencedFileID = ["OTHER", "SECRET"]
    listing.DirectoryRecordSequence = [record]
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    listing.file_meta = meta
    listing.save_as(paths[0].parent / "DICOMDIR", enforce_file_format=True)
    np.testing.assert_array_equal(read_series(tmp_path / "ct").array, volume)
