"""Write samples as a data set: images, masks and `dataset.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.names import safe_name
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.core.workers import ALONE, Workers, in_order
from mrprism.datasets.dataset import Dataset, FileSample, check_sample
from mrprism.datasets.later import Facts, Later, Told, Unfit
from mrprism.datasets.manifest import FORMAT, MANIFEST, Case, Drawn, Manifest
from mrprism.images import Window, write_image, write_mask, write_values
from mrprism.output.files import write_file
from mrprism.output.folders import complete_folder

_ENDINGS = {"png": ".png", "tiff": ".tif", "nifti": ".nii.gz"}


@contextmanager
def storable() -> Iterator[None]:
    """Say in one sentence what a data set cannot hold: names that are no text, most of all, from damaged files.

    Raises:
        InputError: In the place of a ValidationError.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = next((str(part) for part in reversed(first["loc"]) if not str(part).startswith("[")), "")
        if first["type"] == "string_unicode":
            raise InputError(
                f"a name or a path is no text that could be written: {first['input']!r}; rename it"
            ) from None
        raise InputError(
            f"{where} cannot be written in a data set: {first['msg']}, found {first['input']!r}"
        ) from None


@storable()
def write_dataset(
    samples: Iterable[MultiRaterSample] | Later,
    out: str | Path,
    *,
    name: str,
    task: Task,
    channels: tuple[str, ...] | None = None,
    image_format: Literal["png", "tiff", "nifti"] = "png",
    description: str | Callable[[], str | None] | None = None,
    beside: Callable[[], Mapping[str, bytes]] | None = None,
    workers: Workers = ALONE,
    each: Callable[[Facts], None] = lambda facts: None,
    end: Callable[[], None] = lambda: None,
) -> Path:
    """Write samples one at a time as a data set, and return its folder.

    The folder appears under its name only when complete; what a killed run left is removed by the
    next one. Volumes are always NIfTI. PNG rounds colour images to 8 bits; images with neither one
    nor three channels become one PNG a channel. An image that was read with a window, or whose values mean
    something of their own (CT, MR), is written with these values, and the window stands in `dataset.json`.

    Args:
        out: A folder that does not exist or is empty.
        channels: Their names; by default grey, red-green-blue, or channel 1, 2, ...
        description: A function is asked for it when all samples are written.
        beside: What else lies in the folder, by name; asked for when all samples are written.
        workers: Who writes the samples, and reads them if they are `Later`; what comes of it is the same.
        each: Called with what is said of every sample that is written, in their order.
        end: Called when all are written, before `description` and `beside`; it may refuse them all.

    Raises:
        InputError: The folder holds something, there are no samples, a sample does not fit the
            task, or the disk is full.
    """
    given.one_of(task, Task, "the task: its channels, structures and raters")
    if isinstance(samples, str) or not isinstance(samples, Iterable | Dataset | Later):
        raise InputError(f"expected cases, one after the other; found {given.said(samples)}")
    out = given.path(out, "a folder to write to")
    with complete_folder(out, "data set ") as unfinished:
        cases = _write_cases(samples, unfinished, task, image_format, workers, each)
        end()
        if not cases:
            raise InputError(f"data set '{name}' is empty: nothing to write to '{out}'")
        manifest = Manifest(
            format=FORMAT,
            name=name,
            channels=list(channels or channel_names(task.channels)),
            structures=list(task.structures),
            raters=list(task.raters),
            anonymous=task.anonymous,
            description=description() if callable(description) else description,
            cases=cases,
        )
        write_manifest(_one_window(manifest), unfinished)
        for other, content in (beside() if beside else {}).items():
            write_file(unfinished / other, content, durable=False)
    return out


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `dataset.json`."""
    write_file(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """A manifest as its file holds it: what is not set is left out."""
    document = manifest.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
    for case in document["cases"]:
        if not case["readings"]:
            del case["readings"]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _write_cases(
    samples: Iterable[MultiRaterSample] | Later,
    folder: Path,
    task: Task,
    image_format: str,
    workers: Workers,
    each: Callable[[Facts], None],
) -> list[Case]:
    folders: set[str] = set()
    raters = [safe_name(rater, folders) for rater in task.raters]
    parts: set[str] = set()
    structures = [safe_name(structure, parts) for structure in task.structures]
    read = samples.read if isinstance(samples, Later) else None
    write = _Writing(read, folder, task, image_format, raters, structures)
    items = _stems(enumerate(samples.names) if isinstance(samples, Later) else _named(samples))
    cases: list[Case] = []
    faults: list[Told] = []
    with closing(in_order(write, items, workers, named=lambda item: item[2])) as written:
        for case in written:
            if isinstance(case, Unfit):
                faults += case.faults
            elif not faults:
                cases.append(case[0])
                each(case[1])
    if faults and isinstance(samples, Later):
        raise samples.together(faults)
    for left in folder.rglob(".*.tmp") if not workers.alone else ():  # of a worker that was killed
        left.unlink()
    return cases


_Item = tuple[
    Any, str, str
]  # the sample or its number, the beginning of the names of its files, its own name


def _named(samples: Iterable[MultiRaterSample]) -> Iterator[tuple[Any, str]]:
    return ((sample, sample.name) for sample in samples)


def _stems(samples: Iterable[tuple[Any, str]]) -> Iterator[_Item]:
    """Give each sample a name for files.

    Raises:
        InputError: Two samples have one name.
    """
    taken: set[str] = set()
    names: set[str] = set()
    for sample, name in samples:
        if name in names:
            raise InputError(f"two samples are named '{name}'; expected each name once")
        names.add(name)
        yield sample, safe_name(name, taken), name


@dataclass(frozen=True)
class _Writing:
    """What all cases have in common; called with one, it is written."""

    read: Callable[[int], MultiRaterSample] | None  # None: samples come as they are
    folder: Path
    task: Task
    image_format: str
    raters: list[str]
    structures: list[str]

    def __call__(self, item: _Item) -> tuple[Case, Facts] | Unfit:
        sample, stem, _ = item
        if self.read is not None:
            try:
                sample = self.read(sample)
            except Unfit as unfit:
                return unfit
        check_sample(sample, self.task)
        written = _write_case(
            sample, self.folder, self.task, self.image_format, stem, self.raters, self.structures
        )
        return written, Facts.of(sample)


def _write_case(
    sample: MultiRaterSample,
    folder: Path,
    task: Task,
    image_format: str,
    stem: str,
    raters: list[str],
    structures: list[str],
) -> Case:
    volume = len(sample.space) == 3
    kind = "nifti" if volume else image_format
    ending = _ENDINGS[kind]
    lent = {
        "like": sample.geometry if isinstance(sample, FileSample) else None,
        "spacing_mm": sample.spacing_mm,
        "durable": False,  # all files are flushed together, before the folder gets its name
    }
    image, window = _write_image(sample, folder, kind, stem, lent)

    def write(mask: np.ndarray, path: str) -> str:
        write_mask(folder / path, mask, **lent)  # type: ignore[arg-type]
        return path

    def reading(masks: np.ndarray, rated: np.ndarray, where: str) -> dict[str, Drawn]:
        found: dict[str, Drawn] = {}
        for r, rater in enumerate(task.raters):
            drawn = {
                structure: write(masks[r, c], f"{where}/{raters[r]}/{stem}_{structures[c]}{ending}")
                for c, structure in enumerate(task.structures)
                if rated[r, c]
            }
            if drawn:
                found[rater] = drawn
        return found

    masks = reading(sample.masks, sample.rated, "masks")
    readings: dict[str, list[Drawn]] = {}
    for number, again in enumerate(sample.readings, start=2):
        for rater, drawn in reading(again.masks, again.rated, f"readings/{number}").items():
            readings.setdefault(rater, []).append(drawn)
    reference = None
    if sample.reference is not None:
        reference = {
            structure: write(sample.reference[c], f"reference/{stem}_{structures[c]}{ending}")
            for c, structure in enumerate(task.structures)
        }
    votes = voters = None
    if isinstance(sample, FileSample) and sample.votes is not None:
        voters = sample.voters
        votes = {
            structure: write(sample.votes[c], f"votes/{stem}_{structures[c]}{ending}")
            for c, structure in enumerate(task.structures)
        }
    return Case(
        name=sample.name,
        image=image,
        masks=masks,
        readings=readings,
        reference=reference,
        votes=votes,
        voters=voters,
        group=sample.group,
        split=sample.split,  # type: ignore[arg-type]
        diagnosis=sample.diagnosis,  # type: ignore[arg-type]
        spacing_mm=None if sample.spacing_mm is None else [float(s) for s in sample.spacing_mm],
        window=window,
    )


def _write_image(
    sample: MultiRaterSample, folder: Path, kind: str, stem: str, lent: dict[str, Any]
) -> tuple[str | list[str] | None, Window | None]:
    """Write the image of a case; its path, and the window to be laid over what the file holds.

    Where the sample knows what its own file held, such as Hounsfield units, that is written and not what a window
    has left of it.
    """
    if sample.image is None:
        return None, None
    path = f"images/{stem}{_ENDINGS[kind]}"
    values = sample.values if isinstance(sample, FileSample) else None
    if values is not None and values.shape == sample.image.shape and isinstance(sample, FileSample):
        kind = _holds(values, sample.window, kind)
        path = f"images/{stem}{_ENDINGS[kind]}"
        write_values(folder / path, values, **lent)
        return path, sample.window
    if kind == "png" and len(sample.image) not in (1, 3):
        paths = [f"images/{stem}_{i:02d}.png" for i in range(len(sample.image))]
        for channel, name in zip(sample.image, paths, strict=True):
            write_image(folder / name, channel[None], durable=False)
        return paths, None
    write_image(folder / path, sample.image, **lent)
    return path, None if kind == "png" else (0.0, 1.0)


def _holds(values: np.ndarray, window: Window | None, kind: str) -> str:
    """The format that keeps values as they are and gives them back by the same rule; the one asked for if it does."""
    shares = values.dtype in (
        np.dtype(np.uint8),
        np.dtype(np.uint16),
    )  # divided by the largest in PNG and TIFF
    if shares and window is None:
        return "nifti"
    if kind == "png":
        fits = values.ndim == 3 and (len(values) == 1 or (len(values) == 3 and values.dtype == np.uint8))
        return "png" if shares and fits else "nifti"
    return kind


def _one_window(manifest: Manifest) -> Manifest:
    """A window that all cases have is the data set's."""
    windows = {case.window for case in manifest.cases if case.image is not None}
    if len(windows) != 1 or windows == {None}:
        return manifest
    cases = [case.model_copy(update={"window": None}) for case in manifest.cases]
    return manifest.model_copy(update={"window": windows.pop(), "cases": cases})


def channel_names(count: int) -> tuple[str, ...]:
    """Names for channels that nobody named; none for cases without an image."""
    if count == 1:
        return ("grey",)
    return ("red", "green", "blue") if count == 3 else tuple(f"channel {i + 1}" for i in range(count))
