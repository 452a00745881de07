"""CURVAS 2024 (pancreas, kidney, liver in CT, three raters) and CURVAS-PDACVI 2025 (pancreatic tumour).

`UKCHLLNNN/{image,annotation_1,annotation_2,...}.nii.gz`, labels stored as floats. In PDACVI
`annotation_1` is the reference of another data set and no reader like the others: it becomes the
reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import folders, matching, natural
from mrprism.images import read_image, read_values
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, aligned, assemble, parse_window, split_labels

_SETS = {
    "2024": {"pancreas": (1,), "kidney": (2,), "liver": (3,)},
    "pdacvi": {"tumour": (1,)},
}


def read(
    source: Path, ledger: Ledger, *, set: str = "2024", window: str = "-160:240", resample: str = "no"
) -> Source:
    """Read every folder below ``source`` that holds an `image.nii.gz`.

    Args:
        set: "2024" or "pdacvi".
        window: "low:high" in Hounsfield units.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    if set not in _SETS:
        raise InputError(f"unknown set '{set}'; known: {', '.join(_SETS)}")
    scans = (folder for folder in folders(source) if (folder / "image.nii.gz").is_file())
    files = {folder: _annotations(folder) for folder in sorted(scans, key=lambda p: natural(str(p)))}
    readers = {number for found in files.values() for number in found}
    numbers = sorted(readers - {1} if set == "pdacvi" else readers)
    if not numbers:
        raise InputError(f"'{source}' has no folder with image.nii.gz and annotation_1.nii.gz")
    task = Task(1, tuple(_SETS[set]), tuple(f"annotation {number}" for number in numbers))
    for folder, found in files.items():
        ledger.take_all([folder / "image.nii.gz", *found.values()])
    samples = _samples(task, files, set, window, resample)
    notes = [f"intensities: window {window}"]
    return Source(f"curvas-{set}", task, samples, ("CT",), "nifti", notes, count=len(files))


def _annotations(folder: Path) -> dict[int, Path]:
    return {int(match[1]): path for match, path in matching(folder, r"annotation_(\d+)\.nii\.gz")}


def _samples(
    task: Task, files: dict[Path, dict[int, Path]], set: str, window: str, resample: str
) -> Iterator[MultiRaterSample]:
    for folder, found in files.items():
        image = read_image(folder / "image.nii.gz", window=parse_window(window))
        masks: dict[tuple[str, str], np.ndarray] = {}
        reference: dict[str, np.ndarray] = {}
        for number, path in found.items():
            drawn = aligned(read_values(path), image, resample=resample)
            labels = np.round(drawn)
            if np.abs(labels - drawn).max() >= 1e-3:
                raise InputError(f"mask '{path}' holds values that are not nearly whole numbers")
            for structure, mask in split_labels(labels.astype(np.int64), _SETS[set], path).items():
                if set == "pdacvi" and number == 1:
                    reference[structure] = mask
                else:
                    masks[f"annotation {number}", structure] = mask
        yield assemble(task, folder.name, image.array, masks, reference, like=image)
