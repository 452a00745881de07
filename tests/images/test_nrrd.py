"""NRRD as images and masks: what SimpleITK writes is read as SimpleITK reads it."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.images import read_image, read_labels, read_mask

RNG = np.random.default_rng(0)


def written(path: Path, array: np.ndarray, *, vector: bool = False, compress: bool = False) -> Any:
    itk = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing((0.7, 0.8, 2.5)[: image.GetDimension()])
    if image.GetDimension() == 3:
        turn = np.deg2rad(20)
        image.SetOrigin((-90, 20.5, 7))
        image.SetDirection((np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1))
    itk.WriteImage(image, str(path), compress)
    return image


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.uint16])
def test_volumes_with_their_place(tmp_path: Path, ending: str, compress: bool, dtype: type) -> None:
    volume = RNG.integers(0, 100, (4, 5, 6)).astype(dtype)
    written(tmp_path / f"v{ending}", volume, compress=compress)
    labels = read_labels(tmp_path / f"v{ending}")
    assert np.array_equal(labels.array, volume)
    assert labels.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    image = read_image(tmp_path / f"v{ending}", window=(0.0, 100.0))
    assert np.allclose(image.array[0], volume / 100, atol=1e-6)
    # the same image as NIfTI lies in the same place
    written(tmp_path / "v.nii.gz", volume)
    nifti = read_image(tmp_path / "v.nii.gz")
    assert image.geometry is not None
    assert nifti.geometry is not None
    assert image.geometry.differs(nifti.geometry) is None
    assert np.allclose(image.geometry.affine, nifti.geometry.affine, atol=1e-4)


def test_eight_bits_are_divided_and_others_stretched(tmp_path: Path) -> None:
    written(tmp_path / "a.nrrd", np.full((3, 4, 5), 51, np.uint8))
    assert np.allclose(read_image(tmp_path / "a.nrrd").array, 0.2)
    written(tmp_path / "b.nrrd", np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5))
    array = read_image(tmp_path / "b.nrrd").array
    assert (array.min(), array.max()) == (0, 1)


def test_planes_colours_and_one_slice(tmp_path: Path) -> None:
    plane = RNG.integers(0, 255, (5, 6)).astype(np.uint8)
    written(tmp_path / "plane.nrrd", plane)
    file = read_image(tmp_path / "plane.nrrd")
    assert np.allclose(file.array[0] * 255, plane)
    assert file.spacing_mm == pytest.approx((0.8, 0.7))
    colours = RNG.integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    written(tmp_path / "colours.nrrd", colours, vector=True)
    array = read_image(tmp_path / "colours.nrrd").array
    assert np.allclose(array * 255, np.moveaxis(colours, -1, 0))
    written(tmp_path / "slice.nrrd", plane[None])
    one = read_plane(tmp_path / "slice.nrrd")
    assert one.shape == (5, 6)


def read_plane(path: Path) -> np.ndarray:
    return read_labels(path).array


def test_masks_and_what_is_no_mask(tmp_path: Path) -> None:
    mask = RNG.random((3, 4, 5)) > 0.5
    written(tmp_path / "m.nrrd", mask.astype(np.uint8) * 7)
    assert np.array_equal(read_mask(tmp_path / "m.nrrd").array, mask)
    written(tmp_path / "m.nrrd", RNG.integers(0, 4, (3, 4, 5)).astype(np.uint8))
    with pytest.raises(InputError, match="grey values 0, 1, 2, 3"):
        read_mask(tmp_path / "m.nrrd")


HEADER = """NRRD0004
type: uint8
dimension: 3
sizes: 4 3 2
encoding: {encoding}
{more}
"""


def test_a_header_keeps_to_its_folder_and_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(24))
    (tmp_path / "in" / "data.raw").write_bytes(bytes(range(24)))
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    header = tmp_path / "in" / "v.nhdr"

    def read(more: str, encoding: str = "raw") -> np.ndarray:
        header.write_text(HEADER.format(more=more, encoding=encoding))
        return read_labels(header).array

    assert read("data file: data.raw").tolist() == np.arange(24).reshape(2, 3, 4).tolist()
    for more, encoding, sentence in (
        ("data file: ../secret.raw", "raw", "expected a file in the same folder"),
        (f"data file: {tmp_path}/secret.raw", "raw", "expected a file in the same folder"),
        ("data file: link.raw", "raw", "which is not there"),
        ("data file: none.raw", "raw", "which is not there"),
        ("data file: data%03d.raw 1 2 1", "raw", "in several files; expected one"),
        ("data file: LIST", "raw", "in several files; expected one"),
        ("data file: data.raw\nbyte skip: 8", "raw", "asks for a byte skip"),
        ("data file: data.raw", "gzip", "is broken"),
        ("data file: data.raw", "bzip2", "is broken"),
        ("data file: data.raw", "zrl", "has the encoding 'zrl'; expected raw, ascii, hex, gzip or bzip2"),
    ):
        with pytest.raises(InputError, match=sentence):
            read(more, encoding)
    (tmp_path / "in" / "data.raw").write_bytes(bytes(20))
    with pytest.raises(InputError, match="cut short: its header asks for 24 bytes, it gives 20"):
        read("data file: data.raw")
    (tmp_path / "in" / "data.raw").write_bytes(gzip.compress(bytes(25)))
    with pytest.raises(InputError, match="it holds more than its header says"):
        read("data file: data.raw", "gzip")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sizes: 4 3 2\nsizes: 400000 300000 20", "more than MRPRISM_MAX_PIXELS"),
        (
            "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0)\nspace origin: (0,0,0)",
            "directions",
        ),
        (
            "space: scanner-xyz\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)",
            "in the space",
        ),
        ("spacings: 1 -1 1", "expected positive"),
        ("kinds: list list domain", "at most one more"),
    ],
)
def test_wrong_headers(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "v.nrrd").write_bytes(HEADER.format(more=line, encoding="raw").encode() + b"\n" + bytes(24))
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / "v.nrrd")


# --- as other tools write them --------------------------------------------------------------------

PLAIN = "NRRD0005\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\n"
PLACED = "space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (5,6,7)\n"


def attached(
    tmp_path: Path, kind: str, encoding: str, data: bytes, more: str = PLACED, endian: str = "little"
) -> Path:
    path = tmp_path / "v.nrrd"
    order = f"endian: {endian}\n" if endian else ""
    path.write_bytes((PLAIN.format(kind=kind) + more + f"encoding: {encoding}\n{order}\n").encode() + data)
    return path


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("int64", "<i8"),
        ("long long int", "<i8"),
        ("uint64_t", "<u8"),
        ("unsigned long long", "<u8"),
        ("double", "<f8"),
    ],
)
def test_64_bit_numbers(tmp_path: Path, kind: str, dtype: str) -> None:
    values = np.arange(24, dtype=dtype)
    assert read_labels(attached(tmp_path, kind, "raw", values.tobytes())).array.ravel().tolist() == list(
        range(24)
    )


@pytest.mark.parametrize("encoding", ["ascii", "text", "txt"])
def test_numbers_as_text(tmp_path: Path, encoding: str) -> None:
    data = b" ".join(b"%d" % n for n in range(24)) + b"\n"
    path = attached(tmp_path, "short", encoding, data, endian="")
    assert read_labels(path).array.ravel().tolist() == list(range(24))
    for wrong, sentence in (
        (data[:-4], "is cut short"),
        (data + b"9", "is broken"),
        (data.replace(b"7", b"x"), "is broken"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_labels(attached(tmp_path, "short", encoding, wrong, endian=""))
    with pytest.raises(InputError, match="is broken"):
        read_labels(attached(tmp_path, "uchar", encoding, data.replace(b"23", b"256"), endian=""))


def test_bytes_as_hexadecimal_digits(tmp_path: Path) -> None:
    data = bytes(range(24)).hex().encode()
    for digits in (data, data.upper() + b"\n", b"\n".join(data[n : n + 10] for n in range(0, 48, 10))):
        path = attached(tmp_path, "uchar", "hex", digits)
        assert read_labels(path).array.ravel().tolist() == list(range(24))
    for wrong, sentence in (
        (data[:-2], "is cut short"),
        (data + b"00", "is broken"),
        (b"xy" + data, "is broken"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_labels(attached(tmp_path, "uchar", "hex", wrong))


def test_bzip2(tmp_path: Path) -> None:
    packed = bz2.compress(bytes(range(24)))
    assert read_labels(attached(tmp_path, "uchar", "bzip2", packed)).array.ravel().tolist() == list(range(24))
    for wrong in (packed[:-5], bz2.compress(bytes(10**7)), b"BZh9 nonsense"):
        with pytest.raises(InputError):
            read_labels(attached(tmp_path, "uchar", "bzip2", wrong))


@pytest.mark.parametrize(
    "placed",
    [
        "space directions: (1, 0, 0) (0, 1, 0) (0, 0, 2)\nspace origin: (5, 6, 7)\n",
        "space directions:  ( 1,0,0 )  ( 0,1,0 )  ( 0,0,2 )\nspace origin: ( 5 , 6 , 7 )\n",
        f"{PLACED}measurement frame: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\n",
        'space directions: (0.1,0,0) (0,0.1,0) (0,0,0.2)\nspace origin: (0.5,0.6,0.7)\nspace units: "cm" "cm" "cm"\n',
        f"{PLACED}spacings: 1 1 2\n",
        f"{PLACED}spacings: nan nan nan\n".replace("spacings: nan nan nan\n", ""),
    ],
)
def test_the_place_is_the_same_however_it_is_written(tmp_path: Path, placed: str) -> None:
    file = read_labels(attached(tmp_path, "uchar", "raw", bytes(24), placed))
    assert file.geometry is not None
    expected = np.diag([-1.0, -1.0, 2.0, 1.0])
    expected[:3, 3] = -5, -6, 7
    np.testing.assert_allclose(file.geometry.affine, expected)
    assert file.spacing_mm == pytest.approx((2, 1, 1))


@pytest.mark.parametrize(
    ("placed", "sentence"),
    [
        (f"{PLACED}spacings: 1 1 1\n", "gives two sizes for its voxels"),
        (f'{PLACED}space units: "mm" "mm" "inch"\n', "expected mm for all axes"),
        (PLACED.replace("(1,0,0)", "(0,0,0)"), "expected positive numbers"),
        (PLACED.replace("(1,0,0)", "(nan,0,0)"), "not finite"),
    ],
)
def test_two_sizes_or_none(tmp_path: Path, placed: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_labels(attached(tmp_path, "uchar", "raw", bytes(24), placed))
