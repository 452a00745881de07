"""Everything that is wrong with a data set, and what is in it, from one pass over its files."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.datasets.dataset import read_case_image, read_drawn, read_votes, task_of
from mrprism.datasets.manifest import Case, Drawn, Fault, Manifest, load, manifest_path
from mrprism.errors import InputError
from mrprism.images import ImageFile

SHARED = 3  # masks two raters must share before their likeness says anything
STEADY = 5  # cases a displacement must be seen on before it is called one


@dataclass
class Check:
    """What `check_dataset` found."""

    path: str
    faults: list[Fault] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> list[Fault]:
        return [f for f in self.faults if f.severity == "error"]

    @property
    def warnings(self) -> list[Fault]:
        return [f for f in self.faults if f.severity == "warning"]

    def as_json(self) -> dict[str, Any]:
        return {"path": self.path, "faults": [asdict(f) for f in self.faults], "summary": self.summary}


def check_dataset(path: str | Path) -> Check:
    """Read every file of a data set and say all that is wrong or suspicious.

    Raises:
        InputError: There is no data set at all at this path.
    """
    file = manifest_path(path)
    manifest, faults = load(file)
    check = Check(str(file), faults)
    if manifest is None:
        return check
    seen = _Seen(manifest)
    wrong = {fault.case for fault in faults if fault.case is not None}
    for case in manifest.cases:
        if case.name in wrong:
            seen.count_only(case)
        else:
            check.faults.extend(_case(file.parent, manifest, case, seen))
    check.faults.extend(_suspicions(str(file), manifest, seen))
    check.summary = _summary(manifest, seen)
    return check


_Drawn = dict[tuple[int, int], np.ndarray]  # (rater, structure): mask


class _Seen:
    """Counts that grow case by case; no image is kept."""

    def __init__(self, manifest: Manifest) -> None:
        self.raters = list(manifest.rater_names)
        self.structures = manifest.structures
        shape = len(self.raters), len(self.structures)
        self.masks = np.zeros(shape, dtype=int)
        self.empty = np.zeros(shape, dtype=int)
        self.shared = np.zeros((shape[0], shape[0]), dtype=int)  # cases both outlined something on
        self.equal = np.zeros((shape[0], shape[0]), dtype=int)  # filled masks both drew alike
        self.compared = np.zeros((shape[0], shape[0]), dtype=int)  # filled masks both drew
        self.referenced = np.zeros(shape[0], dtype=int)  # filled masks that stand beside a reference
        self.copied = np.zeros(shape[0], dtype=int)  # those that are equal to it
        self.sizes: Counter[str] = Counter()
        self.spacings: Counter[str] = Counter()
        self.pictures: defaultdict[str, list[Case]] = defaultdict(list)
        self.moves: defaultdict[tuple[int, int], list[np.ndarray]] = defaultdict(list)

    def count_only(self, case: Case) -> None:
        """Take note of what a case names, without reading it."""
        done = np.zeros_like(self.masks, dtype=bool)
        for rater, drawn in case.masks.items():
            for structure in self.structures if isinstance(drawn, str) else drawn:
                if rater in self.raters and structure in self.structures:
                    done[self.raters.index(rater), self.structures.index(structure)] = True
        self._count(done)

    def add(self, case: Case, image: ImageFile, drawn: _Drawn, reference: dict[int, np.ndarray]) -> None:
        """Take note of a case, its masks by rater and structure, and its reference by structure."""
        space = image.array.shape[1:]
        self.sizes[" × ".join(str(n) for n in space)] += 1
        spacing = case.spacing_mm or image.spacing_mm
        self.spacings["unknown" if spacing is None else " × ".join(f"{s:.4g}" for s in spacing)] += 1
        self.pictures[hashlib.sha256(image.array.tobytes()).hexdigest()].append(case)
        done = np.zeros_like(self.masks, dtype=bool)
        for key, mask in drawn.items():
            done[key] = True
            self.empty[key] += not mask.any()
        self._count(done)
        for c in range(len(self.structures)):
            filled = {r: mask for (r, structure), mask in drawn.items() if structure == c and mask.any()}
            self._compare(filled, reference.get(c))
            self._place(c, filled)

    def _count(self, done: np.ndarray) -> None:
        self.masks += done
        present = done.any(axis=1).astype(int)
        self.shared += np.outer(present, present)

    def _compare(self, filled: dict[int, np.ndarray], reference: np.ndarray | None) -> None:
        prints = {r: _print(mask) for r, mask in filled.items()}
        for one in filled:
            for other in filled:
                self.compared[one, other] += 1
                self.equal[one, other] += prints[one] == prints[other]
            if reference is not None:
                self.referenced[one] += 1
                self.copied[one] += prints[one] == _print(reference)

    def _place(self, structure: int, filled: dict[int, np.ndarray]) -> None:
        if len(filled) < 3:
            return  # with two, nobody can say which of them moved
        centres = {r: np.array([axis.mean() for axis in np.nonzero(mask)]) for r, mask in filled.items()}
        middle = np.median(list(centres.values()), axis=0)
        for r, centre in centres.items():
            self.moves[r, structure].append(centre - middle)


def _case(root: Path, manifest: Manifest, case: Case, seen: _Seen) -> Iterator[Fault]:
    try:
        array, image = read_case_image(root, manifest, case)
    except InputError as error:
        seen.count_only(case)
        yield _fault("error", str(root), case, str(error))
        return
    if array.max(initial=0) == array.min(initial=0):
        yield _fault("warning", str(image.path), case, f"image '{image.path}' has one value everywhere")
    drawn: _Drawn = {}
    for rater, what in case.masks.items():
        r = seen.raters.index(rater)
        for part in _parts(what):
            try:
                drawn.update({(r, c): m for c, m in read_drawn(root, manifest, case, part, image)})
            except InputError as error:
                yield _fault("error", str(root), case, str(error))
    for (r, c), mask in drawn.items():
        shape = _odd_shape(mask)
        if shape:
            who = f"rater '{seen.raters[r]}' of '{seen.structures[c]}'"
            yield _fault("warning", str(root), case, f"the mask by {who} on case '{case.name}' {shape}")
    if not case.masks and case.votes is None:
        yield _fault("warning", str(root), case, f"case '{case.name}' was outlined by nobody")
    reference: dict[int, np.ndarray] = {}
    for part in _parts(case.reference):
        try:
            reference.update(read_drawn(root, manifest, case, part, image))
        except InputError as error:
            yield _fault("error", str(root), case, str(error))
    absent = set() if isinstance(case.reference, str | None) else set(seen.structures) - set(case.reference)
    if absent:
        sentence = f"reference of case '{case.name}' lacks {', '.join(sorted(absent))}"
        yield _fault("error", str(root), case, sentence)
    if case.votes is not None:
        try:
            read_votes(root, manifest, case, image)
        except InputError as error:
            yield _fault("error", str(root), case, str(error))
    if case.spacing_mm is not None and len(case.spacing_mm) != array.ndim - 1:
        sentence = f"case '{case.name}' has {len(case.spacing_mm)} numbers in spacing_mm"
        yield _fault("error", str(root), case, f"{sentence}; expected {array.ndim - 1}")
    seen.add(case, image, drawn, reference)


def _parts(drawn: Drawn | None) -> list[Drawn]:
    """Every file by itself, so that one broken mask does not hide the next."""
    if drawn is None or isinstance(drawn, str):
        return [] if drawn is None else [drawn]
    return [{structure: path} for structure, path in drawn.items()]


def _print(mask: np.ndarray) -> bytes:
    return hashlib.sha256(np.packbits(mask).tobytes()).digest()


def _odd_shape(mask: np.ndarray) -> str | None:
    if mask.all():
        return "covers the whole image"
    inside = mask[tuple(slice(1, -1) for _ in mask.shape)]
    frame = mask.size - inside.size
    if not inside.any() and mask.sum() >= 0.9 * frame > 0:
        return "is nothing but the image's border"
    return None


def _suspicions(file: str, manifest: Manifest, seen: _Seen) -> Iterator[Fault]:
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
        for other in range(r + 1, len(seen.raters)):
            both = seen.compared[r, other]
            if both >= SHARED and seen.equal[r, other] == both:
                yield warn(f"raters '{rater}' and '{seen.raters[other]}' never differ ({both} masks)")
        if seen.referenced[r] >= SHARED and seen.copied[r] == seen.referenced[r]:
            yield warn(f"the reference is rater '{rater}' copied ({seen.copied[r]} masks)")
    yield from (warn(sentence) for sentence in _shifts(seen))
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


def _shifts(seen: _Seen) -> Iterator[str]:
    """Raters who lie to one side of the others by two pixels or more, steadily."""
    for (r, c), moves in seen.moves.items():
        path = np.array(moves)
        mean, spread = path.mean(axis=0), path.std(axis=0)
        far = np.abs(mean) >= np.maximum(2.0, 2 * spread)
        if len(path) >= STEADY and far.any():
            by = ", ".join(f"{m:+.1f}" for m in mean)
            yield (
                f"all {len(path)} masks of '{seen.structures[c]}' by rater '{seen.raters[r]}' "
                f"lie ({by}) pixels from the others'"
            )


def _summary(manifest: Manifest, seen: _Seen) -> dict[str, Any]:
    task = task_of(manifest)
    cases = manifest.cases
    expected = len(cases) * len(task.raters) * len(task.structures)
    return {
        "name": manifest.name,
        "cases": len(cases),
        "sizes": dict(seen.sizes.most_common()),
        "spacing_mm": dict(seen.spacings.most_common()),
        "channels": manifest.channels,
        "structures": manifest.structures,
        "anonymous": manifest.anonymous,
        "raters": {
            rater: {
                structure: {"masks": int(seen.masks[r, c]), "empty": int(seen.empty[r, c])}
                for c, structure in enumerate(seen.structures)
            }
            for r, rater in enumerate(seen.raters)
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


def _fault(severity: Any, file: str, case: Case, sentence: str) -> Fault:
    return Fault(severity, file, case.name, sentence)
