"""A model's masks on disk, as `within_spread` wants them: by case name, read when asked for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.agreement.cases import Cases
from mrprism.core.errors import InputError
from mrprism.core.files import plain_file, stem
from mrprism.core.names import spoken
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset, open_dataset
from mrprism.images import Geometry, MaskFile, format_of, read_mask
from mrprism.images.grids import apart_from, in_order_of

SEEN = ("train", "val")  # splits of a run on whose cases it cannot be judged


class CandidateMasks(Mapping[str, np.ndarray]):
    """Masks (C, *space) by case name, none kept in memory."""

    def __init__(
        self,
        readers: Mapping[str, Callable[[Geometry | None], np.ndarray]],
        seen: Mapping[str, str] | None = None,
        unknown: Sequence[str] = (),
    ) -> None:
        """``readers`` give the masks on a grid, if it is known where that lies.

        Args:
            seen: Cases the model learned from ("train") or was chosen on ("val"), which are kept out.
            unknown: What else lies there and is of no case that the readers did.
        """
        self.unknown = tuple(unknown)
        self.seen = {case: split for case, split in (seen or {}).items() if case in readers}
        self._readers = {case: read for case, read in readers.items() if case not in self.seen}

    def __getitem__(self, case: str) -> np.ndarray:
        return self._readers[case](None)

    def on(self, sample: MultiRaterSample) -> np.ndarray:
        """The masks of a case, voxel upon voxel with those of its readers.

        Raises:
            InputError: They lie elsewhere.
        """
        return self._readers[sample.name](getattr(sample, "geometry", None))

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __contains__(self, case: object) -> bool:
        return case in self._readers

    def __len__(self) -> int:
        return len(self._readers)


def candidate_masks(path: Path, data: Dataset, *, with_training_cases: bool = False) -> CandidateMasks:
    """A model's masks by case name: from a folder, or a data set with one rater."""
    if (path / "dataset.json").is_file() or path.suffix == ".json":
        return candidate_dataset(open_dataset(path), data.names, data.task.structures)
    return candidate_folder(path, data.names, data.task.structures, with_training_cases=with_training_cases)


def candidate_folder(
    folder: str | Path,
    cases: Sequence[str],
    structures: Sequence[str],
    *,
    with_training_cases: bool = False,
) -> CandidateMasks:
    """Masks of a folder.

    Found as `CASE/mask_STRUCTURE.*` (as `mrprism predict` writes them), `CASE/STRUCTURE.*` or
    `CASE_STRUCTURE.*`; with one structure `CASE.*` will do. A case counts as missing when it lacks a
    structure.

    Args:
        with_training_cases: Keep cases that the model was trained or chosen on, as `CASE/prediction.json`
            says (`mrprism predict` writes it); else they are left out and counted.

    Raises:
        InputError: There is no such folder, it has masks of none of the cases, or of none but those the
            model was trained on.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder '{folder}'; expected masks of a model, or a data set with one rater")
    readers: dict[str, Callable[[Geometry | None], np.ndarray]] = {}
    beside = NamedFiles(folder)
    places: dict[str, Path] = {}
    taken: list[Path] = []
    within = spoken_folders(folder, cases)
    for case in cases:
        places[case] = case_folder(folder, (case,), within) or folder / case
        inside = NamedFiles(places[case])
        files: list[Path] = []
        for structure in structures:
            names = [(inside, f"mask_{structure}"), (inside, structure), (beside, f"{case}_{structure}")]
            if len(structures) == 1:
                names.append((beside, case))
            file = next((path for masks, name in names if (path := masks.of(name)) is not None), None)
            if file is not None:
                files.append(file)
        taken += files
        if len(files) == len(structures):
            readers[case] = partial(_read, files)
    used = {*places.values(), *taken}
    unknown = [part.name for part in sorted(folder.iterdir()) if part not in used and _may_be_masks(part)]
    if not readers:
        raise InputError(
            f"'{folder}' holds no masks of these cases; expected for example "
            f"{cases[0]}/mask_{structures[0]}.png or {cases[0]}_{structures[0]}.png"
        )
    splits = {} if with_training_cases else {case: _split(places[case]) for case in readers}
    kept_out = {case: split for case, split in splits.items() if split in SEEN}
    found = CandidateMasks(readers, kept_out, unknown)
    if not len(found):
        raise InputError(
            f"all {len(readers)} cases in '{folder}' are cases that its model was trained or chosen on, which "
            "do not show how good it is on new ones; give masks of test cases, or --with-training-cases"
        )
    return found


def _may_be_masks(part: Path) -> bool:
    """Whether a file is a picture, or a folder holds some; hidden ones are the system's."""
    if part.name.startswith("."):
        return False
    if part.is_dir():
        return any(format_of(file) and file.is_file() for file in part.iterdir())
    return bool(format_of(part))


def spoken_folders(folder: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """The folders in a folder by their spoken names, but for those that are called exactly as a case is."""
    exact, found = set(names), dict[str, list[Path]]()
    for part in sorted(folder.iterdir()):
        if part.is_dir() and part.name not in exact:
            found.setdefault(spoken(part.name), []).append(part)
    return found


def case_folder(folder: Path, called: Sequence[str], within: Mapping[str, Sequence[Path]]) -> Path | None:
    """The folder of a case: the one that is called so, else the only one whose name is spoken so; None: there is none.

    Args:
        called: What the case may be called.
        within: `spoken_folders` of the folder.

    Raises:
        InputError: Several folders are spoken like the case, and none is called so.
    """
    if exact := next((folder / name for name in called if (folder / name).is_dir()), None):
        return exact
    alike = next((parts for name in called if (parts := within.get(spoken(name)))), [])
    if len(alike) > 1:
        raise InputError(
            f"'{folder}' holds '{alike[0].name}' and '{alike[1].name}', and either could be case '{called[0]}'; expected one"
        )
    return alike[0] if alike else None


def told_of(folder: Path) -> dict[str, Any]:
    """What `prediction.json` in the folder of a case says; empty where there is none.

    Raises:
        InputError: It cannot be read, and so whether the model has seen the case is not known.
    """
    file = folder / "prediction.json"
    if not file.exists():
        return {}
    try:
        found = json.loads(plain_file(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' cannot be read: {error}; expected what mrprism predict wrote") from None
    if not isinstance(found, dict):
        raise InputError(f"'{file}' holds a {type(found).__name__}; expected what mrprism predict wrote")
    return found


def _split(folder: Path) -> str:
    """The split that a prediction says its image belongs to."""
    return str(told_of(folder).get("split", ""))


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
    readers: dict[str, Callable[[Geometry | None], np.ndarray]] = {}
    unknown = []
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.name not in cases:
            unknown.append(sample.name)
        elif sample.rated.all():
            readers[sample.name] = partial(_masks_of, dataset, index)
    if not readers:
        raise InputError(f"'{dataset.name}' has none of these cases, for example {cases[0]}")
    return CandidateMasks(readers, unknown=unknown)


def _read(files: Sequence[Path], lies: Geometry | None) -> np.ndarray:
    return np.stack([_placed(read_mask(file), lies) for file in files])


def _placed(file: MaskFile, lies: Geometry | None) -> np.ndarray:
    """A mask in the order of the readers' voxels, if nothing says that it lies elsewhere."""
    file = in_order_of(file, lies)
    if apart := apart_from(lies, file):
        raise InputError(
            f"mask '{file.path}' lies in another place than the readers' masks: {apart} (readers first)"
        )
    return file.array


def _masks_of(dataset: Cases, index: int, lies: Geometry | None) -> np.ndarray:
    sample = dataset[index]
    own: Geometry | None = getattr(sample, "geometry", None)
    masks = [
        MaskFile(mask, sample.spacing_mm, own, "data set", Path(sample.name)) for mask in sample.masks[0]
    ]
    return np.stack([_placed(mask, lies) for mask in masks])


class NamedFiles:
    """The pictures of a folder by name; as it is written, else as it is spoken."""

    def __init__(self, folder: Path) -> None:
        self._written: dict[str, Path] = {}
        self._spoken: defaultdict[str, set[str]] = defaultdict(set)
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if format_of(file) and file.is_file():
                name = stem(file)
                first = self._written.setdefault(name, file)
                if first is not file:
                    raise InputError(
                        f"'{first}' and '{file.name}' have the same name but for the ending; expected one of them"
                    )
                self._spoken[spoken(name)].add(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def of(self, name: str) -> Path | None:
        """The picture of this name, if there is one.

        Raises:
            InputError: Two names differ from it in case, blanks or the form of an accent only.
        """
        if name in self._written:
            return self._written[name]
        alike = sorted(self._spoken.get(spoken(name), ()))
        if len(alike) > 1:
            one, other = (self._written[each] for each in alike[:2])
            raise InputError(f"'{one}' and '{other.name}' may both be '{name}'; expected one of them")
        return self._written[alike[0]] if alike else None
