"""A data set, or one consensus of it, written in another tool's layout.

The folder appears under its name only when complete; what a killed export left is removed by the next
one. `manifest.json` tells what was exported and how, with the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrprism import __version__
from mrprism.datasets import Dataset
from mrprism.datasets.write import complete_folder, safe_name
from mrprism.errors import InputError
from mrprism.export import bids, coco, dicom_seg, folders, nnunet, seg_nrrd
from mrprism.export.cases import Cases
from mrprism.fusion import FUSIONS
from mrprism.fusion.cases import fuse_case
from mrprism.images import write_file
from mrprism.sample import Samples

EACH = "each"  # every rater's own mask, no fusion
MANIFEST = "manifest.json"

TARGETS: dict[str, Callable[[Cases, Path], None]] = {
    "nnunet": nnunet.write,
    "bids": bids.write,
    "nifti": folders.write_nifti,
    "png": folders.write_png,
    "tiff": folders.write_tiff,
    "seg-nrrd": seg_nrrd.write,
    "coco": coco.write,
    "dicom-seg": dicom_seg.write,
}


@dataclass(frozen=True)
class Exported:
    """What an export left behind."""

    folder: Path
    cases: int
    raters: tuple[str, ...]  # whose masks, or the one fusion
    files: int


def export_dataset(dataset: Dataset, target: str, out: str | Path, *, raters: str = EACH) -> Exported:
    """Write the masks of a data set, and where the layout has a place for them its images.

    Args:
        target: A name in ``TARGETS``.
        out: A folder that does not exist or is empty.
        raters: "each", or the name of a fusion whose consensus (above 0.5) takes the raters' place.

    Raises:
        InputError: An unknown target or fusion, a folder that holds something, masks the layout cannot
            hold, or a disk that is full.
    """
    if target not in TARGETS:
        raise InputError(f"unknown target '{target}'; known: {', '.join(TARGETS)}")
    if raters != EACH and raters not in FUSIONS:
        raise InputError(f"unknown raters '{raters}'; known: {EACH}, or a fusion: {', '.join(FUSIONS)}")
    out = Path(out)
    with complete_folder(out) as unfinished:
        cases = _cases(dataset, raters)
        TARGETS[target](cases, unfinished)
        files = _hashes(unfinished)
        write_file(unfinished / MANIFEST, _manifest(cases, target, raters, files))
    return Exported(out, len(cases), cases.task.raters, len(files))


def _cases(dataset: Dataset, raters: str) -> Cases:
    task = dataset.task
    if not task.raters:
        raise InputError(f"data set '{dataset.name}' has no raters: there are no masks to export")
    samples: Samples = dataset
    if raters != EACH:
        task = replace(task, raters=(raters,), anonymous=False)
        samples = _Fused(dataset, raters)
    manifest = dataset.manifest
    originals: dict[str, list[Path]] = {}
    if manifest is not None and dataset.root is not None:
        for case in manifest.cases:
            paths = [case.image] if isinstance(case.image, str) else case.image
            originals[case.name] = [dataset.root / path for path in paths]
    return Cases(
        name=dataset.name,
        task=task,
        samples=samples,
        names=dataset.names,
        files=_safe(dataset.names),
        rater_files=_safe(task.raters, {"images", "reference"}),
        structure_files=_safe(task.structures),
        channels=tuple(manifest.channels) if manifest else None,
        originals=originals,
        splits=dataset.splits,
        fused=raters != EACH,
    )


def _safe(names: Sequence[str], taken: set[str] | None = None) -> dict[str, str]:
    used = set(taken or ())
    return {name: safe_name(name, used) for name in names}


class _Fused(Samples):
    """The cases of a data set with one consensus in the raters' place, fused when asked for."""

    def __init__(self, dataset: Dataset, method: str) -> None:
        self._dataset, self._method = dataset, method

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:
        case = self._dataset[int(key)]
        drawn = np.flatnonzero(case.rated.any(axis=0))
        masks = np.zeros((1, *case.masks.shape[1:]), dtype=bool)
        if len(drawn):
            some = replace(case, masks=case.masks[:, drawn], rated=case.rated[:, drawn], reference=None)
            masks[0, drawn] = fuse_case(some, self._method).probability > 0.5
        return replace(case, masks=masks, rated=np.asarray(case.rated.any(axis=0, keepdims=True)))


def _manifest(cases: Cases, target: str, raters: str, files: dict[str, str]) -> bytes:
    about = {
        "format": "mrprism-export/1",
        "mrprism": __version__,
        "dataset": cases.name,
        "settings": {"to": target, "raters": raters},
        "structures": list(cases.task.structures),
        "raters": cases.rater_files,  # name: as files call it
        "cases": cases.files,
        "sha256": files,
    }
    return (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()


def _hashes(folder: Path) -> dict[str, str]:
    """Every file's SHA-256, once it is on the disk."""
    return {path.relative_to(folder).as_posix(): _hash(path) for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
