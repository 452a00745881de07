"""What somebody may send on purpose: files that wait for ever, lead elsewhere, hold no numbers or ask for too much.

Rows of `table.py`: the good input, what is wrong, what is done to it, what must be said, and the command.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults.spoil import (
    Spoil,
    archive,
    both,
    edit,
    edit_text,
    nifti_values,
    nothing,
    put,
    remove,
    text,
    write,
)

PREDICT = "predict {in}/run {in}/photos --out {out} --device cpu"
SCORE = "evaluate {in}/run --dataset {in}/data --device cpu --quiet"
REPORT = "report {in}/run --out {out}.html"
RESUME = "train --resume {in}/run"
ONNX = "export {in}/run --to onnx --out {out}"
COMPARE = "compare {in}/data --out {in}/comparison --methods fuse --epochs 1 --size 20 --backbone small"
PIPE = "is a named pipe"


def pipe(path: str) -> Spoil:
    """A named pipe, on which reading waits until somebody writes."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")

    def spoil(root: Path) -> None:
        (root / path).unlink(missing_ok=True)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(root / path)

    return spoil


def device(path: str) -> Spoil:
    """A link to a device that has no end."""

    def spoil(root: Path) -> None:
        (root / path).unlink(missing_ok=True)
        (root / path).symlink_to("/dev/zero")

    return spoil


def config(**changes: Any) -> Spoil:
    """Settings of the run, edited by hand."""
    return edit("run/config.json", lambda d: d.update(changes))


def manifest(**changes: Any) -> Spoil:
    return edit("dataset.json", lambda d: d.update(changes))


def case(**changes: Any) -> Spoil:
    return edit("dataset.json", lambda d: d["cases"][0].update(changes))


def tensors(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """The header of the weights, edited by hand."""

    def spoil(root: Path) -> None:
        file = root / "run/weights.safetensors"
        content = file.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        change(header)
        head = json.dumps(header).encode()
        file.write_bytes(struct.pack("<Q", len(head)) + head + content[end:])

    return spoil


def weight(value: float) -> Spoil:
    """The last number of the weights that is a float."""

    def spoil(root: Path) -> None:
        from safetensors.numpy import load_file, save_file

        file = root / "run/weights.safetensors"
        about = json.loads(file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")])
        found = load_file(file)
        name = max(name for name, array in found.items() if array.dtype == np.float32)
        found[name].flat[-1] = value
        save_file(found, file, about.get("__metadata__"))

    return spoil


def first(header: dict[str, Any]) -> dict[str, Any]:
    """What a header says of its first tensor."""
    return next(entry for name, entry in header.items() if name != "__metadata__")  # type: ignore[no-any-return]


HOSTILE: list[tuple[str, str, Spoil, str, str]] = [
    # pipes, sockets and devices: reading one may never end
    ("squares", "a pipe for a manifest", pipe("dataset.json"), PIPE, ""),
    ("squares", "a pipe for an image", pipe("images/case0.png"), "case0.png' is ", ""),
    ("squares", "a pipe for a mask to fuse", pipe("masks/ann/case0_disc.png"), PIPE, "fuse {in} --method majority --out {out}"),
    ("cvat", "a pipe for an export", pipe("ann.xml"), PIPE, ""),
    ("label_studio", "a pipe for an export", both(pipe("export.json"), nothing), "export.json' is a named pipe", "import label-studio {in}/export.json {out}"),
    ("nnunet", "a pipe for the settings", pipe("dataset.json"), PIPE, ""),
    ("monai", "a pipe for a datalist", pipe("dataset.json"), PIPE, ""),
    ("slicer", "a pipe for a segmentation", pipe("ann/c.seg.nrrd"), PIPE, ""),
    ("lidc", "a pipe for an archive", pipe("lidc.npz"), PIPE, ""),
    ("riga", "a pipe for a table", pipe("DiscRegion/Glaucoma_multirater_MESSIDOR.csv"), PIPE, ""),
    ("riga_plus", "a pipe for a table", pipe("Base1_train.csv"), PIPE, ""),
    ("refuge", "a pipe for a table", pipe("REFUGE1Test.csv"), PIPE, ""),
    ("diaretdb1", "a pipe for marks", pipe("groundtruth/diaretdb1_image001_01_plain.xml"), PIPE, ""),
    ("qu_brats", "a pipe for a sequence", pipe("BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz"), PIPE, ""),
    ("volumes", "a pipe for a volume's mask", pipe("masks/bob/scan0_organ.nii.gz"), PIPE, "agree {in} --out {out} --resamples 5"),
    ("masks", "a pipe for a mask", pipe("ann.png"), "ann.png' is a named pipe; expected an image", ""),
    ("masks", "a device for a mask", device("ann.png"), "ann.png' is a device; expected an image", ""),
    ("run", "a pipe for settings", pipe("run/config.json"), PIPE, PREDICT),
    ("run", "a pipe for weights", pipe("run/weights.safetensors"), "weights.safetensors", PREDICT),
    ("run", "a pipe for a table", pipe("run/table.csv"), PIPE, REPORT),
    ("run", "a pipe for a log", pipe("run/log.jsonl"), PIPE, REPORT),
    ("run", "a pipe for a result", pipe("run/result.json"), PIPE, REPORT),
    ("run", "a pipe for an example", pipe("run/examples/0-pipe.npz"), PIPE, REPORT),
    ("run", "a pipe among photographs", pipe("photos/1.png"), PIPE, PREDICT),
    ("run", "a pipe for an older answer", pipe("answers/0/prediction.json"), PIPE, "predict {in}/run {in}/photos --out {in}/answers --device cpu"),
    ("run", "a pipe for a page", pipe("page.html"), "page.html' is a named pipe", "report {in}/run --out {in}/page.html"),
    ("run", "a device for a page", nothing, "'/dev/null' is a device", "report {in}/run --out /dev/null"),
    ("squares", "a device for a fusion", nothing, "'/dev/null' is ", "fuse {in} --method majority --out /dev/null"),
    ("squares", "a pipe for the settings of a fusion", pipe("fused/fuse.json"), PIPE, "fuse {in} --method majority --out {in}/fused"),
    ("comparison", "a pipe for a plan", pipe("comparison/compare.json"), "compare.json' is a named pipe", COMPARE),
    # outputs without a name
    *[
        (good, f"nothing for the output of {command.split()[0]}", nothing, "nothing is given after ", command)
        for good, command in (
            ("squares", "agree {in} --out ''"),
            ("squares", "fuse {in} --method majority --out ''"),
            ("squares", "export {in} --to png --out ''"),
            ("squares", "check {in} --out=''"),
            ("run", "train {in}/data --out ''"),
            ("run", "predict {in}/run {in}/photos --out ''"),
            ("run", "report {in}/run --out ''"),
            ("run", "compare {in}/data --out ''"),
            ("folder", "import folder {in} ''"),
        )
    ],
    # other files than those that were sent
    ("monai", "a picture at an address", edit("dataset.json", lambda d: d["training"][0].update(image="https://example.org/a.png")), "a.png'", ""),
    ("coco", "a picture at an address of this machine", edit("ann.json", lambda d: d["images"][0].update(file_name="file:///etc/passwd.png")), "passwd.png'", ""),
    ("coco", "a picture on another machine", edit("ann.json", lambda d: d["images"][0].update(file_name="\\\\host\\share\\a.png")), "is not a path inside", ""),
    ("cvat", "a picture by an absolute path", text("ann.xml", 'name="a.png"', 'name="/etc/passwd"'), "the picture '/etc/passwd' is not a path inside", ""),
    ("label_studio", "a picture of this machine", edit("export.json", lambda d: d[0]["data"].update(image="file:///etc/passwd.png")), "passwd.png", ""),
    ("squares", "a mask upwards through a folder that is there", case(masks={"ann": {"disc": "masks/../../in/images/case0.png"}}), "leaves the data set's folder", ""),
    ("squares", "a reference on another machine", case(reference={"disc": "//host/share/x.png", "cup": "//host/x.png"}), "is not a relative path with forward slashes", ""),
    ("riga_plus", "a table that names an address", text("Base1_train.csv", "R/1.png,", "http://example.org/1.png,"), "1.png'", ""),
    # no numbers
    ("run", "a weight that is infinite", weight(float("inf")), "weights.safetensors", PREDICT),
    ("run", "a weight that is no number, to hand on", weight(float("nan")), "weights.safetensors", ONNX),
    ("run", "a weight that is no number, to score", weight(float("-inf")), "weights.safetensors", SCORE),
    ("volumes", "an infinite voxel to fuse", nifti_values("masks/ann/scan0_organ.nii.gz", lambda a: np.where(a > 0, np.inf, a).astype(np.float32)), "scan0_organ.nii.gz'", "check {in}"),
    ("volumes", "a shift that is no number", put("images/scan0.nii.gz", 112, struct.pack("<ff", 2.0, float("nan"))), "scan0.nii.gz'", "check {in}"),
    ("squares", "a spacing that is no number", text("dataset.json", '"cases"', '"window": [NaN, 1], "cases"'), "window", ""),
    ("squares", "a window from far below to far above", manifest(window=[-1e308, 1e308]), "window", ""),
    ("run", "an image of a run that is no number", config(window=[0, float("inf")]), "config.json", PREDICT),
    # more than fits
    ("run", "a hundred thousand members", config(method="mrprism", options={"members": 100_000}), "config.json", PREDICT),
    ("run", "a size of a planet", config(size=2**31), "config.json: size is 2147483648", PREDICT),
    ("run", "a batch of a planet, to go on", config(batch_size=10**12), "config.json: batch_size is 1000000000000", RESUME),
    ("run", "a hundred thousand raters", edit("run/config.json", lambda d: d["task"].update(raters=[f"r{n}" for n in range(100_000)])), "config.json", PREDICT),
    ("run", "a structure of a long name", edit("run/config.json", lambda d: d["task"].update(structures=["x" * 5000, "cup"])), "config.json", PREDICT),
    ("run", "channels below zero", edit("run/config.json", lambda d: d["task"].update(channels=-1)), "config.json", PREDICT),
    ("run", "a config of seventy megabytes", edit_text("run/config.json", lambda t: t + " " * 70_000_000), "config.json", PREDICT),
    ("run", "a tensor of a planet", tensors(lambda h: first(h).update(shape=[2**40])), "weights.safetensors is not a complete safetensors file", PREDICT),
    ("run", "a tensor with a side below zero", tensors(lambda h: first(h).update(shape=[-1])), "weights.safetensors is not a complete safetensors file", PREDICT),
    ("run", "two tensors in one place", tensors(lambda h: h.update(more=dict(first(h)))), "weights.safetensors", PREDICT),
    ("run", "a tensor of a type nobody knows", tensors(lambda h: first(h).update(dtype="F3")), "weights.safetensors is not a complete safetensors file", PREDICT),
    ("volumes", "a NIfTI of seven axes", put("images/scan0.nii.gz", 40, struct.pack("<8h", 7, 2, 2, 2, 2, 2, 2, 2)), "scan0.nii.gz' ... expected two to five axes", "check {in}"),
    ("volumes", "data far behind the end of a file", put("images/scan0.nii.gz", 108, struct.pack("<f", 1e9)), "scan0.nii.gz' is cut short", "check {in}"),
    ("volumes", "data before the header", put("images/scan0.nii.gz", 108, struct.pack("<f", float("nan"))), "scan0.nii.gz'", "check {in}"),
    ("lidc", "an archive of zeros", archive("lidc.npz", images=np.zeros((1, 1, 30_000_000), np.uint8)), "lidc.npz' has", ""),
    ("coco", "a run of a planet", edit("ann.json", lambda d: d["annotations"][0].update(segmentation={"size": [12, 10], "counts": [2**62, 2**62]})), "ann.json'", ""),
    ("coco", "a polygon far away", edit("ann.json", lambda d: d["annotations"][0].update(segmentation=[[1e300, 0, 0, 1e300, 5, 5]])), "ann.json'", ""),
    # text that cannot be, and what would be run or shown
    ("squares", "half a pair for a structure", manifest(structures=["\ud800", "cup"]), "unable to parse raw data as a unicode string", ""),
    ("coco", "half a pair for a picture", edit("ann.json", lambda d: d["images"][0].update(file_name="\ud800.png")), "the picture '\\ud800.png' is not in", ""),
    ("squares", "a name that repaints the terminal", case(image="images/\x1b[2J\u202egnp.png"), "images/\\u001b[2J\\u202egnp.png", ""),
    ("squares", "a formula for a rater nobody knows", manifest(raters=["=1+1", "bob", "cy"]), "unknown rater 'ann'", ""),
    # damaged runs
    ("run", "a log that is one line without end", write("run/log.jsonl", '{"a":' * 50_000 + "\n"), "log.jsonl", REPORT),
    ("run", "an example that unpacks to gigabytes", archive("run/examples/0-case2.npz", image=np.zeros((1, 3, 3))), "is not an example case", REPORT),
    ("run", "examples of another task", edit("run/config.json", lambda d: d["task"].update(raters=["a", "b"])), "and config.json says", PREDICT),
    ("run", "a table of another file", write("run/table.csv", b"\x00" * 1000), "table.csv", REPORT),
    ("run", "a table with a value beyond all", edit_text("run/table.csv", lambda t: t.replace("dice,0.", "dice,9e999", 1)), "table.csv", REPORT),
    ("run", "a folder for weights", both(remove("run/weights.safetensors"), lambda root: (root / "run/weights.safetensors").mkdir()), "weights.safetensors", PREDICT),
]  # fmt: skip
