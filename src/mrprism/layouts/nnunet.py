"""nnU-Net v2: `dataset.json`, `imagesTr/CASE_0000.ending`, and labels of several raters.

nnU-Net knows no raters. They are told apart by one of three rules:
- folders: `labelsTr_RATER/CASE.ending` for each rater (a plain `labelsTr` becomes the reference);
- a regular expression ``rater`` whose first bracket finds the rater in the case's name, as in
  `labelsTr/liver07_ann.nii.gz` with ``rater=_(ann|bob)$``; the image is then taken from whichever of
  the cases has it;
- data sets: a folder of `Dataset501_RATER/` for each rater, whose label values are the same. ``rater`` may find the
  rater in the name of the data set; a case's image is taken from the first that has it, and the others' must be the same.
Label values and regions become structures; a region is every value it lists. Pixels with the `ignore`
label cannot be kept apart and are refused.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.manifest import Case
from mrprism.datasets.tree import matching, natural, needed
from mrprism.images import ImageFile, LabelFile, read_image, read_labels, read_values
from mrprism.images.reading import decode
from mrprism.layouts.fields import Ids, entry, name_of, of_kind, whole
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import read_json
from mrprism.layouts.source import InPlace, Source, aligned, assemble, parse_window, split_labels, together


def read(source: Path, ledger: Ledger, *, rater: str = "", window: str = "", resample: str = "no") -> Source:
    """Read one data set folder, or a folder that holds one for each rater.

    Args:
        rater: Regular expression that finds the rater in a case's name, or in the name of a data set of
            several; without it raters are folders.
        window: "low:high" in file values, for CT.
        resample: "yes" brings masks that lie on another grid onto that of their image.
    """
    sets = [] if (source / "dataset.json").exists() else matching(source, r"Dataset\d{3}_(.+)")
    about = _about(sets[0][1] if sets else source, ledger)
    references: dict[str, Path] = {}
    for folder in [folder for _, folder in sets] or [source]:
        for name in _NO_LABELS:
            ledger.know(folder / name, "nnU-Net's own, without labels of raters")
    if sets:
        drawn, images = _by_set([(match[1], folder) for match, folder in sets], about, rater, ledger)
    else:
        by_name = _by_name(source, about.ending, rater) if rater else _by_folder(source, about.ending)
        drawn, references = by_name
        images = _images(needed(source, "imagesTr"), about, rater, ledger)
    _known(drawn, references, images)
    ledger.take_all([path for files in (*drawn.values(), references) for path in files.values()])
    for match, folder in [] if sets or rater else matching(source, r"labelsTr_(.+)"):
        if not any(match[1] in files for files in drawn.values()):
            raise InputError(f"'{folder}' holds no label map that ends in '{about.ending}'")
    raters = sorted({who for found in drawn.values() for who in found}, key=natural)
    if not raters:
        raise InputError(
            f"'{source}' has no folders 'labelsTr_RATER'; expected them, or -o rater= and a pattern"
        )
    first = read_image(next(iter(images.values()))[0])
    files = next(iter(images.values()))
    count = sum(len(read_image(path).array) for path in files)
    if count != len(about.channels):
        raise InputError(
            f"'{files[0]}' and its like have {count} channels, 'dataset.json' names {len(about.channels)}: "
            f"{', '.join(about.channels)}; expected as many"
        )
    task = Task(count, tuple(about.labels), tuple(raters))
    reading = _Reading(task, about.labels, about.ignored, parse_window(window), resample, ledger)
    samples = reading.samples(images, drawn, references)
    kind = "nifti" if first.format == "nifti" else "png"
    named = about.channels if len(about.channels) == count else None
    here = InPlace(_cases(images, drawn, references), about.labels, parse_window(window))
    name = source.resolve().name if sets else about.name or source.resolve().name
    return Source(name, task, samples, named, kind, here=here, count=len(images))


def _known(drawn: Files, references: dict[str, Path], images: dict[str, list[Path]]) -> None:
    """Every label map has an image."""
    strange = sorted({*drawn, *references} - set(images), key=natural)
    if strange:
        some = ", ".join(f"'{case}'" for case in strange[:6]) + (", ..." if len(strange) > 6 else "")
        path = next(iter(drawn.get(strange[0], {}).values()), references.get(strange[0]))
        plural = f"{len(strange)} cases have" if len(strange) > 1 else f"case {some} has"
        more = f": {some}" if len(strange) > 1 else ""
        raise InputError(f"{plural} labels but no image in imagesTr{more}; '{path}' is one of them")


@dataclass(frozen=True)
class _About:
    """What a `dataset.json` says."""

    labels: dict[str, tuple[int, ...]]
    ignored: int | None
    channels: tuple[str, ...]
    ending: str
    name: str


def _about(folder: Path, ledger: Ledger) -> _About:
    file = ledger.take(folder / "dataset.json")
    document = of_kind(read_json(file), dict, f"'{file}'")
    labels = entry(document, "labels", dict, f"'{file}'")
    if "modality" in document or all(name.isdigit() for name in labels):
        raise InputError(
            f"'{file}' is of nnU-Net v1 or the Decathlon (labels by number, 'modality'); expected one of v2, such as "
            '"labels": {"background": 0, "liver": 1} and "channel_names"; nnU-Net v2 converts such data sets'
        )
    if "dataset" in document:
        raise InputError(f"'{file}' lists its files itself, which is not read")
    channels = entry(document, "channel_names", dict, f"'{file}'")
    if sorted(channels) != sorted(map(str, range(len(channels)))):
        raise InputError(f"'{file}' has the channels {', '.join(channels)}; expected 0, 1, ... each once")
    names = tuple(name_of(channels[str(k)], f"channel {k} in '{file}'") for k in range(len(channels)))
    values, ignored = _labels(labels, folder)
    ending = entry(document, "file_ending", str, f"'{file}'")
    return _About(values, ignored, names, ending, str(document.get("name") or ""))


def _cases(images: dict[str, list[Path]], drawn: Files, references: dict[str, Path]) -> list[Case]:
    """The cases as they lie."""
    return [
        Case(
            name=case,
            image=str(paths[0]) if len(paths) == 1 else [str(path) for path in paths],
            masks={rater: str(path) for rater, path in drawn.get(case, {}).items()},
            reference=str(references[case]) if case in references else None,
        )
        for case, paths in images.items()
    ]


_STEP = 0.005  # how far rounding to 255 steps of up to 2 moves a label
_NO_LABELS = (
    "imagesTs", "labelsTs", "splits_final.json", "dataset_fingerprint.json", "plans.json", "nnUNetPlans.json",
)  # fmt: skip
Files = dict[str, dict[str, Path]]  # {case: {rater: label map}}


def _labels(listed: dict[str, Any], source: Path) -> tuple[dict[str, tuple[int, ...]], int | None]:
    where = f"'labels' of '{source / 'dataset.json'}'"
    labels = {
        name: tuple(whole({name: v}, name, where) for v in (value if isinstance(value, list) else [value]))
        for name, value in listed.items()
    }
    if labels.pop("background", None) != (0,):
        raise InputError(f"'{source / 'dataset.json'}' must name the label 0 'background'")
    ignored = labels.pop("ignore", None)
    meant: Ids[str] = Ids("label", source / "dataset.json")
    for name, group in labels.items():
        if not group:
            raise InputError(f"'{name}' of {where} lists no value; expected one at least")
        if len(group) == 1:
            meant.add(group[0], name)
    values = sorted({v for group in labels.values() for v in group} - {0})
    if values != list(range(1, len(values) + 1)):
        raise InputError(f"'{source / 'dataset.json'}' has the labels {values}; expected 1, 2, 3, ...")
    return labels, ignored[0] if ignored else None


def _by_folder(source: Path, ending: str) -> tuple[Files, dict[str, Path]]:
    drawn: Files = {}
    for match, folder in matching(source, r"labelsTr_(.+)"):
        for found, path in matching(folder, rf"(.+){re.escape(ending)}"):
            drawn.setdefault(found[1], {})[match[1]] = path
    plain = source / "labelsTr"
    listed = matching(plain, rf"(.+){re.escape(ending)}") if plain.is_dir() else []
    return drawn, {found[1]: path for found, path in listed}


def _by_set(
    sets: list[tuple[str, Path]], first: _About, pattern: str, ledger: Ledger
) -> tuple[Files, dict[str, list[Path]]]:
    """A data set for each rater; images of those that have a case agree, or the masks will not fit."""
    drawn: Files = {}
    images: dict[str, list[Path]] = {}
    names: dict[str, Path] = {}
    for plain, folder in sets:
        rater = _taken_apart(plain, pattern)[1] if pattern else plain
        if rater is None:
            raise InputError(f"the pattern '{pattern}' finds no rater in '{folder}'")
        if rater in names:
            raise InputError(
                f"'{names[rater]}' and '{folder}' are both of rater '{rater}'; expected one of them"
            )
        names[rater] = folder
        about = _about(folder, ledger)
        if (about.labels, about.ignored, about.ending) != (first.labels, first.ignored, first.ending):
            raise InputError(
                f"'{folder / 'dataset.json'}' has the labels {about.labels} in {about.ending}, "
                f"'{sets[0][1] / 'dataset.json'}' {first.labels} in {first.ending}; expected the same"
            )
        if about.channels != first.channels:
            raise InputError(
                f"'{folder / 'dataset.json'}' has the channels {', '.join(about.channels)}, "
                f"'{sets[0][1] / 'dataset.json'}' {', '.join(first.channels)}; expected the same"
            )
        for found, path in matching(needed(folder, "labelsTr"), rf"(.+){re.escape(about.ending)}"):
            drawn.setdefault(found[1], {})[rater] = path
        for case, paths in _images(needed(folder, "imagesTr"), about, "", ledger).items():
            for known, path in zip(images.setdefault(case, paths), paths, strict=True):
                _same_image(known, path)
    return drawn, images


def _same_image(one: Path, other: Path) -> None:
    """Refuse two images of one name that are not the same: their masks would count as of one patient."""
    if one == other or filecmp.cmp(one, other, shallow=False):
        return
    first, second = decode(one), decode(other)  # packed at another time, the same pixels are other bytes
    if not np.array_equal(first.pixels, second.pixels):
        raise InputError(
            f"'{one}' and '{other}' have one name and are not the same image; expected each case's image once, or "
            "alike in every data set that has it"
        )


def _by_name(source: Path, ending: str, pattern: str) -> tuple[Files, dict[str, Path]]:
    drawn: Files = {}
    for found, path in matching(needed(source, "labelsTr"), rf"(.+){re.escape(ending)}"):
        case, rater = _taken_apart(found[1], pattern)
        if rater is None:
            raise InputError(f"the pattern '{pattern}' finds no rater in '{path}'")
        files = drawn.setdefault(case, {})
        if rater in files:
            raise InputError(f"'{files[rater]}' and '{path}' are the same case and rater")
        files[rater] = path
    return drawn, {}


def _taken_apart(name: str, pattern: str) -> tuple[str, str | None]:
    try:
        found = re.search(pattern, name)
        if found is None:
            return name, None
        return name[: found.start()] + name[found.end() :], found[1]
    except (re.error, IndexError) as error:
        raise InputError(f"'{pattern}' is not a regular expression with one bracket: {error}") from error


def _images(folder: Path, about: _About, pattern: str, ledger: Ledger) -> dict[str, list[Path]]:
    """The channels of each case, all of one name; with a pattern the first of a case's names that is there."""
    by_name: dict[str, dict[int, Path]] = {}
    for found, path in matching(folder, rf"(.+)_(\d{{4}}){re.escape(about.ending)}"):
        channels = by_name.setdefault(found[1], {})
        ledger.take(path)
        channels[int(found[2])] = path
    if not by_name:
        raise InputError(f"folder '{folder}' has no file like 'case_0000{about.ending}'")
    for _, path in matching(folder, r".+\.json"):
        ledger.know(path, "spacing that nnU-Net keeps beside a picture")
    # a picture in colour may hold all channels in one file
    together_ = all(set(channels) == {0} for channels in by_name.values())
    wanted = {0} if together_ else set(range(len(about.channels)))
    faults = []
    for name, channels in by_name.items():
        lacking, beyond = sorted(wanted - set(channels)), sorted(set(channels) - wanted)
        if lacking:
            faults.append(f"'{name}' lacks channel {lacking[0]} ({name}_{lacking[0]:04d}{about.ending})")
        elif beyond:
            faults.append(
                f"'{channels[beyond[0]].name}' is of channel {beyond[0]}, which 'dataset.json' does not name"
            )
    if faults:
        more = f", and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise InputError(f"in '{folder}' {'; '.join(faults[:6])}{more}; expected every channel of every case")
    images: dict[str, list[Path]] = {}
    for name, channels in by_name.items():
        case = _taken_apart(name, pattern)[0] if pattern else name
        paths = [channels[i] for i in sorted(channels)]
        for known, path in zip(images.setdefault(case, paths), paths, strict=True):
            _same_image(known, path)
    return images


class _Reading:
    """Cases of one data set, read in turn."""

    def __init__(
        self,
        task: Task,
        labels: dict[str, tuple[int, ...]],
        ignored: int | None,
        window: tuple[float, float] | None,
        resample: str,
        ledger: Ledger,
    ) -> None:
        self.ledger = ledger
        self.task, self.labels, self.ignored, self.window = task, labels, ignored, window
        self.resample = resample

    def samples(
        self, images: dict[str, list[Path]], drawn: Files, references: dict[str, Path]
    ) -> Iterator[MultiRaterSample]:
        for case, paths in images.items():
            parts = [read_image(path, window=self.window) for path in paths]
            image = together(parts, resample=self.resample)
            masks = {
                (rater, structure): mask
                for rater, path in drawn.get(case, {}).items()
                for structure, mask in self._structures(path, parts[0]).items()
            }
            reference = self._structures(references[case], parts[0]) if case in references else None
            yield assemble(self.task, case, image.array, masks, reference, like=image)

    def _read(self, path: Path) -> LabelFile:
        """A label map; one that was saved as 8 bits with a slope is rounded, which is noted."""
        try:
            return read_labels(path)
        except InputError:
            values = read_values(path)
            whole_ = np.round(values.array)
            if values.format != "nifti" or np.abs(values.array - whole_).max(initial=0) > _STEP:
                raise
        self.ledger.note(f"'{path.name}' keeps its labels with a slope, and was rounded to whole numbers")
        labels = np.ascontiguousarray(whole_, dtype=np.int64)
        return LabelFile(labels, values.spacing_mm, values.geometry, values.format, path)

    def _structures(self, path: Path, image: ImageFile) -> dict[str, np.ndarray]:
        file = self._read(path)
        array = aligned(file, image, resample=self.resample)
        if self.ignored is not None and (array == self.ignored).any():
            raise InputError(f"label map '{path}' marks pixels to ignore, which cannot be kept")
        return split_labels(array, self.labels, path)
