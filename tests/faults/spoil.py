"""What is done to a good input; each function returns one that is given the input's folder."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

Spoil = Callable[[Path], Any]


def nothing(root: Path) -> None:
    """The input is good; the command is not."""


def both(*spoils: Spoil) -> Spoil:
    return lambda root: [spoil(root) for spoil in spoils]


def remove(path: str) -> Spoil:
    def spoil(root: Path) -> None:
        import shutil

        target = root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return spoil


def rename(path: str, name: str) -> Spoil:
    return lambda root: (root / path).rename((root / path).with_name(name))


def copy(path: str, to: str) -> Spoil:
    return lambda root: (root / to).write_bytes((root / path).read_bytes())


def write(path: str, content: str | bytes) -> Spoil:
    def spoil(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def cut(path: str, left: float = 0.6) -> Spoil:
    """Only the first part of a file is there."""

    def spoil(root: Path) -> None:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: int(len(content) * left)])

    return spoil


def byte(path: str, place: int) -> Spoil:
    """One byte of a file is another; places below 0 count from the end."""

    def spoil(root: Path) -> None:
        content = bytearray((root / path).read_bytes())
        content[place] ^= 0xFF
        (root / path).write_bytes(content)

    return spoil


def giant(path: str) -> Spoil:
    """A PNG whose header, checksum and all, announces 2^30 × 2^30 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 2**30, 2**30, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return write(path, b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 99) + b"IDAT" + bytes(99))


def put(path: str, place: int, content: bytes) -> Spoil:
    """Bytes of a header are others; packed files are unpacked for it and packed again."""

    def spoil(root: Path) -> None:
        import gzip

        packed = path.endswith(".gz")
        whole = bytearray(
            gzip.decompress((root / path).read_bytes()) if packed else (root / path).read_bytes()
        )
        whole[place : place + len(content)] = content
        (root / path).write_bytes(gzip.compress(whole, mtime=0) if packed else whole)

    return spoil


def text(path: str, old: str, new: str) -> Spoil:
    """Words of a text file, or of the header of a binary one, are others."""

    def spoil(root: Path) -> None:
        content = (root / path).read_bytes()
        assert old.encode() in content, content[:2000]
        (root / path).write_bytes(content.replace(old.encode(), new.encode()))

    return spoil


def edit(path: str, change: Callable[[Any], Any]) -> Spoil:
    """A JSON file is changed; what the change returns is not looked at."""

    def spoil(root: Path) -> None:
        document = json.loads((root / path).read_text())
        change(document)
        (root / path).write_text(json.dumps(document))

    return spoil


def edit_text(path: str, change: Callable[[str], str]) -> Spoil:
    """A text file is changed as a whole."""
    return lambda root: (root / path).write_text(change((root / path).read_text()))


def pixels(path: Path) -> np.ndarray:
    with Pillow.open(path) as image:
        return np.array(image)


def resize(path: str, height: int = 5, width: int = 5) -> Spoil:
    def spoil(root: Path) -> None:
        Pillow.fromarray(np.resize(pixels(root / path), (height, width))).save(root / path)

    return spoil


def repaint(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """A picture has other pixels."""
    return lambda root: Pillow.fromarray(change(pixels(root / path))).save(root / path)


def paint(path: str, values: list[int]) -> Spoil:
    """A picture of the same size with these grey values."""

    def spoil(root: Path) -> None:
        array = np.resize(np.array(values, np.uint8), pixels(root / path).shape[:2])
        Pillow.fromarray(array).save(root / path)

    return spoil


def colour(path: str) -> Spoil:
    def spoil(root: Path) -> None:
        size = pixels(root / path).shape[:2]
        array = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        Pillow.fromarray(array).save(root / path)

    return spoil


def link(path: str, target: str) -> Spoil:
    """A file is a link to something outside."""

    def spoil(root: Path) -> None:
        outside = root.parent / f"outside-{root.name}"
        (root / path).rename(outside) if target == "itself" else outside.write_text("secret")
        if target != "itself":
            (root / path).unlink()
        (root / path).symlink_to(outside)

    return spoil


def linked_away(root: Path) -> None:
    """The first file of a folder is a link to something outside."""
    first = min(path for path in root.rglob("*") if path.is_file())
    link(str(first.relative_to(root)), "itself")(root)


def move(path: str, by: tuple[float, float, float] = (3, 0, 0)) -> Spoil:
    """A NIfTI file lies elsewhere."""

    def spoil(root: Path) -> None:
        import nibabel as nib

        image = nib.load(root / path)
        affine = image.affine.copy()
        affine[:3, 3] += by
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), root / path)

    return spoil


def nifti_values(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """A NIfTI file has other values, type or shape."""

    def spoil(root: Path) -> None:
        import nibabel as nib

        image = nib.load(root / path)
        nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), root / path)

    return spoil


def zipped(path: str, name: str, content: bytes, claims: int | None = None) -> Spoil:
    """A zip archive with one member, which may claim to unpack to more than it does."""

    def spoil(root: Path) -> None:
        with zipfile.ZipFile(root / path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        if claims is not None:
            whole = bytearray((root / path).read_bytes())
            place = whole.index(b"PK\x01\x02") + 24
            whole[place : place + 4] = struct.pack("<I", claims)
            (root / path).write_bytes(whole)

    return spoil


def member(path: str, name: str) -> Spoil:
    """One more file in an archive, which is no array."""

    def spoil(root: Path) -> None:
        with zipfile.ZipFile(root / path, "a") as file:
            file.writestr(name, b"abc")

    return spoil


def archive(path: str, **arrays: Any) -> Spoil:
    """An .npz archive with some arrays replaced."""

    def spoil(root: Path) -> None:
        with np.load(root / path) as file:
            content = {key: file[key] for key in file.files}
        content.update(arrays)
        np.savez(root / path, **{key: value for key, value in content.items() if value is not None})

    return spoil
