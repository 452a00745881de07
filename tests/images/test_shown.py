"""What a viewer shows is what is decoded, whatever the format and the packing; Pillow is asked what is shown."""

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from mrprism.core.errors import InputError
from mrprism.images import read_image, read_labels, read_mask, read_values

RNG = np.random.default_rng(3)
SIZE = (12, 20)
SHAPE = np.zeros(SIZE, bool)
SHAPE[2:5, 3:11] = SHAPE[5:9, 3:6] = True  # looks different from every side
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {},
    "webp": {"lossless": True, "exact": True},
    "tif": {"compression": "raw"},
    "tiff": {"compression": "tiff_lzw"},
}


def stored(shown: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels a camera held that way up keeps: what Pillow turns into ``shown``."""
    back = {
        1: None,
        2: Pillow.Transpose.FLIP_LEFT_RIGHT,
        3: Pillow.Transpose.ROTATE_180,
        4: Pillow.Transpose.FLIP_TOP_BOTTOM,
        5: Pillow.Transpose.TRANSPOSE,
        6: Pillow.Transpose.ROTATE_90,
        7: Pillow.Transpose.TRANSVERSE,
        8: Pillow.Transpose.ROTATE_270,
    }[orientation]
    image = Pillow.fromarray(shown)
    return np.asarray(image if back is None else image.transpose(back))


# --- orientation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
def test_exif_orientation(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{ending}"
    shown = np.repeat(SHAPE[..., None] * np.uint8(255), 3, axis=2)
    Pillow.fromarray(stored(shown, orientation)).save(
        path, exif=exif, quality=100, **LOSSLESS.get(ending, {})
    )
    by_pillow = np.asarray(ImageOps.exif_transpose(Pillow.open(path)).convert("L"))
    file = read_image(path)
    np.testing.assert_allclose(file.array[0] * 255, by_pillow, atol=1)
    np.testing.assert_array_equal(file.array[0] > 0.5, SHAPE)
    np.testing.assert_array_equal(read_mask(path, threshold=128.0).array, SHAPE)
    assert file.notes == (
        () if orientation == 1 else (f"it is turned, as its orientation {orientation} says",)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("packed", [None, "zlib", "lzw"])
def test_the_orientation_of_tiff(tmp_path: Path, packed: str | None, orientation: int) -> None:
    path = tmp_path / "a.tif"
    kept = stored(SHAPE * np.uint8(255), orientation)
    if packed == "lzw":
        Pillow.fromarray(kept).save(path, compression="tiff_lzw", tiffinfo={274: orientation})
    else:
        tags = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(path, kept, compression=packed, photometric="minisblack", extratags=tags)
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)
    np.testing.assert_array_equal(read_image(path).array[0] > 0.5, SHAPE)


def test_the_planes_of_a_turned_volume(tmp_path: Path) -> None:
    volume = RNG.integers(0, 255, (3, 6, 4)).astype(np.uint8)
    kept = np.stack([stored(plane, 6) for plane in volume])
    tifffile.imwrite(tmp_path / "a.tif", kept, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    np.testing.assert_array_equal(read_values(tmp_path / "a.tif").array, volume)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_means_nothing_turns_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[274] = orientation
    Pillow.fromarray(SHAPE * np.uint8(255)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").array, SHAPE)


def test_damaged_exif_is_no_damage_to_the_pixels(tmp_path: Path) -> None:
    Pillow.fromarray(SHAPE * np.uint8(255)).save(
        tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff nothing"
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").array, SHAPE)


# --- transparency ---------------------------------------------------------------------------------


def rgba(colour: tuple[int, ...], below: tuple[int, ...]) -> np.ndarray:
    """The shape in a colour, on a ground of another colour that is transparent."""
    pixels = np.empty((*SIZE, 4), np.uint8)
    pixels[SHAPE], pixels[~SHAPE] = (*colour, 255), (*below, 0)
    return pixels


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "tiff"])
@pytest.mark.parametrize(
    ("colour", "below"),
    [
        ((255, 255, 255), (0, 0, 0)),
        ((255, 255, 255), (255, 255, 255)),
        ((0, 0, 0), (255, 255, 255)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (0, 0, 0)),
        ((9, 200, 30), (7, 7, 7)),
    ],
)
def test_a_shape_on_a_transparent_ground_is_the_mask(
    tmp_path: Path, ending: str, colour: tuple[int, ...], below: tuple[int, ...]
) -> None:
    path = tmp_path / f"a.{ending}"
    Pillow.fromarray(rgba(colour, below)).save(path, **LOSSLESS[ending])
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)
    np.testing.assert_array_equal(read_mask(path, threshold=1.0).array, SHAPE)


@pytest.mark.parametrize(("grey", "below"), [(255, 0), (0, 255), (0, 0), (3, 3)])
def test_the_alpha_of_grey(tmp_path: Path, grey: int, below: int) -> None:
    pixels = np.where(SHAPE[..., None], (grey, 255), (below, 0)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").array, SHAPE)
    if grey:
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png").array, SHAPE * grey)


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    pixels = np.repeat(SHAPE[..., None] * np.uint8(255), 4, axis=2)
    pixels[..., 3] = 255
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").array, SHAPE)


def test_what_cannot_be_seen_is_no_mask(tmp_path: Path) -> None:
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[SHAPE] = 255
    pixels[0, :, 3] = 255  # black and opaque, so that the ground is seen, too
    pixels[2:4, 3:5, 3] = 0  # a hole in the shape, white below
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    expected = SHAPE.copy()
    expected[2:4, 3:5] = False
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").array, expected)
    shown = np.asarray(
        Pillow.alpha_composite(Pillow.new("RGBA", SIZE[::-1], (0, 0, 0, 255)), Pillow.fromarray(pixels))
    )
    np.testing.assert_allclose(
        read_image(tmp_path / "a.png").array * 255, np.moveaxis(shown[..., :3], 2, 0), atol=1
    )


def test_soft_edges_in_the_alpha_are_named_with_what_helps(tmp_path: Path) -> None:
    pixels = rgba((0, 0, 0), (0, 0, 0))
    pixels[2, 3, 3] = 100
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"grey values 0, 100, 255.*-o threshold="):
        read_mask(tmp_path / "a.png")
    expected = SHAPE.copy()
    expected[2, 3] = False
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", threshold=128.0).array, expected)


def test_images_lie_on_black(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (*SIZE, 4)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    ground = Pillow.new("RGBA", SIZE[::-1], (0, 0, 0, 255))
    shown = np.asarray(Pillow.alpha_composite(ground, Pillow.fromarray(pixels)))[..., :3]
    np.testing.assert_allclose(read_image(tmp_path / "a.png").array * 255, np.moveaxis(shown, 2, 0), atol=1)


@pytest.mark.parametrize("packed", [None, "zlib", "lzw"])
def test_premultiplied_colours(tmp_path: Path, packed: str | None) -> None:
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[SHAPE] = (100, 50, 20, 128)
    path = tmp_path / "a.tif"
    if packed == "lzw":
        path.write_bytes(lzw_tiff(pixels, photometric=2, extra=1))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["assocalpha"], compression=packed)
    image = read_image(path).array * 255
    np.testing.assert_allclose(image, np.moveaxis(pixels[..., :3], 2, 0), atol=1.01)


def test_one_value_of_a_png_that_is_transparent(tmp_path: Path) -> None:
    grey = np.where(SHAPE, 40, 90).astype(np.uint8)
    Pillow.fromarray(grey).save(tmp_path / "a.png", transparency=90)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png").array, SHAPE)
    Pillow.fromarray(np.where(SHAPE[..., None], (0, 0, 0), (1, 2, 3)).astype(np.uint8)).save(
        tmp_path / "b.png", transparency=(1, 2, 3)
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png").array, SHAPE)


# --- palettes -------------------------------------------------------------------------------------


def with_palette(path: Path, colours: list[int], indices: np.ndarray, **options: Any) -> Path:
    image = Pillow.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette(colours)
    image.save(path, **options)
    return path


TWO_GREYS = {
    "black first": ([0, 0, 0, 255, 255, 255], SHAPE),
    "white first": ([255, 255, 255, 0, 0, 0], ~SHAPE),
}


@pytest.mark.parametrize("name", TWO_GREYS)
@pytest.mark.parametrize("ending", ["png", "gif", "bmp"])
def test_palettes_of_greys(tmp_path: Path, name: str, ending: str) -> None:
    path = with_palette(tmp_path / f"a.{ending}", TWO_GREYS[name][0], TWO_GREYS[name][1])
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)
    np.testing.assert_array_equal(read_image(path).array[0] > 0.5, SHAPE)


def test_a_bmp_of_one_bit(tmp_path: Path) -> None:
    Pillow.fromarray(SHAPE).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.bmp").array, SHAPE)


@pytest.mark.parametrize("name", TWO_GREYS)
@pytest.mark.parametrize("packed", [None, "zlib", "packbits", "tiff_lzw", "tiff_adobe_deflate", "raw"])
def test_palettes_of_tiff(tmp_path: Path, name: str, packed: str | None) -> None:
    colours, indices = TWO_GREYS[name]
    path = tmp_path / "a.tif"
    if packed in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "raw"):
        with_palette(path, colours, indices, compression=packed)
    else:
        table = np.zeros((3, 256), np.uint16)
        table[:, :2] = np.array(colours, np.uint16).reshape(2, 3).T * 257
        tifffile.imwrite(
            path, indices.astype(np.uint8), photometric="palette", colormap=table, compression=packed
        )
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)
    np.testing.assert_array_equal(read_image(path).array[0] > 0.5, SHAPE)


@pytest.mark.parametrize("ending", ["png", "gif", "tif", "tiff"])
def test_a_palette_of_colours_gives_its_indices(tmp_path: Path, ending: str) -> None:
    indices = np.zeros(SIZE, np.uint8)
    indices[SHAPE], indices[10:, 15:] = 1, 2
    path = with_palette(
        tmp_path / f"a.{ending}", [0, 0, 0, 200, 0, 0, 0, 200, 0], indices, **LOSSLESS.get(ending, {})
    )
    np.testing.assert_array_equal(read_labels(path).array, indices)
    np.testing.assert_array_equal(np.rint(read_image(path).array[0] * 255), (indices == 1) * 200)


def test_a_palette_whose_ground_is_not_its_first(tmp_path: Path) -> None:
    path = with_palette(tmp_path / "a.png", [255, 0, 0, 0, 0, 0], ~SHAPE)  # red first, black second
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)
    indices = (~SHAPE).astype(np.uint8)
    indices[10:, 15:] = 2
    path = with_palette(tmp_path / "b.png", [255, 0, 0, 0, 0, 0, 0, 255, 0], indices)
    with pytest.raises(
        InputError, match="index 0 is coloured and index 1 black, so its background is not known"
    ):
        read_labels(path)


@pytest.mark.parametrize("ending", ["png", "gif"])
@pytest.mark.parametrize("shape", [0, 1])
def test_a_palette_with_transparency(tmp_path: Path, ending: str, shape: int) -> None:
    indices = SHAPE if shape else ~SHAPE
    path = with_palette(tmp_path / f"a.{ending}", [80, 0, 0, 80, 0, 0], indices, transparency=1 - shape)
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)


# --- white is zero, few bits, many bits, CMYK -----------------------------------------------------


def lzw(data: bytes) -> bytes:
    """LZW as TIFF has it, that packs nothing: every code is a byte, and the table is cleared in time."""
    codes = [256]
    for start in range(0, len(data), 200):
        codes += [*data[start : start + 200], 256]
    bits = "".join(f"{code:09b}" for code in [*codes[:-1], 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def lzw_tiff(
    pixels: np.ndarray,
    photometric: int,
    extra: int | None = None,
    bits: int | None = None,
    packed: bool = True,
) -> bytes:
    """A file of one LZW strip; ``bits`` below 8 packs the samples."""
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    depth = bits or pixels.dtype.itemsize * 8
    if bits is not None and bits < 8:
        rows = np.unpackbits(pixels[..., None].astype(np.uint8), axis=2)[..., -bits:].reshape(height, -1)
        raw = np.packbits(rows, axis=1).tobytes()
    else:
        raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    strip = lzw(raw) if packed else raw
    tags = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, [depth] * samples),
        (259, 3, [5 if packed else 1]),
        (262, 3, [photometric]),
    ]
    tags += [(273, 4, [8]), (277, 3, [samples]), (278, 3, [height]), (279, 4, [len(strip)])]
    if extra is not None:
        tags.append((338, 3, [extra]))
    start = 8 + len(strip) + len(strip) % 2
    body = struct.pack("<H", len(tags))
    more, behind = b"", start + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        content = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(content) > 4:
            body += struct.pack("<HHII", tag, kind, len(values), behind + len(more))
            more += content
        else:
            body += struct.pack("<HHI", tag, kind, len(values)) + content.ljust(4, b"\0")
    body += struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, start) + strip.ljust(start - 8, b"\0") + body + more


@pytest.mark.parametrize("packed", [None, "zlib", "lzw"])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16])
def test_white_is_zero(tmp_path: Path, packed: str | None, dtype: type[np.generic]) -> None:
    top = 1 if dtype is np.bool_ else np.iinfo(dtype).max  # type: ignore[type-var]
    kept = np.where(SHAPE, 0, top).astype(dtype)
    path = tmp_path / "a.tif"
    if packed == "lzw":
        path.write_bytes(lzw_tiff(kept, photometric=0, bits=1 if dtype is np.bool_ else None))
    else:
        tifffile.imwrite(path, kept, photometric="miniswhite", compression=packed)
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)
    np.testing.assert_array_equal(read_image(path).array[0], SHAPE.astype(np.float32))


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_a_share_of_their_own_largest_value(tmp_path: Path, bits: int) -> None:
    values = RNG.integers(0, 2**bits, SIZE).astype(np.uint8)
    (tmp_path / "lzw.tif").write_bytes(lzw_tiff(values, photometric=1, bits=bits))
    (tmp_path / "plain.tif").write_bytes(lzw_tiff(values, photometric=1, bits=bits, packed=False))
    for name in ("lzw.tif", "plain.tif"):
        np.testing.assert_array_equal(read_labels(tmp_path / name).array, values)
        np.testing.assert_allclose(read_image(tmp_path / name).array[0], values / (2**bits - 1), atol=1e-6)


@pytest.mark.parametrize("packed", ["zlib", "lzw"])
def test_sixteen_bits_of_colour(tmp_path: Path, packed: str) -> None:
    colours = RNG.integers(0, 65536, (*SIZE, 3)).astype(np.uint16)
    path = tmp_path / "a.tif"
    if packed == "lzw":
        path.write_bytes(lzw_tiff(colours, photometric=2))
    else:
        tifffile.imwrite(path, colours, photometric="rgb", compression=packed)
    image = read_image(path).array
    np.testing.assert_allclose(
        image, np.moveaxis(colours, 2, 0) / 65535, atol=1e-6 if packed == "zlib" else 1 / 255
    )
    labels = np.repeat((SHAPE * np.uint16(2))[..., None], 3, axis=2)  # lost where 16 bits become 8
    if packed == "lzw":
        path.write_bytes(lzw_tiff(labels, photometric=2))
        with pytest.raises(InputError, match="channels of 16 bits, which are not read exactly"):
            read_mask(path)
    else:
        tifffile.imwrite(path, labels, photometric="rgb", compression=packed)
        np.testing.assert_array_equal(read_labels(path).array, SHAPE * 2)


@pytest.mark.parametrize("packed", [None, "zlib", "tiff_lzw"])
def test_cmyk(tmp_path: Path, packed: str | None) -> None:
    inks = RNG.integers(0, 256, (*SIZE, 4)).astype(np.uint8)
    path = tmp_path / "a.tif"
    if packed == "tiff_lzw":
        Pillow.fromarray(inks, mode="CMYK").save(path, compression=packed)
    else:
        tifffile.imwrite(path, inks, photometric="separated", compression=packed)
    expected = np.asarray(Pillow.fromarray(inks, mode="CMYK").convert("RGB"))
    np.testing.assert_allclose(read_image(path).array * 255, np.moveaxis(expected, 2, 0), atol=1.01)


def test_cmyk_of_jpeg(tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8, :, 0] = 255
    Pillow.fromarray(inks, mode="CMYK").save(tmp_path / "a.jpg", quality=100)
    expected = np.asarray(Pillow.open(tmp_path / "a.jpg").convert("RGB"))
    np.testing.assert_array_equal(
        np.rint(read_image(tmp_path / "a.jpg").array * 255), np.moveaxis(expected, 2, 0)
    )


def test_colour_profiles_are_ignored(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colours = RNG.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(
        np.rint(read_image(tmp_path / "a.png").array * 255), np.moveaxis(colours, 2, 0)
    )


# --- one image a file -----------------------------------------------------------------------------


def test_a_second_image_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((20, 20), np.uint8), photometric="minisblack", metadata=None)
        file.write(np.zeros((10, 10), np.uint8), photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match="holds 2 images, of 20 × 20 and 10 × 10 pixels; expected one"):
        read_image(path)


def test_a_thumbnail_is_no_second_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(SHAPE * np.uint8(255), photometric="minisblack", metadata=None)
        file.write(np.zeros((6, 10), np.uint8), photometric="minisblack", metadata=None, subfiletype=1)
    np.testing.assert_array_equal(read_mask(path).array, SHAPE)


def test_volumes_read_the_same_with_every_packing(tmp_path: Path) -> None:
    volume = RNG.integers(0, 255, (3, *SIZE)).astype(np.uint8)
    pages = [Pillow.fromarray(plane) for plane in volume]
    for packed, ending in itertools.product(("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"), ("tif",)):
        path = tmp_path / f"{packed}.{ending}"
        pages[0].save(path, save_all=True, append_images=pages[1:], compression=packed)
        np.testing.assert_array_equal(read_values(path).array, volume)
