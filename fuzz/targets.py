"""What is fuzzed: everything that reads bytes from outside. Any bytes are read, or refused with an InputError.

Each target has sound inputs to begin with (seeds) and a function that is given the bytes. The trees of published
layouts are those of tests/faults/inputs.py and tests/layouts/layouts.py, with one file replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import os
import pickle
import shutil
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/layouts"))

from faults import inputs
from layouts import LAYOUTS

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.check import check_dataset
from mrprism.images import read_image, read_labels, read_mask, read_values
from mrprism.layouts import DATASETS
from mrprism.layouts.brushes import unpack_brush
from mrprism.layouts.coco import unpack
from mrprism.layouts.shapes import ellipse, polygon, rectangle
from mrprism.layouts.table import read_table
from mrprism.metrics.examples import read_example
from mrprism.output.tables import as_meant, to_csv
from mrprism.output.terminal import printable


@dataclass(frozen=True)
class Target:
    """Something that reads bytes."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]

    def __call__(self, data: bytes) -> bool:
        """Whether the bytes were read; anything but that or an InputError is raised: a find."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.read(data)
            except InputError:
                return False
        return True


@functools.cache
def _base() -> Path:
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None, prefix="mrprism-fuzz-")
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    return Path(folder)


def scratch() -> Path:
    """A folder of this process, in memory where there is room for one; removed when the first of them ends."""
    folder = _base() / str(os.getpid())
    folder.mkdir(exist_ok=True)
    return folder


# --- image files --------------------------------------------------------------------------------


def _image_file(ending: str) -> Target:
    def seeds() -> list[bytes]:
        path = scratch() / f"seed{ending}"
        found = []
        for array in (inputs.picture(0), inputs.picture(1, colour=True), inputs.blob(0) * np.uint8(255)):
            if ending.startswith(".nii"):
                inputs.nifti(path, array if array.ndim == 2 else array[None])
            elif ending in (".pgm", ".gif") and array.ndim == 3:
                continue
            else:
                inputs.png(path, array)
            found.append(path.read_bytes())
        if ending == ".tif":
            import tifffile

            for compression in ("zlib", None):
                tifffile.imwrite(path, inputs.picture(2).astype(np.float32), compression=compression)
                found.append(path.read_bytes())
        return found

    def read(data: bytes) -> None:
        path = scratch() / f"file{ending}"
        path.write_bytes(data)
        refused = 0
        for reader in (read_image, read_labels, read_mask, read_values):
            try:
                reader(path)
            except InputError:
                refused += 1
        if refused == 4:
            raise InputError("by every reader")

    return Target(seeds, read)


def _nrrd_file() -> Target:
    target = _image_file(".nrrd")

    def seeds() -> list[bytes]:
        path = scratch() / "seed.nrrd"
        found = []
        for array in (inputs.blob(0, (5, 5, 3)), inputs.picture(0, (2, 5, 5, 3))):
            inputs.nrrd(path, array, inputs.SEGMENTS)
            found.append(path.read_bytes())
        raw = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n"
        return [*found, raw.encode() + bytes(8)]

    return Target(seeds, target.read)


def _meta_image() -> Target:
    """Headers and data as others write them: plain, packed, as text, turned."""

    def seeds() -> list[bytes]:
        place = "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 1 2 3\nElementSpacing = 1 1 2\n"
        head = f"ObjectType = Image\nNDims = 3\n{place}DimSize = 2 2 2\nElementType = MET_UCHAR\n"
        found = [(head, bytes(8)), (f"{head}CompressedData = True\n", zlib.compress(bytes(8)))]
        found.append((f"{head}BinaryData = False\n", b"0 1 0 1 0 1 0 1"))
        found.append((head.replace("UCHAR", "SHORT") + "BinaryDataByteOrderMSB = True\n", bytes(16)))
        return [f"{text}ElementDataFile = LOCAL\n".encode() + data for text, data in found]

    return Target(seeds, _image_file(".mha").read)


def _numpy_file() -> Target:
    def seeds() -> list[bytes]:
        found = []
        for array in (
            inputs.blob(0),
            inputs.picture(1, colour=True),
            inputs.picture(2, (2, 3, 4)).astype(">f4"),
        ):
            buffer = io.BytesIO()
            np.save(buffer, array)
            found.append(buffer.getvalue())
        return found

    return Target(seeds, _image_file(".npy").read)


# --- layouts: one file of a good tree is replaced -----------------------------------------------


def _read_all(samples: Iterable[MultiRaterSample]) -> None:
    for sample in samples:
        assert sample.masks.shape[2:] == sample.image.shape[1:]


def _layout(kind: str, good: str, file: str, **options: Any) -> Target:
    @functools.cache
    def tree() -> Path:
        root = scratch() / f"{good}-{Path(file).name}"
        (inputs.GOOD | LAYOUTS)[good](root)
        return root

    def read(data: bytes) -> None:
        (tree() / file).write_bytes(data)
        _read_all(DATASETS[kind](tree(), **options).samples)

    return Target(lambda: [_kept(tree() / file)], read)


@functools.cache
def _kept(path: Path) -> bytes:
    return path.read_bytes()


def _pickle(data: bytes) -> None:
    path = scratch() / "lidc.pickle"
    path.write_bytes(data)
    _read_all(DATASETS["lidc"](path, pickle="yes").samples)


def _pickle_seeds() -> list[bytes]:
    case = {"image": inputs.picture(0), "masks": [inputs.blob(k) for k in range(4)], "series_uid": "1.3"}
    return [pickle.dumps({"nodule_1": case}, protocol) for protocol in (0, 2, 4)]


def _manifest() -> Target:
    @functools.cache
    def tree() -> Path:
        return write_dataset(inputs.samples(2), scratch() / "squares", name="squares", task=inputs.TASK)

    def read(data: bytes) -> None:
        (tree() / "dataset.json").write_bytes(data)
        check_dataset(tree()).as_html()
        _read_all(open_dataset(tree()))

    return Target(lambda: [_kept(tree() / "dataset.json")], read)


# --- packed marks and outlines ------------------------------------------------------------------


def _numbers(data: bytes) -> np.ndarray:
    return np.frombuffer(data[: len(data) // 8 * 8], "<f8")


def _outlines(data: bytes) -> None:
    numbers = _numbers(data)
    polygon(numbers[: len(numbers) // 2 * 2].reshape(-1, 2), (12, 10))
    if len(numbers) >= 5:
        a, b, c, d, e = (float(n) for n in numbers[:5])
        ellipse((a, b), (c, d), e, (12, 10))
        rectangle((a, b), (c, d), e, (12, 10))


def _table(data: bytes) -> None:
    path = scratch() / "table.csv"
    path.write_bytes(data)
    read_table(path, "a", "b", encodings=("gbk", "utf-8"))


def _example(data: bytes) -> None:
    path = scratch() / "example.npz"
    path.write_bytes(data)
    read_example(path)


def _example_seeds() -> list[bytes]:
    buffer = io.BytesIO()
    masks = np.zeros((2, 1, 4, 4), bool)
    np.savez_compressed(
        buffer, name="a", image=np.zeros((1, 4, 4)), masks=masks, rated=masks[..., 0, 0], probability=masks[0]
    )
    return [buffer.getvalue()]


def _run_folder(data: bytes) -> None:
    from mrprism.learn.run import Run
    from mrprism.learn.weights import read_tensors

    folder = scratch() / "run"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(data)
    (folder / "result.json").write_bytes(data)
    (folder / "weights.safetensors").write_bytes(data)
    with contextlib.suppress(InputError):
        read_tensors(folder / "weights.safetensors")
    run = Run.open(folder)
    with contextlib.suppress(InputError):
        run.result()


def _run_seeds() -> list[bytes]:
    import mrprism.learn.weights  # torch takes seconds to import, before the clock runs

    assert mrprism.learn.weights
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    config = b'{"method":"mrprism","task":{"channels":1,"structures":["a"],"raters":["b"]},"dataset":"x",'
    config += b'"dataset_hash":"","train":[],"val":[],"test":[]}'
    return [struct.pack("<Q", len(header)) + header + bytes(4), config]


def _report(data: bytes) -> None:
    """The files of a run as a report reads them: each in turn is these bytes."""
    from mrprism.report.reading import read_run

    folder = scratch() / "report"
    if not folder.exists():
        _fabricated(folder)
    kept = {
        name: (folder / name).read_bytes()
        for name in ("config.json", "result.json", "log.jsonl", "table.csv")
    }
    refused = 0
    for name, content in kept.items():
        (folder / name).write_bytes(data)
        try:
            read_run(folder)
        except InputError:
            refused += 1
        finally:
            (folder / name).write_bytes(content)
    if refused == len(kept):
        raise InputError("by all")


def _fabricated(folder: Path) -> Path:
    from report.fabricate import fabricate_run

    return fabricate_run(folder, cases=2, size=40)


def _report_seeds() -> list[bytes]:
    folder = scratch() / "report-seed"
    if not folder.exists():
        _fabricated(folder)
    return [
        (folder / name).read_bytes()[:20_000]
        for name in ("config.json", "result.json", "log.jsonl", "table.csv")
    ]


def _printed(data: bytes) -> None:
    """Any text is printed harmlessly on any terminal, and comes back from a CSV file as it was."""
    import csv
    import json

    text = data.decode("utf-8", "surrogateescape")
    for encoding in ("utf-8", "ascii", "cp1252"):
        shown = printable(text, encoding)
        shown.encode(encoding)
        assert not any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 for c in shown)
        if not set(text) & set('"\\\n\t') and encoding == "utf-8":
            assert json.loads(f'"{shown}"') == text
    rows = list(csv.reader(io.StringIO(to_csv(["a", "b"], [[text, "x"]]), newline="")))
    assert rows[0] == ["a", "b"]
    assert [as_meant(cell) for cell in rows[1]] == [text, "x"]


def _printed_seeds() -> list[bytes]:
    return [
        b"=cmd|' /C calc'!A0",
        "\x1b[31m\u202eGr\u00f6\u00dfe \u00d7 1".encode(),
        b"\xed\xa0\x80\xff,\r\n'-1",
    ]


BRUSH = bytes.fromhex("00000010391bfce013ff80")  # eight values of 0, eight of 255

TARGETS: dict[str, Target] = {
    "manifest": _manifest(),
    **{f"image{ending}": _image_file(ending) for ending in (".png", ".jpg", ".tif", ".nii", ".nii.gz", ".pgm", ".bmp", ".gif", ".webp")},
    "image.mha": _meta_image(),
    "image.npy": _numpy_file(),
    "image.nrrd": _nrrd_file(),
    "bids-mask": _layout("bids", "bids", "sub-01/anat/sub-01_label-lesion_desc-bob_mask.nii.gz"),
    "bu-bil-windows": _layout("bu-bil", "bu_bil_original", "BU-BIL_Dataset1/crop_offsets.json", set="1"),
    "coco": _layout("coco", "coco", "ann.json"),
    "coco-runs": Target(lambda: [b"X3", b"0", b"04:@"], lambda data: unpack(data.decode("latin-1"))),
    "cvat": _layout("cvat", "cvat", "ann.xml"),
    "diaretdb1": _layout("diaretdb1", "diaretdb1", "groundtruth/diaretdb1_image001_01_plain.xml"),
    "dicom-seg": _layout("dicom-seg", "dicom_seg", "seg/bob.dcm"),
    "dicom-slice": _layout("dicom-seg", "dicom_seg", "ct/00.dcm"),
    "drishti-table": _layout("drishti", "drishti", "meta.json"),
    "label-studio": _layout("label-studio", "label_studio", "export.json"),
    "label-studio-brush": Target(lambda: [BRUSH], lambda data: unpack_brush(list(data), (2, 2))),
    "lidc": _layout("lidc", "lidc", "lidc.npz"),
    "lidc-pickle": Target(_pickle_seeds, _pickle),
    "lidc-xml": _layout("lidc", "LIDC-IDRI", "LIDC-IDRI-0007/1.3.6.1.study/1.3.6.1.series/069.xml"),
    "monai": _layout("monai", "monai", "dataset.json", raters="label_*"),
    "nnunet": _layout("nnunet", "nnunet", "dataset.json"),
    "refuge-table": _layout("refuge", "refuge", "REFUGE1Test.csv"),
    "riga-plus-table": _layout("riga", "riga_plus", "Base1_train.csv"),
    "riga-table": _layout("riga", "riga", "DiscRegion/Glaucoma_multirater_MESSIDOR.csv"),
    "slicer": _layout("slicer", "slicer", "ann/c.seg.nrrd"),
    "stare": _layout("stare", "stare", "im0001.ah.ppm.gz"),
    "outlines": Target(lambda: [np.arange(1, 9, dtype="<f8").tobytes()], _outlines),
    "table": Target(lambda: [b"a,b\n1,2\n", "a,b\n\u56fe,2\n".encode("gbk")], _table),
    "example": Target(_example_seeds, _example),
    "run-folder": Target(_run_seeds, _run_folder),
    "report": Target(_report_seeds, _report),
    "printed": Target(_printed_seeds, _printed),
}  # fmt: skip
