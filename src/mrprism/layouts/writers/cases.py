"""What every layout's writer gets: the cases one at a time, and names that are safe for files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Samples, Task
from mrprism.images import Geometry, format_of, read_image, write_image, write_mask

Probability = Float[np.ndarray, "C *space"]


@dataclass(frozen=True)
class Cases:
    """The cases to be exported."""

    name: str
    task: Task  # its raters are those exported: all, or one fusion
    samples: Samples
    names: tuple[str, ...]
    files: Mapping[str, str]  # case: file name without ending
    rater_files: Mapping[str, str]
    structure_files: Mapping[str, str]
    channels: tuple[str, ...] | None
    originals: Mapping[str, Sequence[Path]]  # case: the files its image came from
    splits: Mapping[str, str | None]
    fused: bool  # the one rater is a consensus
    soft: Callable[[str], Probability] | None = None  # by case; given where it shall be written, too

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[MultiRaterSample]:
        for number in range(len(self.samples)):
            yield self.samples[number]

    def image(self, sample: MultiRaterSample, path: Path) -> None:
        """Write a case's image; where its file has this very format, that file is copied as it is.

        One that viewers turn or lay on a ground is written as they show it, for that is what the masks lie on.

        A case of masks only has none, and nothing is written.
        """
        if sample.image is None:
            return
        found = self.originals.get(sample.name, ())
        if len(found) == 1 and _ending(found[0]) == _ending(path) and _as_shown(found[0]):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found[0], path)
        else:
            write_image(
                path, sample.image, like=geometry(sample), spacing_mm=sample.spacing_mm, durable=False
            )


def _as_shown(path: Path) -> bool:
    """Whether the pixels of a picture stand in its file as they are shown."""
    return format_of(path) not in ("png", "jpeg", "tiff", "webp") or not read_image(path).notes


def geometry(sample: MultiRaterSample) -> Geometry | None:
    """Where a case lies in the patient, if its file says so."""
    return getattr(sample, "geometry", None)


def mask_file(path: Path, mask: np.ndarray, sample: MultiRaterSample) -> None:
    """Write a mask, or a label map, on the grid of its case."""
    write_mask(path, mask, like=geometry(sample), spacing_mm=sample.spacing_mm, durable=False)


def volume(sample: MultiRaterSample) -> bool:
    return len(sample.space) == 3


def flat(sample: MultiRaterSample, target: str) -> MultiRaterSample:
    """The case, if it is no volume."""
    if volume(sample):
        raise InputError(f"case '{sample.name}' is a volume, which {target} cannot hold; expected an image")
    return sample


def whole(sample: MultiRaterSample, task: Task, rater: int, target: str) -> bool:
    """Whether this rater did the case.

    Raises:
        InputError: The rater did some of its structures only. A layout that keeps them in one file cannot
            tell a structure that was not done from one that is not there.
    """
    rated = sample.rated[rater]
    if rated.any() and not rated.all():
        absent = task.structures[int(np.flatnonzero(~rated)[0])]
        raise InputError(
            f"'{task.raters[rater]}' did not do '{absent}' of case '{sample.name}' but did others; in "
            f"{target} this would look empty; expected all structures or none (nifti and png can hold it)"
        )
    return bool(rated.all())


def _ending(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()
