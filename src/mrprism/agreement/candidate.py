"""A model's masks on disk, as `within_spread` wants them: by case name, read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mrprism.agreement.cases import Cases
from mrprism.core.errors import InputError
from mrprism.images import format_of, read_mask


class CandidateMasks(Mapping[str, np.ndarray]):
    """Masks (C, *space) by case name, none kept in memory."""

    def __init__(self, readers: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, case: str) -> np.ndarray:
        return self._readers[case]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __contains__(self, case: object) -> bool:
        return case in self._readers

    def __len__(self) -> int:
        return len(self._readers)


def candidate_folder(folder: str | Path, cases: Sequence[str], structures: Sequence[str]) -> CandidateMasks:
    """Masks of a folder.

    Found as `CASE/mask_STRUCTURE.*` (as `mrprism predict` writes them), `CASE/STRUCTURE.*` or
    `CASE_STRUCTURE.*`; with one structure `CASE.*` will do. A case counts as missing when it lacks a
    structure.

    Raises:
        InputError: There is no such folder, or it has masks of none of the cases.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder '{folder}'; expected masks of a model, or a data set with one rater")
    readers: dict[str, Callable[[], np.ndarray]] = {}
    beside = _masks_by_stem(folder)
    for case in cases:
        inside = _masks_by_stem(folder / case)
        files = []
        for structure in structures:
            file = (
                inside.get(f"mask_{structure}") or inside.get(structure) or beside.get(f"{case}_{structure}")
            )
            if file is None and len(structures) == 1:
                file = beside.get(case)
            if file is not None:
                files.append(file)
        if len(files) == len(structures):
            readers[case] = partial(_read, files)
    if not readers:
        raise InputError(
            f"'{folder}' holds no masks of these cases; expected for example "
            f"{cases[0]}/mask_{structures[0]}.png or {cases[0]}_{structures[0]}.png"
        )
    return CandidateMasks(readers)


def candidate_dataset(dataset: Cases, cases: Sequence[str], structures: Sequence[str]) -> CandidateMasks:
    """Masks of a data set with one rater; a case counts as missing when a structure was not done.

    Raises:
        InputError: It has more raters, other structures, or none of the cases.
    """
    if len(dataset.task.raters) != 1:
        raise InputError(f"'{dataset.name}' has {len(dataset.task.raters)} raters; a candidate has one")
    if dataset.task.structures != tuple(structures):
        found = ", ".join(dataset.task.structures)
        raise InputError(f"'{dataset.name}' outlines {found}; expected {', '.join(structures)}")
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.name in cases and sample.rated.all():
            readers[sample.name] = partial(_masks_of, dataset, index)
    if not readers:
        raise InputError(f"'{dataset.name}' has none of these cases, for example {cases[0]}")
    return CandidateMasks(readers)


def _read(files: Sequence[Path]) -> np.ndarray:
    return np.stack([read_mask(file).array for file in files])


def _masks_of(dataset: Cases, index: int) -> np.ndarray:
    masks: np.ndarray = dataset[index].masks[0]
    return masks


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = (file for file in sorted(folder.iterdir()) if format_of(file) and file.is_file())
    return {file.name.removesuffix(".gz").rsplit(".", 1)[0]: file for file in files}
