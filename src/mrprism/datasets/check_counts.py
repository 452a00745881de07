"""What a check counts: noted of each case by whoever looks at it, and kept of all of them in their order."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.types import Image
from mrprism.datasets.manifest import Case, Manifest
from mrprism.datasets.pieces import Piece
from mrprism.datasets.suspicions import keep, look_at, see, suspicions
from mrprism.images import ImageFile

Place = tuple[int, int]  # rater, structure
Masks = dict[Place, Piece]


@dataclass
class Noted:
    """What is counted of one case; no image is kept."""

    named: list[Place] = field(default_factory=list)  # masks, whether they can be read or not
    empty: list[Place] = field(default_factory=list)
    again: list[Place] = field(default_factory=list)  # masks of further readings
    copied: list[Place] = field(default_factory=list)  # of them the very mask of the first reading
    size: str | None = None
    spacing: str | None = None
    picture: str | None = None  # fingerprint of the image
    notes: list[tuple[str, Path]] = field(
        default_factory=list
    )  # what was done with the image that is not plain to see
    seen: list[list[Any]] = field(default_factory=list)  # what suspicions saw, structure by structure

    def grid(self, case: Case, image: ImageFile) -> None:
        """Take note of the size of a case."""
        self.size = " × ".join(str(n) for n in image.array.shape[1:])
        spacing = case.spacing_mm or image.spacing_mm
        self.spacing = "unknown" if spacing is None else " × ".join(f"{s:.4g}" for s in spacing)

    def image(self, case: Case, parts: Iterable[Image], image: ImageFile) -> tuple[str, bool]:
        """Take note of an image; returns its fingerprint, and whether it has one value everywhere."""
        self.grid(case, image)
        self.notes += [(note, image.path) for note in image.notes]
        digest, least, most = hashlib.sha256(), 0.0, 0.0
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
            least, most = float(part.min(initial=least)), float(part.max(initial=most))
        self.picture = digest.hexdigest()
        return self.picture, least == most

    def drawn(self, case: Case, picture: str, masks: Masks, reference: dict[int, Piece]) -> None:
        """Take note of a case's masks by rater and structure, and of its reference by structure."""
        by_structure: defaultdict[int, dict[int, Piece]] = defaultdict(dict)
        for (rater, structure), mask in masks.items():
            by_structure[structure][rater] = mask
            if mask.empty:
                self.empty.append((rater, structure))
        for c, drawn in by_structure.items():
            if len({mask.shape for mask in drawn.values()}) > 1:
                continue  # the image could not be read, so nothing says which of them is wrong
            own = reference.get(c)
            fits = own is not None and all(mask.shape == own.shape for mask in drawn.values())
            self.seen.append(see(suspicions(), look_at(case.name, picture, c, drawn, own if fits else None)))

    def read_again(self, first: Masks, again: Masks) -> None:
        """Take note of a further reading of a case, beside the first."""
        for place, mask in again.items():
            self.again.append(place)
            if place in first and not mask.empty and first[place].same(mask):
                self.copied.append(place)


class Seen:
    """Counts that grow case by case."""

    def __init__(self, manifest: Manifest) -> None:
        self.raters = list(manifest.rater_names)
        self.structures = manifest.structures
        shape = len(self.raters), len(self.structures)
        self.masks = np.zeros(shape, dtype=int)
        self.empty = np.zeros(shape, dtype=int)
        self.shared = np.zeros((shape[0], shape[0]), dtype=int)  # cases both outlined something on
        self.again = np.zeros(shape, dtype=int)
        self.copied = np.zeros(shape, dtype=int)
        self.sizes: Counter[str] = Counter()
        self.spacings: Counter[str] = Counter()
        self.pictures: defaultdict[str, list[Case]] = defaultdict(list)
        self.notes: defaultdict[str, list[Path]] = defaultdict(list)
        self.suspicions = suspicions()

    def keep(self, case: Case, noted: Noted) -> None:
        """Count what was noted of one case after the other."""
        for counts, places in (
            (self.masks, noted.named),
            (self.empty, noted.empty),
            (self.again, noted.again),
            (self.copied, noted.copied),
        ):
            for place in places:
                counts[place] += 1
        present = sorted({rater for rater, _ in noted.named})
        self.shared[np.ix_(present, present)] += 1
        if noted.size is not None and noted.spacing is not None:
            self.sizes[noted.size] += 1
            self.spacings[noted.spacing] += 1
        if noted.picture is not None:
            self.pictures[noted.picture].append(case)
        for note, path in noted.notes:
            self.notes[note].append(path)
        for seen in noted.seen:
            keep(self.suspicions, seen)
