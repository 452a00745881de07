"""REFUGE with seven raters: optic disc and cup on 1200 fundus photographs.

`{Training-400,Validation-400,Test-400}/NNNN/` with `NNNN.jpg`, `NNNN_seg_{disc,cup}_{1..7}.png` and a
consensus `NNNN_{disc,cup}.bmp`; or all beside one another as `STEM_ci.jpg`, `STEM_seg_cup_c_1.png`.
The consensus is known in both polarities: the one whose border is background is taken, and it must
agree with the raters. Tables `REFUGE1*.csv` give the glaucoma label, if they are there. REFUGE as
first published has one mask an image and is refused.

Source: Orlando et al., Medical Image Analysis 59, 2020; raters: Fang et al., 2022.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import entries, folders, matching
from mrprism.images import read_image, read_mask
from mrprism.layouts.fields import Ids
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source, assemble, fitting, present
from mrprism.layouts.table import read_table

RATERS = tuple(f"rater {k}" for k in range(1, 8))
STRUCTURES = ("disc", "cup")
_DRAWN = r"(.+?)_seg_(disc|cup)(?:_c)?_(\d+)\.png"


def read(source: Path, ledger: Ledger) -> Source:
    """Read every folder below ``source`` that holds raters' masks."""
    everywhere = sorted(folders(source))
    drawn = [folder for folder in everywhere if matching(folder, _DRAWN)]
    if not drawn:
        if any(folder.name == "Disc_Cup_Masks" for folder in everywhere):
            raise InputError(f"'{source}' is REFUGE with one mask an image; expected the seven raters' masks")
        raise InputError(
            f"'{source}' has no files like 0001_seg_disc_1.png; expected REFUGE with seven raters"
        )
    notes = ledger.notes
    labels = _labels(source, notes, ledger)
    cases = [case for folder in drawn for case in _cases(folder, ledger)]
    raters = present(RATERS, {rater for case in cases for rater, _ in case.masks}, ledger)
    for folder in (folder for folder in everywhere if folder.name == "Disc_Cup_Masks"):
        ledger.know(folder, "the one mask an image of REFUGE as first published")
    task = Task(3, STRUCTURES, raters)
    return Source("refuge", task, _samples(task, cases, labels, notes), notes=notes, count=len(cases))


@dataclass(frozen=True)
class _Case:
    folder: Path
    stem: str
    image: Path
    masks: dict[tuple[str, str], Path]  # by rater and structure
    consensus: dict[str, Path]


def _labels(source: Path, notes: list[str], ledger: Ledger) -> dict[str, int]:
    """Glaucoma labels by split and number, such as "test-400/0544"."""
    labels: Ids[int] = Ids("case", source)
    for table in (t for folder in sorted(folders(source)) for _, t in matching(folder, r"REFUGE.*\.csv")):
        ledger.take(table)
        skipped = 0
        for row in read_table(table, "multimaskName", "label", encodings=("gbk", "utf-8")):
            parts = row["multimaskName"].replace("\\", "/").split("/")
            if len(parts) < 2:
                skipped += 1
            elif row["label"].split(".")[0] in ("0", "1"):
                labels.add("/".join(parts[-3:-1]).lower(), int(row["label"].split(".")[0]))
        if skipped:
            notes.append(f"{skipped} rows of '{table}' name no masks")
    return labels


def _cases(folder: Path, ledger: Ledger) -> Iterator[_Case]:
    drawn: dict[str, dict[tuple[str, str], Path]] = {}
    for match, path in matching(folder, _DRAWN):
        if not 1 <= int(match[3]) <= len(RATERS):
            raise InputError(f"'{path}' is of rater {match[3]}; expected 1 to {len(RATERS)}")
        key, files = (f"rater {int(match[3])}", match[2].lower()), drawn.setdefault(match[1], {})
        if key in files:
            raise InputError(
                f"'{files[key]}' and '{path.name}' are both the {key[1]} by {key[0]}; expected one of them"
            )
        files[key] = path
    names = {p.name.lower(): p for p in entries(folder)}
    for stem, files in drawn.items():
        image = names.get(f"{stem}.jpg".lower()) or names.get(f"{stem}_ci.jpg".lower())
        if image is None:
            raise InputError(f"'{folder}' has masks of '{stem}' but no photograph '{stem}.jpg'")
        whole = {s: p for s in STRUCTURES if (p := names.get(f"{stem}_{s}.bmp".lower())) is not None}
        ledger.take_all([image, *files.values(), *whole.values()])
        for other in (f"{stem}_cropped.jpg", f"{stem}_cm.bmp"):
            ledger.know(folder / other, "a crop of the photograph, or its consensus")
        yield _Case(folder, stem, image, files, whole)


def _samples(
    task: Task, cases: list[_Case], labels: dict[str, int], notes: list[str]
) -> Iterator[MultiRaterSample]:
    for case in cases:
        yield _sample(task, case, labels, notes)


def _sample(task: Task, case: _Case, labels: dict[str, int], notes: list[str]) -> MultiRaterSample:
    folder, stem, path, files = case.folder, case.stem, case.image, case.masks
    image = read_image(path).array
    masks = {key: fitting(read_mask(file).array, file, image, path) for key, file in files.items()}
    for rater in RATERS:
        if (rater, "disc") in masks and (rater, "cup") in masks:
            beyond = int((masks[rater, "cup"] & ~masks[rater, "disc"]).sum())
            if beyond:
                notes.append(f"{rater} drew {beyond} pixels of the cup of '{stem}' outside the disc")
    reference = {}
    for structure, file in case.consensus.items():
        whole = fitting(read_mask(file).array, file, image, path)
        votes = [mask for (_, s), mask in masks.items() if s == structure]
        reference[structure] = _upright(whole, votes, file)
    split = _split(folder.parent.name)
    return assemble(
        task,
        f"{split}_{stem}" if split else stem,
        image,
        masks,
        reference,
        split=split,
        diagnosis=labels.get(f"{folder.parent.name}/{re.split('[._]', stem)[0]}".lower()),
    )


def _split(folder: str) -> str | None:
    found = re.fullmatch(r"(train|val|test)(?:ing|idation)?-?400", folder, re.IGNORECASE)
    return found[1].lower() if found else None


def _upright(mask: np.ndarray, votes: list[np.ndarray], path: Path) -> np.ndarray:
    """The consensus with 1 inside: by its border, and the raters must not say the opposite."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    upright = ~mask if border.mean() > 0.5 else mask
    if votes:
        mean = np.mean(votes, axis=0)
        if np.abs(upright - mean).mean() > np.abs(~upright - mean).mean():
            raise InputError(
                f"consensus '{path}': its border and the raters disagree about which side is inside"
            )
    return upright
