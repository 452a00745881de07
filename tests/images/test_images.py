"""Image files: exact values, geometry, and one sentence for every broken file."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from mrprism.core.errors import InputError
from mrprism.images import (
    Geometry,
    parse_colour,
    read_image,
    read_labels,
    read_mask,
    read_values,
    write_image,
    write_mask,
    write_probability,
)
from mrprism.output.files import write_file

RNG = np.random.default_rng(0)


def oblique() -> np.ndarray:
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-0.7, 0.8, 2.5])
    affine[:3, 3] = (-90, 20.5, 7)
    return affine


# --- intensities --------------------------------------------------------------------------------


def test_eight_and_sixteen_bits_are_divided_by_the_largest_value(tmp_path: Path) -> None:
    eight = RNG.integers(0, 200, (5, 7)).astype(np.uint8)
    Pillow.fromarray(eight).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array[0], eight.astype(np.float32) / 255)
    sixteen = RNG.integers(0, 60000, (5, 7)).astype(np.uint16)
    Pillow.fromarray(sixteen).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").array[0], sixteen / np.float32(65535))
    tifffile.imwrite(tmp_path / "c.tif", sixteen)
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif").array[0], sixteen / np.float32(65535))


def test_other_types_are_stretched_channel_by_channel(tmp_path: Path) -> None:
    hounsfield = RNG.integers(-1024, 3000, (6, 5, 4)).astype(np.int16)
    nib.save(nib.Nifti1Image(hounsfield, np.eye(4)), tmp_path / "ct.nii.gz")
    array = read_image(tmp_path / "ct.nii.gz").array
    assert array.shape == (1, 4, 5, 6)
    low, high = float(hounsfield.min()), float(hounsfield.max())
    np.testing.assert_allclose(array[0].T, (hounsfield - low) / (high - low), atol=1e-6)
    windowed = read_image(tmp_path / "ct.nii.gz", window=(-100.0, 300.0)).array
    np.testing.assert_allclose(windowed[0].T, np.clip((hounsfield + 100) / 400, 0, 1), atol=1e-6)
    two = np.stack([np.full((3, 4), 7.0), np.arange(12.0).reshape(3, 4)]).astype(np.float32)
    tifffile.imwrite(tmp_path / "two.tif", two, photometric="minisblack", metadata={"axes": "CYX"})
    array = read_image(tmp_path / "two.tif").array
    assert array[0].max() == 0  # one value everywhere
    np.testing.assert_allclose(array[1], two[1] / 11, atol=1e-6)


def test_scale_and_intercept_of_nifti(tmp_path: Path) -> None:
    image = nib.Nifti1Image(RNG.integers(0, 255, (4, 5, 3)).astype(np.uint8), np.eye(4))
    image.header.set_slope_inter(2.0, -10.0)
    image.header["scl_slope"], image.header["scl_inter"] = 2.0, -10.0
    raw = image.to_bytes()
    header = nib.Nifti1Header(raw[:348])
    header["scl_slope"], header["scl_inter"] = 2.0, -10.0
    (tmp_path / "s.nii").write_bytes(header.binaryblock + raw[348:])
    expected = np.asarray(nib.load(tmp_path / "s.nii").dataobj)
    got = read_image(tmp_path / "s.nii", window=(-10.0, 500.0)).array[0].T
    np.testing.assert_allclose(got, (expected + 10) / 510, atol=1e-6)


def test_palette_is_applied_and_transparency_dropped(tmp_path: Path) -> None:
    image = Pillow.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "p.png")
    array = read_image(tmp_path / "p.png").array
    np.testing.assert_allclose(array[:, 1, 0] * 255, [70, 80, 90], atol=1e-4)
    Pillow.fromarray(RNG.integers(0, 255, (3, 4, 4)).astype(np.uint8)).save(tmp_path / "rgba.png")
    assert read_image(tmp_path / "rgba.png").array.shape == (3, 3, 4)


def test_jpeg_and_colour_tiff(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 32)[None, :, None] * np.ones((16, 1, 3))
    Pillow.fromarray(smooth.astype(np.uint8)).save(tmp_path / "j.JPG", quality=95)
    file = read_image(tmp_path / "j.JPG")
    assert (file.format, file.array.shape) == ("jpeg", (3, 16, 32))
    np.testing.assert_allclose(file.array[1], smooth[..., 1] / 255, atol=0.03)
    tifffile.imwrite(tmp_path / "c.tif", smooth.astype(np.uint8), photometric="rgb")
    assert read_image(tmp_path / "c.tif").array.shape == (3, 16, 32)
    tifffile.imwrite(tmp_path / "v.tif", np.zeros((4, 5, 6), np.uint8), photometric="minisblack")
    assert read_image(tmp_path / "v.tif").array.shape == (1, 4, 5, 6)


def test_white_is_zero_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "w.tif", np.array([[0, 255]], np.uint8), photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "w.tif").array, [[[1, 0]]])


# --- masks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 128, 255])
def test_masks_of_any_one_value(tmp_path: Path, value: int) -> None:
    mask = RNG.random((6, 5)) > 0.5
    Pillow.fromarray((mask * value).astype(np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png").array, mask)
    Pillow.fromarray(mask).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "one.png").array, mask)


def test_grey_masks_are_refused_with_their_values(tmp_path: Path) -> None:
    Pillow.fromarray(np.array([[0, 127, 255]], np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(
        InputError, match=r"grey.png' has grey values 0, 127, 255; expected 0 and at most one"
    ):
        read_mask(tmp_path / "grey.png")
    Pillow.fromarray(np.array([[3, 253]], np.uint8)).save(tmp_path / "off.png")
    with pytest.raises(InputError, match="grey values 3, 253"):
        read_mask(tmp_path / "off.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "grey.png").array, [[0, 127, 255]])


def test_colour_masks(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((2, 2, 3), [255, 0, 0], np.uint8)).save(tmp_path / "red.png")
    with pytest.raises(InputError, match="3 different channels"):
        read_mask(tmp_path / "red.png")
    grey = np.zeros((2, 2, 4), np.uint8)
    grey[0, 0, :3] = 255
    Pillow.fromarray(grey).save(tmp_path / "rgba.png")
    with pytest.raises(InputError, match="is transparent everywhere, though its colours differ"):
        read_mask(tmp_path / "rgba.png")
    grey[..., 3] = 255
    Pillow.fromarray(grey).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "rgba.png").array, [[True, False], [False, False]])


def test_palette_masks(tmp_path: Path) -> None:
    indices = Pillow.fromarray(np.array([[0, 1], [1, 1]], np.uint8), mode="P")
    indices.putpalette([255, 255, 255, 0, 0, 0])
    indices.save(tmp_path / "inverted.png")  # greys: through the palette
    np.testing.assert_array_equal(read_mask(tmp_path / "inverted.png").array, [[True, False], [False, False]])
    indices.putpalette([0, 0, 0, 128, 0, 0])
    indices.save(tmp_path / "coloured.png")  # colours: the indices are the labels
    np.testing.assert_array_equal(read_labels(tmp_path / "coloured.png").array, [[0, 1], [1, 1]])


def test_fractional_masks_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.array([[[0.0], [0.25]], [[1.0], [1.0]]]), np.eye(4)), tmp_path / "f.nii")
    with pytest.raises(InputError, match=r"not whole numbers, such as 0.25"):
        read_mask(tmp_path / "f.nii")
    nib.save(nib.Nifti1Image(np.array([[[0.0], [2.0]], [[2.0], [0.0]]]), np.eye(4)), tmp_path / "w.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "w.nii").array, [[False, True], [True, False]])


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".tif", ".nii", ".nii.gz"])
def test_masks_labels_probabilities_round_trip(tmp_path: Path, ending: str) -> None:
    mask = RNG.random((9, 7)) > 0.5
    write_mask(tmp_path / f"m{ending}", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / f"m{ending}").array, mask)
    labels = RNG.integers(0, 300, (9, 7))
    write_mask(tmp_path / f"l{ending}", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / f"l{ending}").array, labels)
    probability = RNG.random((9, 7)).astype(np.float32)
    write_probability(tmp_path / f"p{ending}", probability)
    window = None if ending == ".png" else (0.0, 1.0)
    got = read_image(tmp_path / f"p{ending}", window=window).array[0]
    np.testing.assert_allclose(got, probability, atol=1e-5)
    assert sorted(p.name[0] for p in tmp_path.iterdir()) == ["l", "m", "p"]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 4)])
def test_geometry_survives_and_others_agree(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = RNG.random(shape).astype(np.float32)
    image = nib.Nifti1Image(values, oblique())
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "i.nii.gz")
    file = read_image(tmp_path / "i.nii.gz")
    assert file.geometry is not None
    spacing = (0.7, 0.8, 2.5)[: file.array.ndim - 1]
    np.testing.assert_allclose(file.spacing_mm, spacing[::-1], rtol=1e-5)
    mask = file.array[0] > 0.5
    write_mask(tmp_path / "m.nii.gz", mask, like=file)
    written = nib.load(tmp_path / "m.nii.gz")
    assert written.shape == shape
    np.testing.assert_allclose(written.affine, oblique(), atol=1e-4)
    want = np.asarray((values - values.min()) / (values.max() - values.min()) > 0.5)
    np.testing.assert_array_equal(np.asarray(written.dataobj) > 0, want)
    back = read_mask(tmp_path / "m.nii.gz")
    assert back.geometry is not None
    assert file.geometry.differs(back.geometry) is None


def test_simpleitk_reads_what_we_write(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    volume = RNG.integers(0, 5, (3, 4, 6)).astype(np.uint8)
    write_mask(tmp_path / "v.nii.gz", volume, spacing_mm=(2.5, 0.8, 0.7))
    image = itk.ReadImage(str(tmp_path / "v.nii.gz"))
    np.testing.assert_array_equal(itk.GetArrayFromImage(image), volume)
    np.testing.assert_allclose(image.GetSpacing(), (0.7, 0.8, 2.5), rtol=1e-6)
    itk.WriteImage(image, str(tmp_path / "itk.nii.gz"))
    file = read_labels(tmp_path / "itk.nii.gz")
    np.testing.assert_array_equal(file.array, volume)
    np.testing.assert_allclose(file.spacing_mm, (2.5, 0.8, 0.7), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [((0, 3, 5.0), "origin"), ((2, 2, 1.5), "spacing"), ((0, 0, -1.0), "direction")],
)
def test_geometry_differences_are_named(change: tuple[int, int, float], says: str) -> None:
    other = np.eye(4)
    other[change[:2]] = change[2]
    difference = Geometry(np.eye(4), (10, 10, 5)).differs(Geometry(other, (10, 10, 5)))
    assert difference is not None
    assert says in difference


def test_channels_of_nifti(tmp_path: Path) -> None:
    values = RNG.random((6, 5, 4, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "c.nii.gz")
    array = read_image(tmp_path / "c.nii.gz", window=(0.0, 1.0)).array
    np.testing.assert_allclose(array, values.transpose(3, 2, 1, 0))
    with pytest.raises(InputError, match="3 different channels"):
        read_labels(tmp_path / "c.nii.gz")


# --- broken files -------------------------------------------------------------------------------


def png(path: Path, size: int = 64) -> bytes:
    Pillow.fromarray(RNG.integers(0, 255, (size, size)).astype(np.uint8)).save(path)
    return path.read_bytes()


def nifti(dtype: type = np.int16, shape: tuple[int, ...] = (16, 16, 8)) -> bytes:
    return bytes(nib.Nifti1Image(RNG.integers(0, 99, shape).astype(dtype), np.eye(4)).to_bytes())


def refused(path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        read_image(path)
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_folder_and_unknown_format(tmp_path: Path) -> None:
    refused(tmp_path / "no.png", "does not exist")
    (tmp_path / "d.png").mkdir()
    refused(tmp_path / "d.png", "is not a file")
    (tmp_path / "x.doc").write_bytes(b"x")
    refused(tmp_path / "x.doc", "expected one of .png")


@pytest.mark.parametrize("keep", [0, 5, 20, 40, 500, 3000])
def test_truncated_png(tmp_path: Path, keep: int) -> None:
    whole = png(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(whole[:keep])
    refused(tmp_path / "a.png", "broken or not a PNG")


def test_flipped_bytes_in_png(tmp_path: Path) -> None:
    whole = bytearray(png(tmp_path / "a.png"))
    whole[1000] ^= 0xFF
    (tmp_path / "a.png").write_bytes(bytes(whole))
    refused(tmp_path / "a.png", "broken or not a PNG")


@pytest.mark.parametrize("keep", [0, 3, 100, 347, 352, 1000])
def test_truncated_nifti(tmp_path: Path, keep: int) -> None:
    (tmp_path / "a.nii").write_bytes(nifti()[:keep])
    refused(tmp_path / "a.nii", "broken or not a NIfTI|cut short")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti()[:keep]))
    refused(tmp_path / "b.nii.gz", "broken or not a NIfTI|cut short")


def test_truncated_and_corrupt_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(nifti())
    (tmp_path / "cut.nii.gz").write_bytes(whole[:-30])
    refused(tmp_path / "cut.nii.gz", "cut short: its gzip stream ends too early")
    wrong = bytearray(whole)
    wrong[-6] ^= 0xFF
    (tmp_path / "crc.nii.gz").write_bytes(bytes(wrong))
    refused(tmp_path / "crc.nii.gz", "broken: .*CRC")
    wrong = bytearray(whole)
    wrong[len(wrong) // 2] ^= 0xFF
    (tmp_path / "bits.nii.gz").write_bytes(bytes(wrong))
    refused(tmp_path / "bits.nii.gz", "broken|cut short")


def test_header_that_asks_for_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = nib.Nifti1Header(nifti()[:348])
    head["dim"][1:4] = (800, 800, 800)
    hostile = head.binaryblock + nifti()[348:]
    (tmp_path / "h.nii").write_bytes(hostile)
    refused(tmp_path / "h.nii", "asks for 1024000352 bytes, the file has")
    (tmp_path / "h.nii.gz").write_bytes(gzip.compress(hostile))
    refused(tmp_path / "h.nii.gz", "asks for 1024000352 bytes")
    head["dim"][1:4] = (30000, 30000, 30000)
    (tmp_path / "bomb.nii").write_bytes(head.binaryblock)
    refused(tmp_path / "bomb.nii", "more than MRPRISM_MAX_PIXELS = 1000000000 allows")
    head["dim"][1:4] = (-5, 4, 4)
    (tmp_path / "neg.nii").write_bytes(head.binaryblock)
    refused(tmp_path / "neg.nii", "has the shape")
    head["dim"][1:4], head["pixdim"][1:4] = (16, 16, 8), (1, -1, 1)
    head["sform_code"] = head["qform_code"] = 0
    (tmp_path / "spacing.nii").write_bytes(head.binaryblock + nifti()[348:])
    refused(tmp_path / "spacing.nii", "expected positive")
    monkeypatch.setenv("MRPRISM_MAX_PIXELS", "1000")
    png(tmp_path / "a.png")
    refused(tmp_path / "a.png", "has 64 × 64 pixels, more than MRPRISM_MAX_PIXELS = 1000 allows")
    monkeypatch.setenv("MRPRISM_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="expected a number"):
        read_image(tmp_path / "a.png")


def test_png_bomb(tmp_path: Path) -> None:
    small = png(tmp_path / "bomb.png")
    header = b"IHDR" + struct.pack(">II", 60000, 30000) + small[24:29]
    bomb = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    refused(tmp_path / "bomb.png", "has 60000 × 30000 pixels, more than MRPRISM_MAX_PIXELS")


def test_truncated_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", RNG.integers(0, 255, (64, 64)).astype(np.uint8))
    whole = (tmp_path / "t.tif").read_bytes()
    (tmp_path / "t.tif").write_bytes(whole[:-1000])
    refused(tmp_path / "t.tif", "cut short")
    (tmp_path / "t.tif").write_bytes(whole[:20])
    refused(tmp_path / "t.tif", "broken or not a TIFF|cut short")


def test_pages_that_lead_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "t.tif"
    for _ in range(3):
        tifffile.imwrite(path, np.zeros((8, 8), np.uint8), append=True, metadata=None)
    assert read_image(path).array.shape == (1, 3, 8, 8)
    with tifffile.TiffFile(path) as file:
        second, last = file.pages[1], file.pages[2]
    with path.open("r+b") as stream:
        stream.seek(last.offset + 2 + 12 * len(last.tags))  # type: ignore[union-attr]
        stream.write(second.offset.to_bytes(4, "little"))
    refused(path, "its pages lead in a circle")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    image = np.zeros((4, 4, 2), np.float32)
    image[1, 2, 1] = value
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "n.nii")
    refused(tmp_path / "n.nii", "1 NaN or infinite pixels")


def test_animations_are_refused(tmp_path: Path) -> None:
    frames = [Pillow.new("L", (4, 4), v) for v in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    refused(tmp_path / "a.gif", "holds 2 frames")


# --- writing ------------------------------------------------------------------------------------


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "x.bin", b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write '.*x.bin': No space left on device"):
        write_file(tmp_path / "x.bin", b"after")
    with pytest.raises(InputError, match="No space left"):
        write_mask(tmp_path / "m.png", np.ones((3, 3), bool))
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"before"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a name ending in .png"):
        write_mask(tmp_path / "m.jpg", np.ones((3, 3), bool))
    with pytest.raises(InputError, match="PNG holds one or three channels of a plane"):
        write_mask(tmp_path / "m.png", np.ones((3, 3, 3), bool))
    with pytest.raises(InputError, match="must not be negative, found -1"):
        write_mask(tmp_path / "m.png", np.array([[-1, 0]]))
    geometry = Geometry(np.eye(4), (5, 5, 5))
    with pytest.raises(InputError, match="differs from"):
        write_mask(tmp_path / "m.nii.gz", np.ones((3, 3, 3), bool), like=geometry)
    assert not list(tmp_path.iterdir())


def test_colour_images_are_rounded_and_grey_ones_are_not(tmp_path: Path) -> None:
    values = RNG.random((3, 6, 6)).astype(np.float32)
    write_image(tmp_path / "c.png", values)
    np.testing.assert_allclose(read_image(tmp_path / "c.png").array, values, atol=0.5 / 255 + 1e-6)
    write_image(tmp_path / "g.png", values[:1])
    np.testing.assert_allclose(read_image(tmp_path / "g.png").array, values[:1], atol=1e-5)


def test_an_even_vote_is_not_above_half_in_a_png_either(tmp_path: Path) -> None:
    write_probability(tmp_path / "p.png", np.array([[0, 0.5, 1], [0.5 + 1 / 65535, 0.25, 0.75]], np.float32))
    np.testing.assert_array_equal(
        read_values(tmp_path / "p.png").array > 65535 / 2, [[False, False, True], [True, False, True]]
    )


# --- masks that need to be told how they are meant ------------------------------------------------


def test_a_threshold_reads_smeared_and_soft_masks(tmp_path: Path) -> None:
    drawn = np.zeros((64, 64), np.uint8)
    drawn[13:40, 22:47] = 255
    Pillow.fromarray(drawn).save(tmp_path / "a.jpg", quality=60)
    with pytest.raises(InputError, match="-o threshold=128"):
        read_mask(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.jpg", threshold=128.0).array, drawn > 0)
    soft = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    nib.save(nib.Nifti1Image(soft, np.eye(4)), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii", threshold=0.5).array, soft.T >= 0.5)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="expected a number"):
            read_mask(tmp_path / "a.jpg", threshold=wrong)


def test_a_colour_picks_one_structure_of_a_drawing(tmp_path: Path) -> None:
    drawn = np.zeros((6, 8, 3), np.uint8)
    drawn[1:3, 1:4] = (255, 0, 0)
    drawn[3:5, 4:7] = (0, 255, 0)
    Pillow.fromarray(drawn).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="-o colour="):
        read_mask(tmp_path / "a.png")
    red = read_mask(tmp_path / "a.png", colour=parse_colour("#ff0000")).array
    np.testing.assert_array_equal(red, (drawn == (255, 0, 0)).all(axis=2))
    assert red.sum() == 6
    assert not read_mask(tmp_path / "a.png", colour=(0, 0, 255)).array.any()
    with pytest.raises(InputError, match="one of them"):
        read_mask(tmp_path / "a.png", colour=(0, 0, 255), threshold=3.0)


@pytest.mark.parametrize(("text", "colour"), [("#ff8000", (255, 128, 0)), ("0,7,255", (0, 7, 255))])
def test_colours_are_read(text: str, colour: tuple[int, int, int]) -> None:
    assert parse_colour(text) == colour


@pytest.mark.parametrize("text", ["", "red", "#ff", "1,2", "1,2,3,4", "-1,0,0", "#gg0000", "ff00000"])
def test_what_is_no_colour_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not understood; expected such as #ff0000"):
        parse_colour(text)
