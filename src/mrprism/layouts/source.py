"""What a reader of another layout returns, and how it puts a case together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Reading, Task
from mrprism.datasets import grid
from mrprism.datasets.dataset import FileSample
from mrprism.datasets.grid import size
from mrprism.datasets.manifest import Case
from mrprism.images import FromFile, Geometry, ImageFile, Window, read_labels, read_mask
from mrprism.images.content import check_window
from mrprism.layouts.ledger import Ledger


@dataclass(frozen=True)
class InPlace:
    """What a manifest says of files that can stay where they are."""

    cases: list[Case]  # paths as the reader found them
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    window: Window | None = None


@dataclass(frozen=True)
class Source:
    """A data set in another layout, its cases read one at a time."""

    name: str
    task: Task
    samples: Iterable[MultiRaterSample]
    channels: tuple[str, ...] | None = None
    image_format: str = "png"
    notes: list[str] = field(default_factory=list)  # what was decided or left out; grows while reading
    here: InPlace | None = None  # where nothing need be converted
    count: int | None = None  # of samples, where it is known before they are read
    no_raters: bool = False  # votes or a reference alone, as published
    ledger: Ledger | None = None  # of what was seen; every reader of `DATASETS` has one
    pseudonyms: Mapping[str, str] = field(default_factory=dict)  # {rater: the name in the data set}


@runtime_checkable
class Placed(Protocol):
    """Knows how large a pixel is, and where in the patient."""

    @property
    def spacing_mm(self) -> tuple[float, ...] | None: ...
    @property
    def geometry(self) -> Geometry | None: ...


def assemble(
    task: Task,
    name: str,
    image: np.ndarray,
    masks: Mapping[tuple[str, str], np.ndarray],
    reference: Mapping[str, np.ndarray] | None = None,
    *,
    like: Placed | None = None,
    again: Sequence[Mapping[tuple[str, str], np.ndarray]] = (),
    **facts: Any,
) -> FileSample:
    """A case from the masks there are, by rater and structure; whatever is not given was not rated.

    Args:
        reference: Left out if it lacks a structure.
        image: Of no channels where there are masks only.
        like: The file the image is from; tells spacing and place.
        again: The masks of a second reading by the same raters, of a third, ...
        facts: More that is known of the case.
    """
    if like is not None:
        facts |= {"spacing_mm": like.spacing_mm, "geometry": like.geometry}
    if isinstance(like, ImageFile):
        facts |= {"notes": like.notes}
    if isinstance(like, ImageFile) and like.array is image:
        facts |= {"values": like.values, "window": like.window}
    space = image.shape[1:]
    first, *further = (_reading(task, drawn, space) for drawn in (masks, *again))
    whole = reference is not None and all(structure in reference for structure in task.structures)
    arbitrated = np.stack([reference[s] for s in task.structures]) if reference and whole else None
    seen = image if len(image) else None
    return FileSample(name, seen, first.masks, first.rated, arbitrated, readings=tuple(further), **facts)


def _reading(task: Task, masks: Mapping[tuple[str, str], np.ndarray], space: tuple[int, ...]) -> Reading:
    drawn = np.zeros((len(task.raters), len(task.structures), *space), dtype=bool)
    rated = np.zeros(drawn.shape[:2], dtype=bool)
    for (rater, structure), mask in masks.items():
        key = task.raters.index(rater), task.structures.index(structure)
        drawn[key], rated[key] = mask, True
    return Reading(drawn, rated)


def present(raters: Sequence[str], drew: Collection[str], ledger: Ledger) -> tuple[str, ...]:
    """Of the raters that a published set names, those of whom there are masks; the others are noted."""
    absent = [rater for rater in raters if rater not in drew]
    if absent and len(absent) < len(raters):
        ledger.note(f"there is no mask of {', '.join(absent)}")
    return tuple(rater for rater in raters if rater in drew)


def fitting(array: np.ndarray, path: Path | str, image: np.ndarray, image_path: Path | str) -> np.ndarray:
    """The mask, if it has the size of its image."""
    if array.shape != image.shape[1:]:
        raise InputError(
            f"mask '{path}' has the size {size(array.shape)}, its image '{image_path}' "
            f"{size(image.shape[1:])}; expected the same"
        )
    return array


def aligned(drawn: FromFile, image: ImageFile, *, resample: str = "no") -> np.ndarray:
    """The mask, if it has the size of its image and lies where it lies.

    Args:
        resample: "yes" brings one that lies elsewhere onto the grid of its image.
    """
    return grid.aligned(drawn, image, resample=resample == "yes").array


def structures_of(
    path: Path,
    labels: str | Mapping[str, tuple[int, ...]],
    image: ImageFile,
    *,
    resample: str = "no",
) -> dict[str, np.ndarray]:
    """What a file draws on an image: the one structure that is named, or those of a label map.

    Args:
        labels: The structure of a mask; or the values of each structure of a label map.
        resample: As for `aligned`.
    """
    if isinstance(labels, str):
        return {labels: aligned(read_mask(path), image, resample=resample)}
    return split_labels(aligned(read_labels(path), image, resample=resample), labels, path)


def together(parts: Sequence[ImageFile], *, resample: str = "no") -> ImageFile:
    """One image whose channels each have a file of their own, if all lie on the grid of the first.

    Args:
        resample: "yes" brings those that lie elsewhere onto that grid, linearly.
    """
    first, *others = parts
    if not others:
        return first
    what = "channel '{}'"
    laid = [first, *(grid.aligned(part, first, what, resample=resample == "yes") for part in others)]
    own = [part.values for part in laid if part.values is not None]
    values = np.concatenate(own) if len(own) == len(laid) else None
    return replace(first, array=np.concatenate([part.array for part in laid]), values=values)


def said_yes(text: str, option: str) -> bool:
    """Whether an option that is yes or no was said yes to."""
    word = text.strip().lower()
    if word in ("yes", "true", "on", "1"):
        return True
    if word in ("no", "false", "off", "0", ""):
        return False
    raise InputError(f"option '{option}' is '{text}'; expected yes or no")


def parse_window(text: str) -> Window | None:
    """Read "low:high"; nothing for an empty text."""
    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise InputError(f"window '{text}' is not understood; expected LOW:HIGH, such as -160:240") from None
    return check_window((low, high), "window")


def parse_labels(text: str) -> dict[str, tuple[int, ...]]:
    """Read "disc:1+2,cup:2": the values that make up each structure."""
    labels = {}
    try:
        for part in text.split(","):
            structure, values = part.rsplit(":", 1)
            if not structure.strip() or structure.strip() in labels:
                raise ValueError
            labels[structure.strip()] = tuple(int(v) for v in values.split("+"))
    except ValueError:
        raise InputError(
            f"labels '{text}' are not understood; expected such as disc:1+2,cup:2, each structure once"
        ) from None
    return labels


def split_labels(
    array: np.ndarray, labels: Mapping[str, tuple[int, ...]], path: Path | str
) -> dict[str, np.ndarray]:
    """The structures of a label map, which may hold no other value than theirs and 0."""
    known = {0}.union(*labels.values())
    unknown = sorted({int(v) for v in np.unique(array)} - known)
    if unknown:
        raise InputError(
            f"label map '{path}' holds the values {', '.join(map(str, unknown[:6]))}; "
            f"expected {', '.join(map(str, sorted(known)))}"
        )
    return {structure: np.isin(array, values) for structure, values in labels.items()}
