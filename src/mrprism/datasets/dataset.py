"""A data set: a sequence of samples, read from files when asked for or kept in memory."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np

from mrprism.core.brief import counted
from mrprism.core.errors import InputError, OutOfRange, UnknownName, nearest
from mrprism.core.sample import MultiRaterSample, Reading, Samples, Task
from mrprism.core.types import Image, Votes
from mrprism.datasets.grid import aligned
from mrprism.datasets.manifest import Case, Drawn, File, Manifest, files, load, manifest_path
from mrprism.datasets.open_image import open_image
from mrprism.images import Geometry, ImageFile, read_labels, read_mask


@dataclass(frozen=True, repr=False)
class FileSample(MultiRaterSample):
    """A sample with what only files know."""

    votes: Votes | None = None  # how many of `voters` marked the pixel, where single raters are lost
    voters: int | None = None
    geometry: Geometry | None = None


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
        if len(self._cases) < len(cases):
            raise InputError(f"data set '{name}' holds two cases of one name; expected each name once")

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
        """From where another process opens the same cases; None in memory, or where masks are brought onto a grid."""
        entry = next((c for c in self._cases.values() if isinstance(c, _Entry)), None)
        if entry is None or entry.resample:
            return None
        return entry.root if manifest_path(entry.root) == entry.file else entry.file

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._cases)

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

    def subset(self, names: Iterable[str]) -> Dataset:
        """The cases of these names, in this order."""
        return Dataset(self.name, self.task, [self._case(name) for name in names])  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._cases)

    @overload
    def __getitem__(self, key: SupportsIndex | str) -> MultiRaterSample: ...
    @overload
    def __getitem__(self, key: slice) -> Dataset: ...
    def __getitem__(self, key: SupportsIndex | str | slice) -> MultiRaterSample | Dataset:
        if isinstance(key, slice):
            return self.subset(self.names[key])
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


def open_dataset(path: str | Path, *, resample: bool = False) -> Dataset:
    """Open a data set given by its folder or its `dataset.json`; images are read when asked for.

    Args:
        resample: Bring masks (nearest) and further channels (linear) that lie on another grid onto the
            grid of their image, instead of refusing them.

    Raises:
        InputError: The manifest is wrong, or names files that are missing or outside its folder.
    """
    file = manifest_path(path)
    manifest, faults = load(file)
    if faults or manifest is None:
        more = f" (and {len(faults) - 1} more: see mrprism check {path})" if len(faults) > 1 else ""
        raise InputError(faults[0].sentence + more)
    entries = [_Entry(file, manifest, case, resample) for case in manifest.cases]
    return Dataset(manifest.name, task_of(manifest), entries)


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

    @property
    def root(self) -> Path:
        return self.file.parent


def _name(case: MultiRaterSample | _Entry) -> str:
    return case.case.name if isinstance(case, _Entry) else case.name


def _fact(case: MultiRaterSample | _Entry) -> MultiRaterSample | Case:
    return case.case if isinstance(case, _Entry) else case


def _read(entry: _Entry) -> FileSample:
    case, manifest, root = entry.case, entry.manifest, entry.root
    resample = entry.resample
    image: Image | None = None
    if case.image is None:
        first = read_grid(root, case)
    else:
        image, first = read_case_image(root, manifest, case, resample=resample)
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
    spacing = tuple(case.spacing_mm) if case.spacing_mm is not None else first.spacing_mm
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


def further_readings(case: Case) -> range:
    """2, 3, ... as far as a rater read the case again."""
    return range(2, 2 + max(map(len, case.readings.values()), default=0))


def reading_of(case: Case, number: int) -> dict[str, Drawn]:
    """What each rater drew on the second reading (2), the third, ..."""
    return {r: again[number - 2] for r, again in case.readings.items() if len(again) > number - 2}


def read_grid(root: Path, case: Case, first: File | None = None) -> ImageFile:
    """Size and place of a case without an image: those of its first mask, or of the one that is named.

    Returns:
        A file of no channels.
    """
    first = next(files(case)) if first is None else first
    read = read_mask if first.role in ("mask", "reference") and first.structure else read_labels
    found = read(root / first.path)
    nothing = np.zeros((0, *found.array.shape), np.float32)
    return ImageFile(nothing, found.spacing_mm, found.geometry, found.format, found.path)


def read_case_image(
    root: Path, manifest: Manifest, case: Case, *, resample: bool = False
) -> tuple[Image, ImageFile]:
    """The image of a case, its channels as the manifest lists them, and the (first) file it came from.

    Raises:
        InputError: It cannot be read, does not fit, or there is none.
    """
    window = case.window or manifest.window
    paths = case.images
    if not paths:
        raise InputError(f"case '{case.name}' has masks only and no image; expected an image here")
    first = open_image(root / paths[0], window=window)
    what = f"image '{{}}' of case '{case.name}'"
    others = (open_image(root / path, window=window) for path in paths[1:])
    parts = [first, *(aligned(part, first, what, resample=resample) for part in others)]
    arrays = [part.array for part in parts]
    if len(arrays) > 1 or len(manifest.channels) == 1:
        arrays = [a[:1] if all(np.array_equal(a[0], other) for other in a[1:]) else a for a in arrays]
    image = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if len(image) != len(manifest.channels):
        raise InputError(
            f"image '{first.path}' of case '{case.name}' has {len(image)} channels; "
            f"expected {len(manifest.channels)}: {', '.join(manifest.channels)}"
        )
    return image, first


def read_drawn(
    root: Path,
    manifest: Manifest,
    case: Case,
    drawn: Drawn,
    like: ImageFile | None,
    *,
    resample: bool = False,
) -> list[tuple[int, np.ndarray]]:
    """The masks one rater (or the reference) drew of a case: position of the structure, and the mask.

    Args:
        like: Its image, with whose size and place they are compared; None: they are not.
        resample: Bring those that lie elsewhere onto the grid of the image.
    """
    if isinstance(drawn, str):
        return read_label_map(root / drawn, manifest, case.name, like, resample=resample)
    masks = []
    for structure, path in drawn.items():
        mask = read_mask(root / path)
        mask = aligned(mask, like, f"mask '{{}}' of case '{case.name}'", resample=resample)
        masks.append((manifest.structures.index(structure), mask.array))
    return masks


def read_label_map(
    path: Path, manifest: Manifest, case: str, like: ImageFile | None, *, resample: bool = False
) -> list[tuple[int, np.ndarray]]:
    """Every structure of a label map."""
    labels = manifest.labels or {}
    found = aligned(read_labels(path), like, f"label map '{{}}' of case '{case}'", resample=resample)
    known = {0}.union(*labels.values())
    unknown = sorted({int(v) for v in np.unique(found.array)} - known)
    if unknown:
        raise InputError(
            f"label map '{path}' of case '{case}' holds the values {', '.join(map(str, unknown[:6]))}; "
            f"expected {', '.join(map(str, sorted(known)))}"
        )
    return [(c, np.isin(found.array, labels[s])) for c, s in enumerate(manifest.structures)]


def read_votes(
    root: Path, manifest: Manifest, case: Case, like: ImageFile | None, *, resample: bool = False
) -> Votes:
    """How many of the voters marked each pixel, structure by structure."""
    assert case.votes is not None
    assert case.voters is not None
    absent = [structure for structure in manifest.structures if structure not in case.votes]
    if absent:
        raise InputError(f"votes of case '{case.name}' lack the structure '{absent[0]}'")
    votes = []
    for structure in manifest.structures:
        file = read_labels(root / case.votes[structure])
        file = aligned(file, like, f"votes '{{}}' of case '{case.name}'", resample=resample)
        if file.array.min(initial=0) < 0 or file.array.max(initial=0) > case.voters:
            raise InputError(
                f"votes '{file.path}' of case '{case.name}' reach {int(file.array.max())}; "
                f"expected 0 to {case.voters}"
            )
        votes.append(file.array)
    return np.stack(votes)
