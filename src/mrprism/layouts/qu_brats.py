"""BraTS 2020 and QU-BraTS: gliomas in four MR sequences, with one reference and no raters.

`BraTS20_Training_NNN/BraTS20_Training_NNN_{flair,t1,t1ce,t2,seg}.nii[.gz]`, labels 0, 1, 2 and 4, which
make the whole tumour (1, 2, 4), its core (1, 4) and the enhancing tumour (4). QU-BraTS adds uncertainty
maps of a method, `NNN_unc_{whole,core,enhance}.nii.gz`, from 0 to 100; a method's doubt is no rater's
mask, so they are left out. The reference is one mask per case, drawn and corrected by several people
whose own masks were not published.

Source: Menze et al., IEEE TMI 34(10), 2015; Mehta et al., MELBA 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.manifest import Case
from mrprism.datasets.tree import folders, matching
from mrprism.images import read_image, read_labels
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import InPlace, Source, aligned, assemble, parse_labels, split_labels, together

SEQUENCES = ("flair", "t1", "t1ce", "t2")
REGIONS = "whole tumour:1+2+4,tumour core:1+4,enhancing tumour:4"


def read(source: Path, ledger: Ledger, *, labels: str = REGIONS, resample: str = "no") -> Source:
    """Read every case folder at any depth.

    Args:
        labels: The structures and their values, such as "necrosis:1,oedema:2,enhancing:4".
        resample: "yes" brings a reference and sequences that lie on another grid onto that of the first.
    """
    values = parse_labels(labels)
    if 3 in {value for group in values.values() for value in group}:
        raise InputError(
            f"labels '{labels}' name the value 3, which BraTS 2020 does not have; expected 1, 2, 4"
        )
    notes = ["there is one reference and no raters"]
    cases: list[tuple[str, dict[str, Path], Path]] = []
    for folder in folders(source):
        _collect(folder, cases, notes, ledger)
    if not cases:
        raise InputError(f"'{source}' has no folder with NAME_flair.nii.gz, ... and NAME_seg.nii.gz")
    task = Task(len(SEQUENCES), tuple(values), ())
    channels = ("FLAIR", "T1", "T1ce", "T2")
    samples = _samples(task, cases, values, resample)
    here = _here(cases, values)
    return Source("brats", task, samples, channels, "nifti", notes, here, count=len(cases), no_raters=True)


def _collect(
    folder: Path, cases: list[tuple[str, dict[str, Path], Path]], notes: list[str], ledger: Ledger
) -> None:
    """Add the case of a folder, if it has one."""
    found = {m[1].lower(): p for m, p in matching(folder, r".+_(flair|t1|t1ce|t2|seg)\.nii(?:\.gz)?")}
    if not set(SEQUENCES) & set(found):
        return
    lacking = [name for name in SEQUENCES if name not in found]
    if lacking:
        raise InputError(f"'{folder}' has no '{lacking[0]}' beside its other sequences")
    odd = [path for _, path in matching(folder, r".+_Segm\.nii(?:\.gz)?")]  # case 355 of a common copy
    if "seg" not in found and len(odd) == 1:
        notes.append(f"'{odd[0].name}' was taken for the reference of '{folder.name}'")
        found["seg"] = odd[0]
    maps = matching(folder, r".+_unc_(whole|core|enhance)\.nii(?:\.gz)?")
    for _, path in maps:
        ledger.know(path, "a method's doubt, no rater's mask")
    if maps:
        notes.append(
            f"{len(maps)} uncertainty maps of '{folder.name}' are no rater's masks and were left out"
        )
    if "seg" not in found:
        for path in found.values():
            ledger.leave(path, "of a case that has no reference", "image", case=folder.name)
        return
    ledger.take_all(found.values())
    cases.append((folder.name, {name: found[name] for name in SEQUENCES}, found["seg"]))


def _here(
    cases: list[tuple[str, dict[str, Path], Path]], values: dict[str, tuple[int, ...]]
) -> InPlace | None:
    if {value for group in values.values() for value in group} != {1, 2, 4}:
        return None
    placed = [
        Case(name=name, image=[str(path) for path in paths.values()], reference=str(reference))
        for name, paths, reference in cases
    ]
    return InPlace(placed, values)


def _samples(
    task: Task,
    cases: list[tuple[str, dict[str, Path], Path]],
    values: dict[str, tuple[int, ...]],
    resample: str,
) -> Iterator[MultiRaterSample]:
    for name, paths, reference in cases:
        parts = [read_image(path) for path in paths.values()]
        drawn = aligned(read_labels(reference), parts[0], resample=resample)
        odd = sorted({int(v) for v in np.unique(drawn)} - {0, 1, 2, 4})
        if odd:
            raise InputError(f"'{reference}' holds the value {odd[0]}; BraTS 2020 has 0, 1, 2 and 4")
        known = {value for group in values.values() for value in group}
        image = together(parts, resample=resample)
        yield assemble(
            task,
            name,
            image.array,
            {},
            split_labels(np.where(np.isin(drawn, list(known)), drawn, 0), values, reference),
            like=image,
        )
