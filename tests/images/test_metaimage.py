"""MetaImage and NumPy files, against SimpleITK and NumPy."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrprism.core.errors import InputError
from mrprism.images import read_image, read_labels, read_mask, read_values

RNG = np.random.default_rng(5)
itk = pytest.importorskip("SimpleITK")
TURN = np.deg2rad(25)
DIRECTION = (np.cos(TURN), -np.sin(TURN), 0, np.sin(TURN), np.cos(TURN), 0, 0, 0, -1)
HEAD = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 2
DimSize = 4 3 2
ElementType = MET_UCHAR
"""
DATA = bytes(range(24))


def itk_affine(image: Any) -> np.ndarray:
    """Voxel to millimetres, right-anterior-superior, as SimpleITK's numbers say."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.mark.parametrize("ending", ["mha", "mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_values_and_place_are_those_of_simpleitk(
    tmp_path: Path, ending: str, packed: bool, dtype: str
) -> None:
    array = RNG.integers(0, 100, (5, 6, 7)).astype(dtype)
    image = itk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-90.5, 20, 7))
    image.SetDirection(DIRECTION)
    path = tmp_path / f"a.{ending}"
    itk.WriteImage(image, str(path), useCompression=packed)
    file = read_values(path)
    np.testing.assert_array_equal(file.array, array)
    assert file.spacing_mm is not None
    np.testing.assert_allclose(file.spacing_mm, (2.5, 0.9, 0.7))
    assert file.geometry is not None
    np.testing.assert_allclose(file.geometry.affine, itk_affine(itk.ReadImage(str(path))), atol=1e-6)


def test_colours_and_planes(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (6, 7, 3)).astype(np.uint8)
    itk.WriteImage(itk.GetImageFromArray(colours, isVector=True), str(tmp_path / "a.mha"))
    file = read_image(tmp_path / "a.mha")
    np.testing.assert_array_equal(np.rint(file.array * 255), np.moveaxis(colours, 2, 0))
    assert file.geometry is None
    assert file.spacing_mm == (1, 1)
    plane = RNG.integers(0, 256, (1, 6, 7)).astype(np.uint8)
    itk.WriteImage(itk.GetImageFromArray(plane), str(tmp_path / "b.mha"))
    np.testing.assert_array_equal(read_values(tmp_path / "b.mha").array, plane[0])


def read(tmp_path: Path, head: str = HEAD, data: bytes = DATA, file: str = "LOCAL") -> np.ndarray:
    path = tmp_path / "v.mha"
    path.write_bytes(f"{head}ElementDataFile = {file}\n".encode() + (data if file == "LOCAL" else b""))
    return read_labels(path).array


def test_headers_as_others_write_them(tmp_path: Path) -> None:
    expected = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(read(tmp_path), expected)
    text = HEAD.replace("BinaryData = True", "BinaryData = False")
    np.testing.assert_array_equal(read(tmp_path, text, b" ".join(b"%d" % n for n in DATA)), expected)
    packed = HEAD.replace("CompressedData = False", "CompressedData = True")
    np.testing.assert_array_equal(read(tmp_path, packed, zlib.compress(DATA)), expected)
    np.testing.assert_array_equal(read(tmp_path, packed, gzip.compress(DATA)), expected)
    (tmp_path / "v.raw").write_bytes(b"skip" + DATA)
    for skip in (4, -1):
        np.testing.assert_array_equal(read(tmp_path, f"{HEAD}HeaderSize = {skip}\n", file="v.raw"), expected)
    big = HEAD.replace("MSB = False", "MSB = True").replace("MET_UCHAR", "MET_SHORT")
    np.testing.assert_array_equal(read(tmp_path, big, np.arange(24, dtype=">i2").tobytes()), expected)


WRONG = {
    "no header": ("broken\n", "no header that ends with ElementDataFile"),
    "twice": (HEAD + "DimSize = 4 3 1\n", "says DimSize twice"),
    "a tube": (HEAD.replace("= Image", "= Tube"), "holds a MetaIO Tube; expected an image"),
    "no size": (HEAD.replace("DimSize = 4 3 2\n", ""), "no DimSize that can be read"),
    "two sizes": (HEAD.replace("= 4 3 2", "= 4 3"), "expected 3 numbers"),
    "five axes": (
        HEAD.replace("NDims = 3", "NDims = 5").replace("= 4 3 2", "= 4 3 2 1 1"),
        "expected an image or a volume",
    ),
    "a giant": (HEAD.replace("= 4 3 2", "= 40000 30000 2000"), "more than MRPRISM_MAX_PIXELS"),
    "too large": (HEAD.replace("= 4 3 2", "= 4 3 200"), "is cut short: its header asks for 2400 bytes"),
    "no spacing": (HEAD.replace("= 1 1 2", "= 1 0 2"), "expected positive numbers"),
    "no number": (HEAD.replace("= 1 1 2", "= 1 x 2"), "no ElementSpacing that can be read"),
    "infinite": (HEAD.replace("Offset = 0 0 0", "Offset = 0 0 inf"), "expected 3 numbers"),
    "flat": (HEAD.replace("= 1 0 0 0 1 0 0 0 1", "= 1 0 0 1 0 0 0 0 1"), "a position that cannot be used"),
    "strings": (HEAD.replace("MET_UCHAR", "MET_STRING"), "holds MET_STRING values"),
    "not packed": (HEAD.replace("Data = False", "Data = True"), "is broken"),
}


@pytest.mark.parametrize("name", WRONG)
def test_broken_headers(tmp_path: Path, name: str) -> None:
    head, sentence = WRONG[name]
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, head)


def test_packed_data_may_not_exceed_the_header(tmp_path: Path) -> None:
    packed = HEAD.replace("CompressedData = False", "CompressedData = True")
    for data, sentence in (
        (zlib.compress(bytes(10**8)), "holds more bytes than its header asks for"),
        (zlib.compress(DATA)[:-6], "its packed data end too early"),
        (zlib.compress(DATA[:20]), "it gives 20"),
    ):
        with pytest.raises(InputError, match=sentence):
            read(tmp_path, packed, data)


def test_data_lie_in_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(DATA)
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    for name, sentence in (
        ("../secret.raw", "expected a file in the same folder"),
        (str(tmp_path / "secret.raw"), "expected a file in the same folder"),
        ("..\\secret.raw", "expected a file in the same folder"),
        ("link.raw", "which is not there"),
        ("none.raw", "which is not there"),
        ("LIST", "in several files; expected one"),
        ("v%03d.raw 1 2 1", "in several files; expected one"),
    ):
        with pytest.raises(InputError, match=sentence):
            read(tmp_path / "in", file=name)


# --- .npy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 7), (4, 5, 7), (1, 5, 7), (5, 7, 1)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, ">u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(tmp_path: Path, shape: tuple[int, ...], dtype: type, order: str) -> None:
    array = (RNG.random(shape) > 0.5).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    expected = array.squeeze() != 0
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy").array, expected)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy").array[0] > 0, expected)


def test_colour_arrays(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (6, 7, 4)).astype(np.uint8)
    colours[..., 3] = 255
    np.save(tmp_path / "a.npy", colours)
    np.testing.assert_array_equal(
        np.rint(read_image(tmp_path / "a.npy").array * 255), np.moveaxis(colours[..., :3], 2, 0)
    )


def test_arrays_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"

    def refused(sentence: str) -> None:
        with pytest.raises(InputError, match=sentence):
            read_mask(path)

    np.save(path, np.array([[{"a": 1}, None]]), allow_pickle=True)
    refused("holds object values")
    np.save(path, np.array([["a", "b"]]))
    refused("holds <U1 values")
    np.save(path, np.zeros(9))
    refused("expected an image or a volume")
    np.save(path, np.zeros((2, 3, 4, 5, 6)))
    refused("expected an image or a volume")
    np.save(path, np.zeros((3, 0)))
    refused("expected an image or a volume")
    np.save(path, np.zeros((9, 9), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    refused("is cut short: its header asks for 81 bytes, the file has 80")
    path.write_bytes(whole + b"\0")
    refused("is broken: its header asks for 81 bytes, the file has 82")
    path.write_bytes(whole.replace(b"(9, 9), }     ", b"(90000, 90000)}"[:14]))
    refused("is broken or not a NumPy file|more than MRPRISM_MAX_PIXELS")
    path.write_bytes(whole[:6] + b"\x09\x00" + whole[8:])
    refused("is broken or not a NumPy file")
    path.write_bytes(b"")
    refused("is broken or not a NumPy file")
