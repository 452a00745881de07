"""QUBIQ 2020 and 2021: prostate, brain growth, brain tumour, kidney, pancreas, pancreatic lesion.

`.../SET/{Training,Validation}/caseNN/{image,taskTT_segRR}.nii.gz`; the pancreas sets lack the middle
level. Tasks become structures; a rater who has no file for a case or task is missing, an all-zero
file is empty. Headers are not trusted: masks and images of one case carry different ones, so arrays
are compared and spacing is unknown. In the brain tumour images the third axis is the modality; in the
pancreas volumes the first one is the slice.

Source: Becker et al., Quantification of Uncertainties in Biomedical Image Quantification, MICCAI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import entries, folders, matching, natural
from mrprism.images import read_image, read_mask
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, assemble, fitting, parse_window

SETS = ("brain-growth", "brain-tumor", "kidney", "prostate", "pancreas", "pancreatic-lesion")
_SPLITS = {"training": "train", "validation": "val"}


def read(source: Path, ledger: Ledger, *, set: str = "", window: str = "") -> Source:
    """Read one set.

    Args:
        set: Its name, unless the path ends in it.
        window: "low:high" in file values, for CT.
    """
    here = source.resolve().name.lower()
    wanted = (set or here).lower()
    if wanted not in SETS:
        raise InputError(f"which set of '{source}'? expected -o set= one of {', '.join(SETS)}")
    found = [source] if here == wanted else sorted(p for p in folders(source) if p.name.lower() == wanted)
    cases: list[_Case] = []
    notes = ledger.notes
    notes.append("spacing is left unknown: the headers do not agree among themselves")
    for folder in found:
        cases += _cases(folder, wanted, notes, ledger)
    for folder in (p for p in folders(source) if p.name.lower() in SETS and p.name.lower() != wanted):
        ledger.know(folder, "another set")
    if not cases:
        raise InputError(f"'{source}' has no cases of the set '{wanted}'")
    raters = sorted({rater for case in cases for _, rater in case.files}, key=natural)
    structures = sorted({task for case in cases for task, _ in case.files}, key=natural)
    channels = 4 if wanted == "brain-tumor" else 1
    task = Task(channels, tuple(structures), tuple(raters))
    kind = "nifti" if wanted.startswith("pancrea") else "png"
    samples = _samples(task, cases, wanted, parse_window(window))
    return Source(f"qubiq-{wanted}", task, samples, image_format=kind, notes=notes, count=len(cases))


@dataclass(frozen=True)
class _Case:
    name: str
    image: Path
    split: str | None
    files: dict[tuple[str, str], Path] = field(default_factory=dict)  # (task, rater)


def _cases(folder: Path, wanted: str, notes: list[str], ledger: Ledger) -> list[_Case]:
    parts = [p for p in entries(folder) if p.name.lower() in ("training", "validation", "testing")]
    found: list[_Case] = []
    for part in parts or [folder]:
        if part.name.lower() == "testing":
            ledger.know(part, "images for testing, which have no masks")
            notes.append(f"'{ledger.named(part)}' has no masks and was left out")
            continue
        above = "validation" if "validation" in str(part).lower() else "training"
        split = _SPLITS.get(part.name.lower(), _SPLITS[above] if wanted.startswith("pancrea") else None)
        for case in entries(part):
            image = next((p for n in ("image.nii.gz", "image.nii") if (p := case / n).is_file()), None)
            if case.is_dir() and image is not None:
                name = f"{split}_{case.name}" if split else case.name
                files = _masks(case)
                ledger.take_all([image, *files.values()])
                found.append(_Case(name, image, split, files))
    return found


def _masks(case: Path) -> dict[tuple[str, str], Path]:
    files: dict[tuple[str, str], Path] = {}
    for match, path in matching(case, r"(?:task(\d+)_|.*?_)?seg(\d+)\.nii(?:\.gz)?"):
        key = f"task{int(match[1] or 1):02d}", f"seg{int(match[2]):02d}"
        if key in files:
            raise InputError(f"'{files[key]}' and '{path.name}' are the same task and rater")
        files[key] = path
    return files


def _samples(
    task: Task, cases: list[_Case], wanted: str, window: tuple[float, float] | None
) -> Iterator[MultiRaterSample]:
    for case in cases:
        image = read_image(case.image, window=window).array
        if wanted == "brain-tumor":
            image = _modalities(image, case.image)
        elif wanted.startswith("pancrea") and image.ndim == 4:
            image = _slices_first(image[0])[None]
        elif image.ndim != 3:
            raise InputError(f"image '{case.image}' has the shape {image.shape[1:]}; expected one plane")
        masks = {}
        for (structure, rater), path in case.files.items():
            mask = read_mask(path).array
            if wanted.startswith("pancrea") and mask.ndim == 3:
                mask = _slices_first(mask)
            masks[rater, structure] = fitting(mask, path, image, case.image)
        group = re.sub(r"^(train|val)_", "", case.name).rsplit("-", 1)[0] if "-" in case.name else None
        yield assemble(task, case.name, image, masks, split=case.split, group=group)


def _modalities(image: np.ndarray, path: Path) -> np.ndarray:
    if image.ndim != 4 or image.shape[:2] != (1, 4):
        raise InputError(f"image '{path}' has the shape {image.shape[1:]}; expected four modalities")
    planes = image[0]
    low = planes.min(axis=(1, 2), keepdims=True)
    range_ = planes.max(axis=(1, 2), keepdims=True) - low
    return np.asarray((planes - low) / np.where(range_ == 0, 1, range_), dtype=np.float32)


def _slices_first(volume: np.ndarray) -> np.ndarray:
    """Undo the turning round of the axes: the file's first axis is the slice, not x."""
    return np.ascontiguousarray(volume.transpose(2, 1, 0))
