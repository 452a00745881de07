"""Bad files of pixels: bytes that are spoiled one way each, put in the place of a mask, and the sentence that must come."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image as Pillow

from faults import inputs
from faults.spoil import Spoil, write

MASK = inputs.blob(1) * np.uint8(255)
VOLUME = inputs.blob(2, (6, 10, 9)).astype(np.uint8)


def instead(path: str, name: str, content: bytes) -> Spoil:
    """Another file in the place of one."""

    def spoil(root: Path) -> None:
        (root / path).unlink()
        (root / path).with_name(name).write_bytes(content)

    return spoil


def mha(data: bytes = MASK.tobytes(), **header: str) -> bytes:
    fields = {"ObjectType": "Image", "NDims": "2", "DimSize": "10 12", "ElementType": "MET_UCHAR"} | header
    fields.setdefault("ElementDataFile", "LOCAL")
    lines = [f"{key} = {value}\n" for key, value in fields.items() if key != "ElementDataFile"]
    return "".join([*lines, f"ElementDataFile = {fields['ElementDataFile']}\n"]).encode() + data


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def picture(array: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", metadata=None, **options)
    return buffer.getvalue()


def two_images() -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for array in (MASK, MASK[:7, :7]):
            file.write(array, photometric="minisblack", metadata=None)
    return buffer.getvalue()


def strip_bomb() -> bytes:
    plain = tiff(MASK, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(plain)) as file:
        page = file.pages.first
        start, held = page.dataoffsets[0], page.databytecounts[0]
    packed = zlib.compress(bytes(10_000_000))
    # the strip moves to the end, and its two tags follow it
    patched = plain.replace(struct.pack("<I", start), struct.pack("<I", len(plain)))
    return patched.replace(struct.pack("<I", held), struct.pack("<I", len(packed))) + packed


def transparent() -> bytes:
    pixels = np.zeros((*MASK.shape, 4), np.uint8)
    pixels[..., 0] = MASK
    return picture(pixels, "PNG")


def soft() -> bytes:
    pixels = np.zeros((*MASK.shape, 4), np.uint8)
    pixels[..., 3] = MASK
    pixels[5, 5, 3] = 90
    return picture(pixels, "PNG")


def palette() -> bytes:
    image = Pillow.fromarray((np.arange(120, dtype=np.uint8) % 3).reshape(12, 10), mode="P")
    image.putpalette([200, 0, 0, 0, 0, 0, 0, 200, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def smeared() -> bytes:
    return picture(MASK, "WEBP", quality=5)


def turned() -> bytes:
    exif = Pillow.Exif()
    exif[274] = 6
    return picture(MASK, "PNG", exif=exif)


def nifti(array: np.ndarray, affine: np.ndarray, **header: Any) -> bytes:
    image = nib.Nifti1Image(array, affine)
    content = image.to_bytes()
    head = nib.Nifti1Header(content[:348])
    for key, value in header.items():
        head[key] = value
    return gzip.compress(bytes(head.binaryblock) + content[348:])


def colours_nifti() -> bytes:
    rgb = np.zeros(VOLUME.T.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"] = VOLUME.T
    return gzip.compress(nib.Nifti1Image(rgb, np.diag([0.8, 0.8, 2, 1])).to_bytes())


def nrrd(more: str, encoding: str = "raw", data: bytes = MASK.tobytes()) -> bytes:
    return (
        f"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 10 12\nencoding: {encoding}\n{more}\n".encode() + data
    )


BOB = "bob/b.png"
FOLDER: list[tuple[str, Spoil, str]] = [
    ("a MetaImage cut short", instead(BOB, "b.mha", mha(MASK.tobytes()[:-9])), "b.mha' is cut short: its header asks for 120 bytes"),
    ("a MetaImage that leads out", instead(BOB, "b.mhd", mha(b"", ElementDataFile="../../secret.raw")), "b.mhd' keeps its data in '../../secret.raw'; expected a file in the same folder"),
    ("a MetaImage in many files", instead(BOB, "b.mhd", mha(b"", ElementDataFile="LIST")), "b.mhd' keeps its data in several files"),
    ("a MetaImage without its data", instead(BOB, "b.mhd", mha(b"", ElementDataFile="b.raw")), "b.mhd' keeps its data in 'b.raw', which is not there"),
    ("a MetaImage of strings", instead(BOB, "b.mha", mha(ElementType="MET_STRING")), "b.mha' holds MET_STRING values"),
    ("a MetaImage without a size", instead(BOB, "b.mha", mha(DimSize="ten")), "b.mha' is broken: its header has no DimSize"),
    ("a MetaImage that is no image", instead(BOB, "b.mha", mha(ObjectType="Tube")), "b.mha' holds a MetaIO Tube"),
    ("a packed MetaImage of more", instead(BOB, "b.mha", mha(zlib.compress(bytes(999)), CompressedData="True")), "b.mha' holds more bytes than its header asks for"),
    ("a MetaImage of another size", instead(BOB, "b.mha", mha(DimSize="12 10")), "b.mha' has the size 10 × 12, its image"),
    ("pickled NumPy", instead(BOB, "b.npy", npy(np.array([[{"a": 1}]]), allow_pickle=True)), "b.npy' holds object values"),
    ("NumPy cut short", instead(BOB, "b.npy", npy(MASK)[:-1]), "b.npy' is cut short: its header asks for 120 bytes, the file has 119"),
    ("NumPy with more behind", instead(BOB, "b.npy", npy(MASK) + b"more"), "b.npy' is broken: its header asks for 120 bytes, the file has 124"),
    ("NumPy of one axis", instead(BOB, "b.npy", npy(MASK.ravel())), "b.npy' has the shape (120,); expected an image or a volume"),
    ("NumPy with NaN", instead(BOB, "b.npy", npy(np.full((12, 10), np.nan))), "b.npy' holds values that are not whole numbers, such as nan"),
    ("NumPy of parts", instead(BOB, "b.npy", npy(MASK / np.float32(510))), "such as 0.5; expected exact labels; ... -o threshold=0.5"),
    ("smeared WebP", instead(BOB, "b.webp", smeared()), "b.webp' has grey values ... import with -o threshold=128"),
    ("WebP cut short", instead(BOB, "b.webp", smeared()[:40]), "b.webp' is broken or not a WEBP file"),
    ("moving WebP", instead(BOB, "b.webp", picture(MASK, "WEBP", save_all=True, append_images=[Pillow.fromarray(255 - MASK)], lossless=True)), "b.webp' holds 2 frames; expected one image"),
    ("a TIFF of two images", instead(BOB, "b.tif", two_images()), "b.tif' holds 2 images, of 12 × 10 and 7 × 7 pixels; expected one"),
    ("a TIFF whose strip never ends", instead(BOB, "b.tif", strip_bomb()), "b.tif' unpacks to more than its header says"),
    ("a TIFF with other files", instead(BOB, "b.tif", tiff(MASK, description='<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><UUID FileName="../x.tif"/></OME>')), "keeps its planes in several files or elsewhere ('../x.tif')"),
    ("a mask nobody can see", instead(BOB, "b.png", transparent()), "b.png' is transparent everywhere, though its colours differ"),
    ("a soft mask in the alpha", instead(BOB, "b.png", soft()), "b.png' has grey values 0, 90, 255"),
    ("a palette without a ground", instead(BOB, "b.png", palette()), "index 0 is coloured and index 1 black, so its background is not known"),
    ("a turned mask", instead(BOB, "b.png", turned()), "b.png' has the size 10 × 12, ... it is turned, as its orientation 6 says"),
    ("16 bits of colour", instead(BOB, "b.png", b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in ((b"IHDR", struct.pack(">IIBBBBB", 10, 12, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(12 * 61))), (b"IEND", b"")))), "b.png' has channels of 16 bits, which are not read exactly"),
    ("NRRD in an unknown encoding", instead(BOB, "b.nrrd", nrrd("", "zstd")), "b.nrrd' has the encoding 'zstd'; expected raw, ascii, hex, gzip or bzip2"),
    ("NRRD numbers that are words", instead(BOB, "b.nrrd", nrrd("", "ascii", b"one two")), "b.nrrd' is broken"),
    ("NRRD numbers that end", instead(BOB, "b.nrrd", nrrd("", "ascii", b"1 0 1")), "b.nrrd' is cut short: its header asks for 120 numbers, it gives 3"),
    ("NRRD in inches", instead(BOB, "b.nrrd", nrrd('space dimension: 2\nspace directions: (1,0) (0,1)\nspace units: "in" "in"\n')), "b.nrrd' has the units in; expected mm"),
    ("NRRD with two sizes", instead(BOB, "b.nrrd", nrrd("space dimension: 2\nspace directions: (1,0) (0,1)\nspacings: 2 2\n")), "b.nrrd' gives two sizes for its voxels"),
]  # fmt: skip
ORGAN = "masks/ann/scan0_organ.nii.gz"
VOLUMES: list[tuple[str, Spoil, str]] = [
    ("two sizes for a voxel", write(ORGAN, nifti(VOLUME.T.copy(), np.diag([0.8, 0.8, 2, 1]), pixdim=[1, 1, 1, 1, 0, 0, 0, 0])), "gives two sizes for its voxels: 1 × 1 × 1 mm (pixdim) and 0.8 × 0.8 × 2 mm (sform)"),
    ("an axis without length", write(ORGAN, nifti(VOLUME.T.copy(), np.diag([0.8, 0.8, 2, 1]), srow_z=[0, 0, 0, 0])), "an axis has no length"),
    ("a voxel in metres", write(ORGAN, nifti(VOLUME.T.copy(), np.diag([0.8, 0.8, 2, 1]), xyzt_units=1)), "spacing (0.8, 0.8, 2) mm against (800, 800, 2000) mm"),
    ("a mask in colours", write(ORGAN, colours_nifti()), "holds red, green and blue in one value; expected one number a voxel"),
]  # fmt: skip
