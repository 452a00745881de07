"""A data set, or one consensus of it, written in another tool's layout.

The folder appears under its name only when complete; what a killed export left is removed by the next
one. `manifest.json` tells what was exported and how, with the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrprism import __version__
from mrprism.core.errors import InputError, unknown
from mrprism.core.names import safe_names
from mrprism.core.sample import Samples
from mrprism.datasets import Dataset
from mrprism.datasets.decisions import FOLDER, decisions_of
from mrprism.datasets.split import SPLITS, split_dataset
from mrprism.fusion import FUSIONS
from mrprism.fusion.one_case import fuse_case
from mrprism.layouts.writers import bids, coco, dicom_seg, folders, nnunet, nnunet_votes, seg_nrrd
from mrprism.layouts.writers.cases import Cases, Probability
from mrprism.output.files import write_file
from mrprism.output.folders import complete_folder

EACH = "each"  # every rater's own mask, no fusion
VOTES = "votes"  # how many raters mark a pixel
LABELS = ("masks", VOTES)
DECISIONS = "decisions"  # what people settled in the viewer, in the raters' place
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
HOLDS = {  # what a layout has a place for beside masks
    "nnunet": {"reference", "split"},
    "nifti": {"reference", "readings"},
    "png": {"reference", "readings"},
    "tiff": {"reference", "readings"},
}


@dataclass(frozen=True)
class Exported:
    """What an export left behind."""

    folder: Path
    cases: int
    raters: tuple[str, ...]  # whose masks, or the one fusion
    files: int
    left_out: tuple[str, ...] = ()  # what the data set has and the layout no place for


def export_dataset(
    dataset: Dataset,
    target: str,
    out: str | Path,
    *,
    raters: str = EACH,
    soft: bool = False,
    labels: str = "masks",
    split_seed: int = 0,
) -> Exported:
    """Write the masks of a data set, and where the layout has a place for them its images.

    Args:
        target: A name in ``TARGETS``.
        out: A folder that does not exist or is empty.
        raters: "each"; or what takes the raters' place: "decisions", what people settled in the viewer, or the name of
            a fusion, for its consensus (above 0.5).
        soft: Write the consensus's probabilities as well; only for nnunet, with a fusion.
        labels: "masks"; or, for nnunet, "votes": how many raters mark a pixel, as ordered regions.
        split_seed: With votes: of the split, as `mrprism compare` draws it where the data set does not fix one.

    Raises:
        InputError: An unknown target or fusion, a folder that holds something, masks the layout cannot
            hold, or a disk that is full.
    """
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    if raters not in (EACH, DECISIONS) and raters not in FUSIONS:
        raise unknown("raters", raters, [EACH, *FUSIONS, DECISIONS])
    if soft and (target != "nnunet" or raters in (EACH, DECISIONS)):
        raise InputError(
            f"soft labels are for nnunet with a fusion, not for {target} with raters '{raters}'; expected for "
            "example --to nnunet --raters soft-vote"
        )
    if labels not in LABELS:
        raise unknown("labels", labels, LABELS)
    votes = labels == VOTES
    if votes and (target != "nnunet" or raters != EACH):
        raise InputError(
            f"votes are counted over all raters and are for nnunet, not for {target} with raters '{raters}'; expected "
            "--to nnunet --labels votes"
        )
    holds = ("split",) if votes else HOLDS.get(target, ())
    out = Path(out)
    with complete_folder(out) as unfinished:
        cases = _cases(dataset, raters, soft)
        if votes:
            split = split_dataset(dataset, split_seed)
            sides: dict[str, str | None] = {name: side for side in SPLITS for name in split[side]}
            cases = replace(cases, splits=sides)
            nnunet_votes.write(cases, unfinished)
        else:
            TARGETS[target](cases, unfinished)
        files = _hashes(unfinished)
        write_file(unfinished / MANIFEST, _manifest(cases, target, raters, files, labels))
    return Exported(out, len(cases), cases.task.raters, len(files), _left_out(dataset, holds, cases, raters))


def _any_decided(dataset: Dataset) -> bool:
    return dataset.root is not None and (dataset.root / FOLDER).is_dir()


def _left_out(dataset: Dataset, holds: Collection[str], cases: Cases, raters: str) -> tuple[str, ...]:
    has = {
        "reference": not cases.fused and any(dataset.referenced.values()),
        "decisions": raters == EACH and not dataset.decided and _any_decided(dataset),
        "readings": not cases.fused and any(dataset.read_again.values()),
        "split": any(cases.splits.values()),
        "patients": any(group != case for case, group in dataset.groups.items()),
    }
    return tuple(what for what, there in has.items() if there and what not in holds)


def _cases(dataset: Dataset, raters: str, soft: bool) -> Cases:
    task = dataset.task
    if not task.raters:
        raise InputError(f"data set '{dataset.name}' has no raters: there are no masks to export")
    samples: Samples = dataset
    probability = None
    if raters == DECISIONS:
        task = replace(task, raters=(raters,), anonymous=False)
        samples = _Decided(dataset)
    elif raters != EACH:
        task = replace(task, raters=(raters,), anonymous=False)
        samples = fused = _Fused(dataset, raters)
        probability = fused.probability if soft else None
    manifest = dataset.manifest
    originals: dict[str, list[Path]] = {}
    if manifest is not None and dataset.root is not None:
        for case in manifest.cases:
            originals[case.name] = [dataset.root / path for path in case.images]
    return Cases(
        name=dataset.name,
        task=task,
        samples=samples,
        names=dataset.names,
        files=safe_names(dataset.names),
        rater_files=safe_names(task.raters, {"images", "reference"}),
        structure_files=safe_names(task.structures),
        channels=tuple(manifest.channels) if manifest else None,
        originals=originals,
        splits=dataset.splits,
        fused=raters != EACH,
        soft=probability,
    )


class _Decided(Samples):
    """The cases of a data set with what was settled in the raters' place; what was not is a mask that was not done."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._decisions = decisions_of(dataset.manifest, dataset.root, dataset.name)
        if not any(one.settled for of in self._decisions.all().values() for one in of.values()):
            raise InputError(
                f"no decision on data set '{dataset.name}' is agreed or final; settle cases with mrprism view "
                "--adjudicate --as NAME"
            )

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:
        case = self._dataset[int(key)]
        masks = np.zeros((1, *case.masks.shape[1:]), bool)
        rated = np.zeros((1, masks.shape[1]), bool)
        for c, one in enumerate(self._decisions.standing(case.name).values()):
            if one.settled is not None:
                masks[0, c], rated[0, c] = self._decisions.mask(one.settled), True
        return replace(case, masks=masks, rated=rated, readings=())


class _Fused(Samples):
    """The cases of a data set with one consensus in the raters' place, fused when asked for."""

    def __init__(self, dataset: Dataset, method: str) -> None:
        self._dataset, self._method = dataset, method
        self._last: tuple[str, Probability] | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:
        case = self._dataset[int(key)]
        drawn = np.flatnonzero(case.rated.any(axis=0))
        probability = np.zeros(case.masks.shape[1:], dtype=np.float32)
        if len(drawn):
            some = replace(case, masks=case.masks[:, drawn], rated=case.rated[:, drawn], reference=None)
            probability[drawn] = fuse_case(some, self._method).probability
        self._last = case.name, probability
        rated = np.asarray(case.rated.any(axis=0, keepdims=True))
        return replace(case, masks=probability[None] > 0.5, rated=rated, readings=())

    def probability(self, name: str) -> Probability:
        """The consensus of the case that was asked for last."""
        assert self._last is not None
        assert self._last[0] == name
        return self._last[1]


def _manifest(cases: Cases, target: str, raters: str, files: dict[str, str], labels: str) -> str:
    about = {
        "format": "mrprism-export/1",
        "mrprism": __version__,
        "dataset": cases.name,
        "settings": {"to": target, "raters": raters, "soft": cases.soft is not None}
        | ({"labels": labels} if labels == VOTES else {}),
        "structures": list(cases.task.structures),
        "raters": cases.rater_files,  # name: as files call it
        "cases": cases.files,
        "sha256": files,
    }
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def _hashes(folder: Path) -> dict[str, str]:
    """Every file's SHA-256, once it is on the disk."""
    return {path.relative_to(folder).as_posix(): _hash(path) for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
