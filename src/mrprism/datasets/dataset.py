"""A data set: a sequence of samples, read from files when asked for or kept in memory."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np

from mrprism.core import given
from mrprism.core.brief import counted
from mrprism.core.errors import InputError, OutOfRange, UnknownName, nearest, unknown
from mrprism.core.sample import MultiRaterSample, Reading, Samples, Task
from mrprism.core.types import Image, Votes
from mrprism.datasets.case_files import (
    further_readings,
    read_case_image,
    read_drawn,
    read_grid,
    read_votes,
    reading_of,
    spacing_of,
)
from mrprism.datasets.decisions import with_decisions
from mrprism.datasets.manifest import Case, Drawn, Manifest, load, manifest_path
from mrprism.images import Geometry, ImageFile, Window
from mrprism.output.commands import command
from mrprism.output.terminal import warn

OWN_REFERENCE, DECISIONS = "dataset", "decisions"
REFERENCES = (OWN_REFERENCE, DECISIONS)


@dataclass(frozen=True, repr=False)
class FileSample(MultiRaterSample):
    """A sample with what only files know."""

    votes: Votes | None = None  # how many of `voters` marked the pixel, where single raters are lost
    voters: int | None = None
    geometry: Geometry | None = None
    # what the file of the image holds, where its intensities are not simply that, and the window laid over it
    values: np.ndarray | None = None  # (channel, *space)
    window: Window | None = None
    notes: tuple[str, ...] = ()  # what was done with the image that is not plain to see


class Dataset(Samples):
    """Samples of one task, by position or by name.

    Samples of a data set on disk are read each time they are asked for. Shapes and positions of
    image and masks are compared there, and nowhere else.
    """

    def __init__(self, name: str, task: Task, cases: Sequence[MultiRaterSample] | Sequence[_Entry]) -> None:
        self.name = name
        self.task = task
        self.root: Path | None = next((c.root for c in cases if isinstance(c, _Entry)), None)
        self._cases = {_name(case): case for case in cases}
        self._names = tuple(self._cases)
        if len(self._cases) < len(cases):
            raise InputError(f"data set '{name}' holds two cases with the same name; expected each name once")

    @classmethod
    def from_samples(cls, name: str, task: Task, samples: Iterable[MultiRaterSample]) -> Dataset:
        """A data set in memory.

        Raises:
            InputError: There are no samples, names repeat, or a sample does not fit the task.
        """
        kept = list(samples)
        if not kept:
            raise InputError(f"data set '{name}' is empty")
        for sample in kept:
            check_sample(sample, task)
        return cls(name, task, kept)

    @property
    def path(self) -> Path | None:
        """From where another process opens the same cases.

        None in memory, where masks are brought onto a grid, or where the references are decisions: then see `place`.
        """
        entry = next((c for c in self._cases.values() if isinstance(c, _Entry)), None)
        return None if entry is None or entry.decided else self.place

    @property
    def place(self) -> Path | None:
        """Its folder, or its manifest where that is not the folder's own; None in memory, or with masks resampled."""
        entry = next((c for c in self._cases.values() if isinstance(c, _Entry)), None)
        if entry is None or entry.resample:
            return None
        return entry.root if manifest_path(entry.root) == entry.file else entry.file

    @property
    def decided(self) -> bool:
        """Whether its references are what was decided in the viewer."""
        return any(isinstance(c, _Entry) and c.decided for c in self._cases.values())

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @property
    def groups(self) -> dict[str, str]:
        """The patient of each case; a case without one stands for itself."""
        return {name: _fact(case).group or name for name, case in self._cases.items()}

    @property
    def splits(self) -> dict[str, str | None]:
        """ "train", "val" or "test" where the data set fixes it."""
        return {name: _fact(case).split for name, case in self._cases.items()}

    @property
    def diagnoses(self) -> dict[str, int | None]:
        return {name: _fact(case).diagnosis for name, case in self._cases.items()}

    @property
    def referenced(self) -> dict[str, bool]:
        """Whether each case has a reference; no image is read for it."""
        return {name: _fact(case).reference is not None for name, case in self._cases.items()}

    @property
    def pictured(self) -> dict[str, bool]:
        """Whether each case has an image; none is read for it."""
        return {name: _fact(case).image is not None for name, case in self._cases.items()}

    @property
    def read_again(self) -> dict[str, bool]:
        """Whether a rater read each case a second time; no mask is read for it."""
        return {name: bool(_fact(case).readings) for name, case in self._cases.items()}

    @property
    def manifest(self) -> Manifest | None:
        """The manifest it was opened from; None in memory."""
        return next((c.manifest for c in self._cases.values() if isinstance(c, _Entry)), None)

    def image(self, name: str) -> Image | None:
        """The image of a case, without its masks; None where it has none.

        Raises:
            InputError: It cannot be read.
        """
        case = self._case(name)
        if isinstance(case, MultiRaterSample):
            return case.image
        if case.case.image is None:
            return None
        return read_case_image(case.root, case.manifest, case.case, resample=case.resample)[0]

    def on_disk(self, name: str) -> tuple[Path, Manifest, Case] | None:
        """The folder of a case, and what the manifest says; None in memory, or where masks are to be resampled."""
        entry = self._case(name)
        if isinstance(entry, MultiRaterSample) or entry.resample:
            return None
        return entry.root, entry.manifest, entry.case

    def mask_files(self, name: str) -> tuple[Path | None, dict[tuple[int, int], Path]] | None:
        """The file of a case's image, if it has one, and that of each mask by rater and structure.

        None where not every mask is a file of its own: label maps, cases in memory, masks to be resampled.
        """
        entry = self._case(name)
        if isinstance(entry, MultiRaterSample) or entry.resample:
            return None
        raters, structures = self.task.raters, self.task.structures
        files: dict[tuple[int, int], Path] = {}
        for rater, drawn in entry.case.masks.items():
            if isinstance(drawn, str):
                return None
            for structure, path in drawn.items():
                files[raters.index(rater), structures.index(structure)] = entry.root / path
        images = entry.case.images
        return (entry.root / images[0] if images else None), files

    def subset(self, names: Iterable[str]) -> Dataset:
        """The cases of these names, in this order."""
        names = given.several(names, "names of cases")
        return Dataset(self.name, self.task, [self._case(name) for name in names])  # type: ignore[arg-type]

    def divided(self, sides: Mapping[str, str]) -> Dataset:
        """The same cases, fixed to a split each: case to "train", "val" or "test"."""
        cases = [_on_side(case, sides[name]) for name, case in self._cases.items()]
        return Dataset(self.name, self.task, cases)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> MultiRaterSample: ...
    @overload
    def __getitem__(self, key: slice) -> Dataset: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> MultiRaterSample | Dataset:
        if isinstance(key, slice):
            try:
                return self.subset(self.names[key])
            except (TypeError, ValueError):
                raise InputError(
                    f"cases of data set '{self.name}' are cut out by whole numbers, as in data[0:10:2], and a step "
                    "that is not 0"
                ) from None
        case = self._case(key if isinstance(key, str) else self.names[self._place(key)])
        return _read(case) if isinstance(case, _Entry) else case

    def _place(self, key: SupportsIndex) -> int:
        try:
            place = operator.index(key)
        except TypeError:
            raise InputError(
                f"a case of data set '{self.name}' is asked for by its place or its name, not by {key!r}"
            ) from None
        if not -len(self) <= place < len(self):
            raise OutOfRange(
                f"data set '{self.name}' has {counted(len(self), 'case')}; there is no case {place}"
            )
        return place

    def _case(self, name: str) -> MultiRaterSample | _Entry:
        if name not in self._cases:
            some = ", ".join(self.names[:5]) + (", ..." if len(self) > 5 else "")
            raise UnknownName(
                f"data set '{self.name}' has no case '{name}'; it has {some}{nearest(name, self.names)}"
            )
        return self._cases[name]

    def __repr__(self) -> str:
        who = f"{counted(len(self.task.raters), 'rater')}, structures {', '.join(self.task.structures)}"
        return f"Dataset('{self.name}', {counted(len(self), 'case')}, {who})"


def open_dataset(
    path: str | Path, *, resample: bool = False, keep_values: bool = False, reference: str = OWN_REFERENCE
) -> Dataset:
    """Open a data set given by its folder or its `dataset.json`; images are read when asked for.

    Args:
        resample: Bring masks (nearest) and further channels (linear) that lie on another grid onto the
            grid of their image, instead of refusing them.
        keep_values: Samples keep the values of their image files, too, so that they can be written anew.
        reference: "dataset": the references its `dataset.json` names; "decisions": what people settled in
            `mrprism view --adjudicate`, of the cases of which every structure is agreed or final.

    Raises:
        InputError: The manifest is wrong, or names files that are missing or outside its folder; or decisions are asked
            for and nothing is settled.
    """
    if reference not in REFERENCES:
        raise unknown("reference", reference, REFERENCES)
    file = manifest_path(path)
    manifest, faults = load(file)
    if faults or manifest is None:
        more = f" (and {len(faults) - 1} more: see {command('check', path)})" if len(faults) > 1 else ""
        raise InputError(faults[0].sentence + more)
    decided = reference == DECISIONS
    if decided:
        manifest = _decided(file.parent, manifest)
    entries = [_Entry(file, manifest, case, resample, keep_values, decided) for case in manifest.cases]
    return Dataset(manifest.name, task_of(manifest), entries)


def _decided(root: Path, manifest: Manifest) -> Manifest:

    found = with_decisions(root, manifest)
    for count, why in (
        (found.conflicts, "people decided differently"),
        (found.partly, "not every structure is settled yet"),
    ):
        if count:
            warn(f"{counted(count, 'case')} of '{manifest.name}' without a reference: {why}")
    return found.manifest


def need_images(dataset: Dataset, what: str) -> None:
    """Refuse a data set of which a case has masks only.

    Args:
        what: What cannot do without, to begin a sentence with "needs".
    """
    absent = [name for name, there in dataset.pictured.items() if not there]
    if absent:
        others = f", as have {len(absent) - 1} others" if len(absent) > 1 else ""
        raise InputError(
            f"{what} needs images, but case '{absent[0]}' of data set '{dataset.name}' has masks only{others}; "
            "check, agree, fuse, export and view can use them"
        )


def task_of(manifest: Manifest) -> Task:
    """What a manifest says is being outlined, and by whom."""
    return Task(
        channels=len(manifest.channels),
        structures=tuple(manifest.structures),
        raters=manifest.rater_names,
        anonymous=manifest.anonymous,
    )


def check_sample(sample: MultiRaterSample, task: Task) -> None:
    """Refuse a sample whose arrays do not fit the task or one another."""
    image, reference = sample.image, sample.reference
    space = sample.space if image is None else image.shape[1:]
    raters, structures = len(task.raters), len(task.structures)
    for what, found, expected in (
        ("image", None if image is None else image.shape, (task.channels, *space)),
        ("masks", sample.masks.shape, (raters, structures, *space)),
        ("rated", sample.rated.shape, (raters, structures)),
        ("reference", None if reference is None else reference.shape, (structures, *space)),
        *(
            ("a further reading", again.masks.shape, (raters, structures, *space))
            for again in sample.readings
        ),
        *(
            ("rated of a further reading", again.rated.shape, (raters, structures))
            for again in sample.readings
        ),
    ):
        if found is not None and found != expected:
            raise InputError(f"{what} of case '{sample.name}' has the shape {found}; expected {expected}")


@dataclass(frozen=True)
class _Entry:
    """A case of a data set on disk, not yet read."""

    file: Path  # the manifest
    manifest: Manifest
    case: Case
    resample: bool = False
    keep_values: bool = False
    decided: bool = False  # its reference is a decision

    @property
    def root(self) -> Path:
        return self.file.parent


def _name(case: MultiRaterSample | _Entry) -> str:
    return case.case.name if isinstance(case, _Entry) else case.name


def _on_side(case: MultiRaterSample | _Entry, side: str) -> MultiRaterSample | _Entry:
    if isinstance(case, _Entry):
        return replace(case, case=case.case.model_copy(update={"split": side}))
    return replace(case, split=side)


def _fact(case: MultiRaterSample | _Entry) -> MultiRaterSample | Case:
    return case.case if isinstance(case, _Entry) else case


def _read(entry: _Entry) -> FileSample:
    case, manifest, root = entry.case, entry.manifest, entry.root
    resample = entry.resample
    image: Image | None = None
    if case.image is None:
        first = read_grid(root, case)
    else:
        keep = entry.keep_values
        image, first = read_case_image(root, manifest, case, resample=resample, keep_values=keep)
    space = first.array.shape[1:]
    structures = manifest.structures
    readings = [
        _reading(entry, masks, first)
        for masks in (case.masks, *(reading_of(case, number) for number in further_readings(case)))
    ]
    reference = None
    if case.reference is not None:
        reference = np.zeros((len(structures), *space), dtype=bool)
        done = []
        for c, mask in read_drawn(root, manifest, case, case.reference, first, resample=resample):
            reference[c] = mask
            done.append(c)
        if len(done) < len(structures):
            absent = next(s for c, s in enumerate(structures) if c not in done)
            raise InputError(
                f"reference of case '{case.name}' lacks the structure '{absent}'; "
                "expected every structure or no reference"
            )
    votes = None
    if case.votes is not None:
        votes = read_votes(root, manifest, case, first, resample=resample)
    spacing = spacing_of(case, first)
    if spacing is not None and len(spacing) != len(space):
        raise InputError(
            f"case '{case.name}' has {len(spacing)} numbers in spacing_mm; expected {len(space)}, one an axis"
        )
    return FileSample(
        name=case.name,
        image=image,
        masks=readings[0].masks,
        rated=readings[0].rated,
        reference=reference,
        group=case.group,
        split=case.split,
        diagnosis=case.diagnosis,
        spacing_mm=spacing,
        readings=tuple(readings[1:]),
        votes=votes,
        voters=case.voters,
        geometry=first.geometry,
        values=first.values,
        window=None if first.values is None else first.window,
        notes=() if case.image is None else first.notes,
    )


def _reading(entry: _Entry, given: Mapping[str, Drawn], like: ImageFile) -> Reading:
    """The masks of one reading of a case."""
    manifest, raters = entry.manifest, entry.manifest.rater_names
    shape = len(raters), len(manifest.structures)
    masks, rated = np.zeros((*shape, *like.array.shape[1:]), dtype=bool), np.zeros(shape, dtype=bool)
    for rater, drawn in given.items():
        r = raters.index(rater)
        for c, mask in read_drawn(entry.root, manifest, entry.case, drawn, like, resample=entry.resample):
            masks[r, c], rated[r, c] = mask, True
    return Reading(masks, rated)
