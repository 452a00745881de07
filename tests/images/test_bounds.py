"""Files that unpack to far more than they say, and files that name others: refused, in little memory."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from mrprism.core.errors import InputError
from mrprism.images import read_image, read_mask, read_values

BOMB = 250_000_000  # bytes that a strip unpacks to
LITTLE = 250  # megabytes, with Python and NumPy


def deflated(size: int) -> bytes:
    pack = zlib.compressobj(9)
    return b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()


def tiff(path: Path, strip: bytes, compression: int) -> None:
    """A picture of 20 × 20 whose strip is what it is."""
    tags = [(256, 20), (257, 20), (258, 8), (259, compression), (262, 1), (273, 8), (277, 1), (278, 20)]
    tags.append((279, len(strip)))
    body = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags
    )
    start = 8 + len(strip)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, start) + strip + body + bytes(4))


def bomb_tiff(path: Path) -> None:
    tiff(path, deflated(BOMB), 8)


def bomb_packbits(path: Path) -> None:
    tiff(path, b"\x81\x00" * 2_000_000, 32773)


def bomb_nifti(path: Path) -> None:
    nib.Nifti1Image(np.zeros((20, 20, 2), np.uint8), np.eye(4)).to_filename(path.with_suffix(""))
    plain = path.with_suffix("").read_bytes()
    pack = zlib.compressobj(9, wbits=31)
    path.write_bytes(
        pack.compress(plain)
        + b"".join(pack.compress(bytes(1 << 20)) for _ in range(BOMB >> 20))
        + pack.flush()
    )


def bomb_nrrd(path: Path) -> None:
    head = b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 20 20\nencoding: gzip\n\n"
    pack = zlib.compressobj(9, wbits=31)
    path.write_bytes(head + b"".join(pack.compress(bytes(1 << 20)) for _ in range(BOMB >> 20)) + pack.flush())


def bomb_bzip2(path: Path) -> None:
    head = b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 20 20\nencoding: bzip2\n\n"
    path.write_bytes(head + bz2.compress(bytes(60_000_000)) * 4)


def bomb_metaimage(path: Path) -> None:
    head = b"NDims = 2\nDimSize = 20 20\nElementType = MET_UCHAR\nCompressedData = True\nElementDataFile = LOCAL\n"
    path.write_bytes(head + deflated(BOMB))


def bomb_png(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 6, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", deflated(1 << 24)) + chunk(b"IEND", b""))


def bomb_text(path: Path) -> None:
    """A PNG with a packed text of 250 MB."""
    Pillow.fromarray(np.zeros((20, 20), np.uint8)).save(path)
    content = path.read_bytes()
    data = b"Comment\0\0" + deflated(BOMB)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    path.write_bytes(content[:33] + chunk + content[33:])


def bomb_jpeg(path: Path) -> None:
    Pillow.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    path.write_bytes(content)


def bomb_npy(path: Path) -> None:
    np.save(path, np.zeros((9, 9), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"(9, 9)", b"(90000, 11000)"[:6]).replace(b"'|u1'", b"'<f8'"))


BOMBS: dict[str, Callable[[Path], None]] = {
    "a.tif": bomb_tiff,
    "b.tif": bomb_packbits,
    "a.nii.gz": bomb_nifti,
    "a.nrrd": bomb_nrrd,
    "b.nrrd": bomb_bzip2,
    "a.mha": bomb_metaimage,
    "a.png": bomb_png,
    "b.png": bomb_text,
    "a.jpg": bomb_jpeg,
    "a.npy": bomb_npy,
}
READ = """
import re, sys
from mrprism.core.errors import InputError
from mrprism.images import read_mask
try:
    read_mask(sys.argv[1])
except InputError as error:
    # the peak of this program alone: getrusage would count the one it was started from
    print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024, error)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    BOMBS[name](path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=True,
    )
    megabytes, sentence = done.stdout.split(" ", 1)
    assert name in sentence
    assert int(megabytes) < LITTLE


def test_what_a_strip_may_hold_is_not_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (70, 50)).astype(np.uint8)
    for number, options in enumerate(
        ({"rowsperstrip": 7}, {"tile": (16, 16)}, {"predictor": True}, {"rowsperstrip": 70})
    ):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, values, compression="zlib", photometric="minisblack", **options)
        np.testing.assert_array_equal(read_values(path).array, values)
    Pillow.fromarray(values * np.uint8(255)).save(tmp_path / "p.tif", compression="packbits")
    np.testing.assert_array_equal(read_mask(tmp_path / "p.tif").array, values > 0)


# --- other files ----------------------------------------------------------------------------------

OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" SizeZ="2" '
    'SizeC="1" SizeT="1"><Channel ID="c" SamplesPerPixel="1"/>'
    '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="{}">urn:uuid:1</UUID></TiffData>'
    '<TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID FileName="{}">urn:uuid:2</UUID></TiffData>'
    "</Pixels></Image></OME>"
)


@pytest.mark.parametrize("where", ["../secret.tif", "{}", "b.ome.tif", "..\\secret.tif"])
def test_planes_in_other_files_are_not_fetched(tmp_path: Path, where: str) -> None:
    (tmp_path / "in").mkdir()
    secret = np.full((6, 8), 77, np.uint8)
    for other in (tmp_path / "secret.tif", tmp_path / "in/b.ome.tif"):
        tifffile.imwrite(other, secret, photometric="minisblack", metadata=None)
    path = tmp_path / "in/a.ome.tif"
    names = ("a.ome.tif", where.format(tmp_path / "secret.tif"))
    tifffile.imwrite(
        path,
        np.zeros((6, 8), np.uint8),
        photometric="minisblack",
        description=OME.format(*names),
        metadata=None,
    )
    with pytest.raises(InputError, match="keeps its planes in several files or elsewhere"):
        read_image(path)


def test_ome_of_one_file(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (3, 6, 8)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.ome.tif", volume, photometric="minisblack", ome=True, metadata={"axes": "ZYX"}
    )
    np.testing.assert_array_equal(read_values(tmp_path / "a.ome.tif").array, volume)
    os.rename(tmp_path / "a.ome.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(read_values(tmp_path / "b.tif").array, volume)


def test_no_other_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro-Manager's stacks go on in files beside them, which tifffile would look for by their names."""
    import json

    summary = json.dumps({"Slices": 2, "Channels": 1, "Frames": 1, "Positions": 1, "Prefix": "a"})
    for name in ("a_MMStack_1.ome.tif", "a_MMStack_2.ome.tif", "NDTiff.index"):
        tifffile.imwrite(
            tmp_path / name,
            np.zeros((6, 8), np.uint8),
            photometric="minisblack",
            metadata=None,
            extratags=[(51123, 2, 0, summary, True)],
        )
    opened: list[str] = []
    original = tifffile.FileHandle.open

    def watched(self: tifffile.FileHandle) -> None:
        opened.append(str(self._file))
        original(self)

    monkeypatch.setattr(tifffile.FileHandle, "open", watched)
    read_image(tmp_path / "a_MMStack_1.ome.tif")
    assert all("MMStack_2" not in name and "NDTiff" not in name for name in opened)


# --- DICOM ----------------------------------------------------------------------------------------


def packed_slice(path: Path, frame: bytes, syntax: str, size: int = 16) -> None:
    pydicom = pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import CTImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID = header.FrameOfReferenceUID = "1.2.3"
    header.Modality, header.PatientID = "CT", "p"
    header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    header.PixelSpacing, header.SliceThickness, header.Rows, header.Columns = [1, 1], 2, size, size
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PixelData = encapsulate([frame])
    header["PixelData"].is_undefined_length = True
    header.save_as(path, enforce_file_format=True)


RLE, JPEG = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"


def rle(packets: bytes, segments: int = 1) -> bytes:
    return struct.pack("<16L", segments, 64, *[0] * 14) + packets


def test_packed_slices_are_read_as_pydicom_reads_them(tmp_path: Path) -> None:
    from mrprism.datasets.dicom import read_series

    values = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
    packets = b"".join(b"\x0f" + row.tobytes() for row in values)
    packed_slice(tmp_path / "a.dcm", rle(packets), RLE)
    np.testing.assert_array_equal(read_series(tmp_path).array[0], values)


@pytest.mark.parametrize("packets", [b"\x81\x07" * 3_000_000, b"\x80" * 5_000_000, b"\x00\x07" * 300])
def test_run_lengths_that_never_end(tmp_path: Path, packets: bytes) -> None:
    from mrprism.datasets.dicom import read_series

    packed_slice(tmp_path / "a.dcm", rle(packets), RLE)
    with pytest.raises(InputError, match="unpacks to more than its header says"):
        read_series(tmp_path)


def test_a_packed_picture_of_another_size(tmp_path: Path) -> None:
    from mrprism.datasets.dicom import read_series

    picture = tmp_path / "a.jpg"
    Pillow.fromarray(np.zeros((16, 16), np.uint8)).save(picture)
    content = bytearray(picture.read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    packed_slice(tmp_path / "a.dcm", bytes(content), JPEG)
    picture.unlink()
    with pytest.raises(
        InputError, match="holds a packed picture of 65500 × 65500 pixels; its header says 16 × 16"
    ):
        read_series(tmp_path)


def test_gzip_may_hold_several_members(tmp_path: Path) -> None:
    nib.Nifti1Image(np.eye(6, dtype=np.uint8)[..., None], np.eye(4)).to_filename(tmp_path / "a.nii")
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain[:360]) + gzip.compress(plain[360:]))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz").array, np.eye(6) > 0)
