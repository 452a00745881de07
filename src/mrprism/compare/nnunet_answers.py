"""Answers as nnU-Net leaves them: a label map a case, its `dataset.json` beside them, and with `--save_probabilities`
an array of probabilities (`CASE.npz`).

What the labels mean stands in `dataset.json`. A structure is a label, or a region of several, by its name; or, where the
data set was exported with `--labels votes`, a ladder of regions "at least k raters mark it", whose probabilities are what
the number of votes is, and whose mean is the expected share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.core.brief import counted
from mrprism.core.errors import InputError
from mrprism.core.files import stem
from mrprism.images import LabelFile, limit_archive, read_labels
from mrprism.layouts.marks import read_json
from mrprism.layouts.writers.nnunet_votes import VOTES

DOCUMENT = "dataset.json"


@dataclass(frozen=True)
class Labels:
    """What `dataset.json` says of the labels."""

    file: Path
    values: dict[str, list[int]]  # of each label or region, in the order of the file, background left out
    regions: bool
    votes: dict[str, list[str]]  # structure: its regions, from at least one vote on

    def channel(self, name: str) -> int:
        """Where a label's probability stands in an array; with labels the background comes first."""
        if self.regions:
            return list(self.values).index(name)
        return self.values[name][0]

    @property
    def channels(self) -> int:
        return len(self.values) if self.regions else 1 + max(v for of in self.values.values() for v in of)


def labels_of(folder: Path, structures: Sequence[str]) -> Labels | None:
    """The labels of a folder that nnU-Net wrote; None for any other folder.

    Raises:
        InputError: It has no label for a structure.
    """
    file = folder / DOCUMENT
    if not file.is_file():
        return None
    document: Any = read_json(file)
    given = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(given, dict):
        return None  # of something else: a data set of ours, or another tool's
    try:
        values = {
            str(name): [int(v) for v in (value if isinstance(value, list) else [value])]
            for name, value in given.items()
            if name != "ignore"
        }
        values = {name: of for name, of in values.items() if set(of) != {0}}
        votes = {str(s): [str(name) for name in of] for s, of in document.get(VOTES, {}).items()}
        if not values or any(name not in values for of in votes.values() for name in of):
            raise ValueError("labels do not fit")
    except (ValueError, TypeError, AttributeError):
        raise InputError(
            f"'{file}' has labels that are no numbers, or {VOTES} that are none of its labels; expected those of nnU-Net"
        ) from None
    rungs = {s: len(of) for s, of in votes.items() if s in structures}
    if len(set(rungs.values())) > 1:
        (one, short), *_, (other, long) = sorted(rungs.items(), key=lambda rung: rung[1])
        raise InputError(
            f"'{file}' has {VOTES} of {counted(short, 'region')} for '{one}' and {long} for '{other}'; expected as many for "
            "every structure, one for each rater"
        )
    absent = [s for s in structures if not (votes.get(s) if votes else s in values)]
    if absent:
        raise InputError(
            f"'{file}' has the labels {', '.join(values)}; expected one called '{absent[0]}', or regions by "
            "mrprism export --to nnunet --labels votes"
        )
    regions = any(len(of) > 1 for of in values.values())  # so does nnU-Net tell them from labels
    return Labels(file, values, regions, votes)


def alike(name: str, maps: Mapping[str, Path]) -> None:
    """Whether the label maps of cases have probabilities beside them, all or none.

    Args:
        name: What the tool is called, for the sentence.

    Raises:
        InputError: Some have: their scores would be of another kind than those of the others.
    """
    soft = {case: _archive(file).is_file() for case, file in maps.items()}
    if len(set(soft.values())) > 1:
        have, lack = next(c for c in soft if soft[c]), next(c for c in soft if not soft[c])
        raise InputError(
            f"--with {name}: case '{have}' has probabilities and case '{lack}' lacks '{_archive(maps[lack]).name}'; "
            "expected them of every case (predict with --save_probabilities) or of none"
        )


def _archive(file: Path) -> Path:
    """Where nnU-Net keeps the probabilities of a label map."""
    return file.with_name(f"{stem(file)}.npz")


def read(
    file: Path, labels: Labels, structures: Sequence[str]
) -> tuple[LabelFile, Float[np.ndarray, "C *space"], Float[np.ndarray, "K C *space"] | None]:
    """A case: the grid of its label map, what it says of each structure, and of the number of votes.

    Raises:
        InputError: A file is broken, or votes are to be read and probabilities were not saved.
    """
    grid = read_labels(file)
    archive = _archive(file)
    if not archive.is_file():
        if labels.votes:
            raise InputError(
                f"'{archive}' is missing: what nnU-Net says of the number of votes stands in its probabilities; predict "
                "with --save_probabilities"
            )
        masks = [np.isin(grid.array, labels.values[structure]) for structure in structures]
        return grid, np.stack(masks).astype(np.float32), None
    found = _probabilities(archive, labels, grid.array.shape)
    if not labels.votes:
        return grid, np.stack([found[labels.channel(s)] for s in structures]), None
    levels = np.stack([[found[labels.channel(name)] for name in labels.votes[s]] for s in structures], axis=1)
    # heads by themselves may disagree on the order; as a distribution none may be above the one before
    levels = np.minimum.accumulate(levels, axis=0)
    return grid, levels.mean(axis=0), levels


def _probabilities(
    archive: Path, labels: Labels, space: tuple[int, ...]
) -> Float[np.ndarray, "channels *space"]:
    try:
        limit_archive(archive)
        with archive.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            found: np.ndarray = np.asarray(stored["probabilities"], np.float32)
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(
            f"'{archive}' holds no probabilities of nnU-Net: {error or type(error).__name__}"
        ) from None
    if found.ndim == len(space) + 2 and found.shape[1] == 1:
        found = found[:, 0]  # an image is a volume of one slice there
    if found.shape != (labels.channels, *space):
        raise InputError(
            f"'{archive}' has the shape {found.shape}; expected {(labels.channels, *space)}: the labels of "
            f"'{labels.file}' at the size of the label map"
        )
    if not np.isfinite(found).all() or found.min() < -1e-3 or found.max() > 1 + 1e-3:
        raise InputError(f"'{archive}' holds values that are no probabilities; expected 0 to 1")
    clipped: np.ndarray = np.clip(found, 0, 1)
    return clipped
