"""Everything that is wrong with a data set, and what is in it, from one pass over its files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mrprism.core.errors import InputError
from mrprism.core.names import doubtful
from mrprism.core.rows import frame
from mrprism.core.workers import ALONE, Workers, in_order
from mrprism.datasets.case_files import (
    further_readings,
    image_in_parts,
    read_grid,
    read_pieces,
    read_votes,
    reading_of,
    spacing_of,
)
from mrprism.datasets.check_counts import Masks, Noted, Seen
from mrprism.datasets.check_decisions import decision_faults
from mrprism.datasets.dataset import task_of
from mrprism.datasets.findings import Finding, grouped
from mrprism.datasets.manifest import Case, Drawn, Fault, Manifest, files, load, manifest_path, of_several
from mrprism.datasets.odd_shapes import odd_shape
from mrprism.datasets.pieces import Piece
from mrprism.datasets.suspicions import SHARED
from mrprism.images import ImageFile
from mrprism.output.templates import templates


@dataclass
class Check:
    """What `check_dataset` found, errors first."""

    path: str
    faults: list[Fault] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Check('{self.path}', {self.verdict})"

    def to_frame(self) -> Any:
        """What was found as a `pandas.DataFrame`, a row each.

        Raises:
            InputError: pandas is not installed.
        """
        return frame([asdict(fault) for fault in self.faults], [f.name for f in fields(Fault)])

    @property
    def errors(self) -> list[Fault]:
        return [f for f in self.faults if f.severity == "error"]

    @property
    def warnings(self) -> list[Fault]:
        return [f for f in self.faults if f.severity == "warning"]

    @property
    def verdict(self) -> str:
        """How much was found, as in "no errors, 2 warnings"."""
        return f"{_count(self.errors, 'error')}, {_count(self.warnings, 'warning')}"

    @property
    def exit_code(self) -> int:
        """2: there are errors; 1: warnings only; 0: neither."""
        return 2 if self.errors else 1 if self.warnings else 0

    @property
    def findings(self) -> list[Finding]:
        """What was found as it is shown: four or more of a kind by one rater as one."""
        return grouped(self.faults)

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "faults": [asdict(f) for f in self.faults], "summary": self.summary}

    def as_html(self) -> str:
        """A page that needs nothing else."""
        verdict = self.verdict[0].upper() + self.verdict[1:]
        return (
            templates(Path(__file__).parent)
            .get_template("check.html.jinja")
            .render(check=self, verdict=verdict)
        )


def check_dataset(
    path: str | Path,
    *,
    workers: Workers = ALONE,
    each: Callable[[int, int], None] = lambda done, count: None,
) -> Check:
    """Read every file of a data set and say all that is wrong or suspicious.

    What is wrong with one file hides nothing about another: masks are read even where their image cannot
    be, and the sound files of a case whose entry in `dataset.json` is wrong.

    Args:
        workers: Who reads the files; what is found is the same.
        each: Called with the number of cases done and of all.

    Raises:
        InputError: There is no data set at all at this path.
    """
    file = manifest_path(path)
    manifest, faults = load(file)
    check = Check(str(file), faults)
    if manifest is None:
        return check
    seen = Seen(manifest)
    broken = frozenset(fault.file for fault in faults)
    task = partial(_looked_at, file.parent, manifest, broken)
    count = len(manifest.cases)
    cases = in_order(task, range(count), workers, named=lambda number: manifest.cases[number].name)
    for number, (found, noted) in enumerate(cases):
        check.faults.extend(found)
        seen.keep(manifest.cases[number], noted)
        each(number + 1, count)
    check.faults.extend(_suspicions(str(file), manifest, seen))
    check.faults.extend(decision_faults(file.parent, manifest))
    check.faults.sort(key=lambda fault: fault.severity != "error")
    check.summary = _summary(manifest, seen)
    return check


def _looked_at(
    root: Path, manifest: Manifest, broken: frozenset[str], number: int
) -> tuple[list[Fault], Noted]:
    """The faults of one case, and what is counted of it."""
    noted = Noted()
    return list(_case(root, manifest, manifest.cases[number], noted, broken)), noted


def _case(root: Path, manifest: Manifest, case: Case, seen: Noted, broken: frozenset[str]) -> Iterator[Fault]:
    """Faults of one case; files in ``broken`` were found wrong before."""
    raters, structures = list(manifest.rater_names), manifest.structures
    seen.named += sorted(
        {
            (raters.index(rater), structures.index(structure))
            for rater, drawn in case.masks.items()
            for structure in (structures if isinstance(drawn, str) else drawn)
            if rater in raters and structure in structures
        }
    )
    image, picture = None, case.name
    if case.image is None:
        image = _grid(root, case, broken)
        if image is not None:
            seen.grid(case, image)
    whole = isinstance(case.image, str) or len(case.images) == len(manifest.channels)
    if (
        case.image is not None
        and whole
        and not any(str(root / f.path) in broken for f in files(case) if f.role == "image")
    ):
        try:
            parts, image = image_in_parts(root, manifest, case)
            picture, flat = seen.image(case, parts, image)
            if flat:
                sentence = f"image '{image.path}' has one value everywhere"
                yield _fault("warning", image.path, case, sentence)
            del parts
        except InputError as error:
            yield _fault("error", root / case.images[0], case, str(error))
    masks: Masks = {}
    reference: dict[int, Piece] = {}
    again: list[Masks] = [{} for _ in further_readings(case)]
    for who, what, reading in [
        *((who, what, 1) for who, what in case.masks.items()),
        *((who, what, n) for n in further_readings(case) for who, what in reading_of(case, n).items()),
        (None, case.reference, 1),
    ]:
        for part in _parts(what, manifest) if who is None or who in raters else []:
            file = root / (part if isinstance(part, str) else next(iter(part.values())))
            if str(file) in broken:
                continue
            try:
                found = list(read_pieces(root, manifest, case, part, image))
            except InputError as error:
                for sentence in getattr(error, "sentences", [str(error)]):
                    yield _fault("error", file, case, sentence, who)
                continue
            for c, mask in found:
                if who is None:
                    reference[c] = mask
                else:
                    place = masks if reading == 1 else again[reading - 2]
                    place[raters.index(who), c] = mask
                if shape := _odd(mask):
                    by = f"the mask by rater '{who}'" if who else "the reference"
                    by = by if reading == 1 else f"reading {reading} by rater '{who}'"
                    sentence = f"{by} of '{structures[c]}' on case '{case.name}' {shape}"
                    yield _fault("warning", file, case, sentence, who)
    if not case.masks and case.votes is None:
        yield _fault("warning", root, case, f"case '{case.name}' was outlined by nobody")
    absent = set() if isinstance(case.reference, str | None) else set(structures) - set(case.reference)
    if absent:
        sentence = f"reference of case '{case.name}' lacks {', '.join(sorted(absent))}"
        yield _fault("error", root, case, f"{sentence}; expected every structure or no reference")
    if case.votes is not None and not any(str(root / path) in broken for path in case.votes.values()):
        try:
            read_votes(root, manifest, case, image)
        except InputError as error:
            yield _fault("error", root / next(iter(case.votes.values()), ""), case, str(error))
    axes = next((len(a.shape) for a in [*masks.values(), *reference.values()]), None)
    axes = axes if image is None else image.array.ndim - 1
    if case.spacing_mm is not None and axes is not None and len(case.spacing_mm) != axes:
        sentence = f"case '{case.name}' has {len(case.spacing_mm)} numbers in spacing_mm; expected {axes}"
        yield _fault("error", root, case, sentence)
    if image is not None:
        try:
            spacing_of(case, image)
        except InputError as error:
            yield _fault("error", root, case, str(error))
    del image
    seen.drawn(case, picture, masks, reference)
    for masks_again in again:
        seen.read_again(masks, masks_again)


def _odd(mask: Piece) -> str | None:
    """What is odd about the shape of a mask; only one that spans its image, or slices of it, can be."""
    spans = all(
        (part.start, part.stop) == (0, n) for part, n in zip(mask.box[-2:], mask.shape[-2:], strict=True)
    )
    return odd_shape(mask.on(tuple(slice(0, n) for n in mask.shape))) if spans else None


def _grid(root: Path, case: Case, broken: frozenset[str]) -> ImageFile | None:
    """Size and place of a case without an image; None where no mask of it can be read."""
    for entry in files(case):
        if str(root / entry.path) not in broken:
            try:
                return read_grid(root, case, entry)
            except InputError:
                pass  # told when that mask's turn comes
    return None


def _parts(drawn: Drawn | None, manifest: Manifest) -> list[Drawn]:
    """Every file that can be understood by itself, so that one broken mask does not hide the next."""
    if drawn is None:
        return []
    if isinstance(drawn, str):
        return [drawn] if all(s in (manifest.labels or {}) for s in manifest.structures) else []
    return [{structure: path} for structure, path in drawn.items() if structure in manifest.structures]


def _suspicions(file: str, manifest: Manifest, seen: Seen) -> Iterator[Fault]:
    def warn(sentence: str) -> Fault:
        return Fault("warning", file, None, sentence)

    if len(manifest.cases) == 1:
        yield warn("the data set has one case only; training needs cases to learn from and others to test on")
    if len(seen.raters) == 1:
        yield warn("there is one rater only; nothing can be said about disagreement")
    for r, rater in enumerate(seen.raters):
        for c, structure in enumerate(seen.structures):
            done, empty = seen.masks[r, c], seen.empty[r, c]
            if done == 0 and seen.masks[:, c].any():
                yield warn(f"rater '{rater}' never outlined '{structure}'")
            if done >= SHARED and done == empty:
                yield warn(f"all {done} masks of '{structure}' by rater '{rater}' are empty")
            if (copied := int(seen.copied[r, c])) >= SHARED:
                yield warn(
                    f"{copied} of {seen.again[r, c]} masks of '{structure}' which rater '{rater}' drew again are "
                    "those of the first reading to the pixel: are they copies and not a second reading?"
                )
    without = sum(case.image is None for case in manifest.cases)
    if 0 < without < len(manifest.cases):
        yield warn(
            f"{without} of {len(manifest.cases)} cases have masks only and no image: nothing can be trained on such "
            "a data set"
        )
    for suspicion in seen.suspicions:
        yield from (warn(sentence) for sentence in suspicion.say(seen.raters, seen.structures))
    yield from map(warn, _twins(manifest))
    yield from map(warn, of_several(manifest.cases))
    for note, files_with in seen.notes.items():
        more = f" and {len(files_with) - 1} more" if len(files_with) > 1 else ""
        yield warn(f"of image '{files_with[0]}'{more}: {note}")
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for case in manifest.cases:
        if case.group and case.split:
            splits[case.group].add(case.split)
    for group, found in splits.items():
        if len(found) > 1:
            yield warn(f"patient '{group}' has cases in {' and '.join(sorted(found))}")
    for cases in seen.pictures.values():
        if len(cases) > 1:
            names = ", ".join(f"'{case.name}'" for case in cases[:4])
            between = {case.split for case in cases if case.split}
            across = f", in {' and '.join(sorted(between))}" if len(between) > 1 else ""
            yield warn(f"cases {names} have the same image{across}")


def _twins(manifest: Manifest) -> Iterator[str]:
    """Names that people take for the same."""
    yield from doubtful("raters", manifest.rater_names, letters=True)
    yield from doubtful("structures", manifest.structures, letters=True)
    yield from doubtful("channels", manifest.channels, letters=True)
    yield from doubtful("cases", [case.name for case in manifest.cases])
    yield from doubtful("patients", [case.group for case in manifest.cases if case.group])
    yield from doubtful("files", [entry.path for case in manifest.cases for entry in files(case)])


def _summary(manifest: Manifest, seen: Seen) -> dict[str, Any]:
    task = task_of(manifest)
    cases = manifest.cases
    expected = len(cases) * len(task.raters) * len(task.structures)
    return {
        "name": manifest.name,
        "cases": len(cases),
        "sizes": dict(seen.sizes.most_common()),
        "spacing_mm": dict(seen.spacings.most_common()),
        "channels": manifest.channels,
        "images": sum(case.image is not None for case in cases),
        "structures": manifest.structures,
        "anonymous": manifest.anonymous,
        "raters": {
            rater: {
                structure: {"masks": int(seen.masks[r, c]), "empty": int(seen.empty[r, c])}
                for c, structure in enumerate(seen.structures)
            }
            for r, rater in enumerate(seen.raters)
        },
        "read_again": {
            rater: count
            for rater, count in zip(seen.raters, seen.again.sum(axis=1).tolist(), strict=True)
            if count
        },
        "missing_masks": expected - int(seen.masks.sum()),
        "expected_masks": expected,
        "overlap": {
            rater: {other: int(seen.shared[r, o]) for o, other in enumerate(seen.raters)}
            for r, rater in enumerate(seen.raters)
        },
        "references": sum(case.reference is not None for case in cases),
        "votes": sum(case.votes is not None for case in cases),
        "groups": len({case.group or case.name for case in cases}),
        "splits": dict(Counter(case.split or "none" for case in cases)),
        "diagnoses": {str(k): v for k, v in Counter(c.diagnosis for c in cases).items() if k is not None},
    }


def _fault(
    severity: Literal["error", "warning"], file: Path, case: Case, sentence: str, rater: str | None = None
) -> Fault:
    """A fault of a case; sentences say what was found and, behind a semicolon, what was expected."""
    found, _, expected = sentence.partition("; expected ")
    return Fault(severity, str(file), case.name, sentence, found, expected or None, rater)


def _count(items: list[Fault], word: str) -> str:
    return f"{len(items) or 'no'} {word}{'' if len(items) == 1 else 's'}"
