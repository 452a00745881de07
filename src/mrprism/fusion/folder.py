"""A data set fused into a folder: masks, probabilities and how far each rater can be trusted.

    OUT/fuse.json                                what was asked for
    OUT/choice.json                              by "auto": which fusion was taken for each structure, and why
    OUT/cases/CASE/STRUCTURE.png                 the consensus
    OUT/cases/CASE/STRUCTURE_probability.png     its probability, 16 bit (65535 is 1)
    OUT/cases/CASE/case.json                     the raters' counts on this case
    OUT/skill.csv, OUT/skill.json                each rater's skill with intervals
    OUT/outline.csv, OUT/outline.json            how far outside each rater draws (outline, pooled)

Cases with a geometry, and volumes, are written as .nii.gz (probability float32) instead. A case's folder
appears under its name only when it is complete, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mrprism.core.brief import brief
from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.prediction import Prediction
from mrprism.core.rows import Rows
from mrprism.core.sample import MultiRaterSample, Samples, Task
from mrprism.core.workers import ALONE, Workers, in_order
from mrprism.fusion.auto import Choice, Chosen
from mrprism.fusion.by_pattern import MARGIN, skill_counts
from mrprism.fusion.cases import shared
from mrprism.fusion.one_case import AUTO, known, some_structures
from mrprism.fusion.outline_table import OutlineRow, outline_table
from mrprism.fusion.pooling import Pooled, PooledObservers, poolable
from mrprism.fusion.skill_table import SkillRow, skill_table
from mrprism.fusion.streamed import fuse_streamed
from mrprism.images import write_mask, write_probability
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.folders import flush, remove_unfinished_in, replacing_folder
from mrprism.output.lock import alone_in
from mrprism.output.tables import to_csv

CLAIM = "fuse.json"

CHOICE = "choice.json"


@dataclass(frozen=True)
class FusedFolder:
    """What a fused data set holds."""

    folder: Path
    cases: int
    skipped: int  # cases an earlier run had finished
    ties: int | None  # pixels where the vote was even, over all cases; None: the method knows no ties
    undrawn: tuple[tuple[str, str], ...]  # case and structure nobody drew: nothing was written
    skill: Rows[SkillRow]
    outlines: Rows[OutlineRow]  # by the outline model over all cases; no other method knows
    choices: Rows[Choice]  # by "auto"
    copies: tuple[
        str, ...
    ] = ()  # raters whose masks seem to be those of others, which count twice; a sentence each

    __repr__ = brief


@runtime_checkable
class Look(Protocol):
    """Somebody who looks for something in every case of a data set that is fused."""

    def see(self, cases: Any, number: int, sample: MultiRaterSample | None) -> Any:
        """What there is to see in a case, which is given where it is held; another process may do it."""

    def keep(self, seen: Any) -> None:
        """Called with what was seen in each case, in their order."""


@alone_in("out")
def fuse_folder(
    cases: Samples,
    task: Task,
    out: Path,
    method: str,
    *,
    names: Sequence[str],
    file_names: Callable[[Sequence[str]], Sequence[str]],
    groups: Sequence[str],
    masks_sha256: str | None = None,
    pooled: bool = False,
    margin: int | None = MARGIN,
    each: Callable[[str], None] = lambda name: None,
    look: Look | None = None,
    workers: Workers = ALONE,
    **options: Any,
) -> FusedFolder:
    """Fuse every case into a folder, going on where an earlier run stopped.

    Args:
        names: Of the cases.
        file_names: Turns names into distinct names that are safe for files.
        groups: The patient of each case.
        masks_sha256: Of all masks together, where they lie in files: a folder begun for others is refused.
        each: Called with the name of each case as it is done.
        look: Who looks for something else in every case, which then need not be read twice.
        workers: Who fuses the cases; what comes of it is the same.
        options: Of the fusion.

    Raises:
        InputError: An unknown method, raters who cannot be pooled because they are not persons, nobody
            drew anything, or the folder holds the result of something else.
    """
    known(method)
    if pooled and method != AUTO:
        poolable(method)
    if pooled and task.anonymous:
        raise InputError(
            "raters of this data set are anonymous slots, not the same persons from case to case, "
            "so their skill cannot be pooled; leave --pooled out"
        )
    asked = {"method": method, "pooled": pooled, "margin": margin, **options}
    _claim(out, {**asked, "cases": list(names), "masks_sha256": masks_sha256})
    folders = [out / "cases" / name for name in file_names(names)]
    left = [n for n, folder in enumerate(folders) if not folder.is_dir()]
    together = pooled or method == AUTO
    skill = (
        shared(cases, method, task=task, margin=margin, workers=workers, **options)
        if together and left
        else None
    )
    if isinstance(skill, Chosen):
        write_file(out / CHOICE, _json([asdict(choice) for choice in skill.choices]))
    structures = tuple(file_names(task.structures))
    waiting = frozenset(left)
    remove_unfinished_in(out / "cases")
    numbers = range(len(folders)) if look else left
    fusing = _Fusing(cases, names, folders, waiting, task, method, structures, skill, margin, options, look)
    done = in_order(fusing, numbers, workers, named=names.__getitem__)
    try:
        with closing(done):
            for number, seen in zip(numbers, done, strict=True):
                if number in waiting:
                    each(names[number])
                if look is not None:
                    look.keep(seen)
    finally:
        if not workers.alone:  # what a worker left that was killed
            remove_unfinished_in(out / "cases")
    counts = np.zeros((len(folders), len(task.raters), len(task.structures), 2, 2))
    ties: list[int] = []
    undrawn: list[tuple[str, str]] = []
    outlines: list[dict[str, Any]] = []  # of each case; none unless the outline model fused them together
    for number, folder in enumerate(folders):
        case = json.loads(plain_file(folder / "case.json").read_text("utf-8"))
        counts[number] = case["counts"]
        ties += [] if case["ties"] is None else [case["ties"]]
        undrawn += [(case["name"], structure) for structure in case["undrawn"]]
        outlines += [case["outlines"]] if "outlines" in case else []
    if not counts.any():
        raise InputError("no rater at all drew any structure of any case, so there is nothing to fuse")
    skill_rows = skill_table(counts, task.raters, task.structures, groups)
    write_skill(out, skill_rows)
    outline_rows: list[OutlineRow] = []
    if outlines:
        displaced, pieces = (np.array([o[key] for o in outlines], float) for key in ("displaced", "pieces"))
        unit = outlines[0]["unit"]
        outline_rows = outline_table(displaced, pieces, task.raters, task.structures, groups, unit)
        write_rows(out, "outline", outline_rows)
    return FusedFolder(
        folder=out,
        cases=len(folders),
        skipped=len(folders) - len(left),
        ties=sum(ties) if ties else None,
        undrawn=tuple(undrawn),
        skill=skill_rows,
        outlines=Rows(outline_rows),
        choices=_choices(out),
    )


def _choices(out: Path) -> Rows[Choice]:
    """What "auto" took for each structure, as it was written down before the first case was fused."""
    if not (out / CHOICE).exists():
        return Rows()
    return Rows([Choice(**row) for row in json.loads(plain_file(out / CHOICE).read_text("utf-8"))])


def write_skill(out: Path, rows: Sequence[SkillRow]) -> None:
    """Write skill.csv and skill.json; what is not known is an empty cell, or null."""
    write_rows(out, "skill", rows)


def write_rows(out: Path, name: str, rows: Sequence[SkillRow] | Sequence[OutlineRow]) -> None:
    """Write rows as NAME.csv and NAME.json; what is not known is an empty cell, or null."""
    head = [field.name for field in fields(rows[0])]
    write_file(out / f"{name}.csv", to_csv(head, (list(asdict(row).values()) for row in rows)))
    write_file(out / f"{name}.json", _json([asdict(row) for row in rows]))


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Write down what is asked for; refuse a folder in which something else was asked for."""
    file = out / CLAIM
    remove_leftovers(out)
    wanted = json.loads(_json(settings))
    if not file.exists():
        if out.exists() and (not out.is_dir() or any(path.name != ".lock" for path in out.iterdir())):
            raise InputError(
                f"'{out}' holds other files; expected a new folder, or one begun by mrprism fuse"
            )
        write_file(file, _json(wanted))
        return
    try:
        found = json.loads(plain_file(file).read_text("utf-8"))
        keys = sorted({*found, *wanted})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"'{file}' is broken: {error}") from error
    for key in keys:
        if found.get(key) != wanted.get(key):
            if key == "cases":
                raise InputError(f"'{out}' was begun for other cases; expected a new folder")
            if key == "masks_sha256":
                raise InputError(f"'{out}' was begun for other masks of these cases; expected a new folder")
            raise InputError(
                f"'{out}' was begun with {key} {found.get(key)}, not {wanted.get(key)}; expected a new folder"
            )


@dataclass(frozen=True)
class _Fusing:
    """What every case has in common; called with the number of one."""

    cases: Samples
    names: Sequence[str]
    folders: Sequence[Path]
    waiting: frozenset[int]  # cases that are not fused yet
    task: Task
    method: str
    structures: Sequence[str]
    skill: Pooled | None
    margin: int | None
    options: dict[str, Any]
    look: Look | None

    def __call__(self, number: int) -> Any:
        case = None
        if number in self.waiting:
            at = (self.cases, number, self.names[number], self.folders[number])
            case = _fuse_one(
                *at, self.task, self.method, self.structures, self.skill, self.margin, self.options
            )
        return None if self.look is None else self.look.see(self.cases, number, case)


def _fuse_one(
    cases: Samples,
    number: int,
    name: str,
    folder: Path,
    task: Task,
    method: str,
    structures: Sequence[str],
    skill: Pooled | None,
    margin: int | None,
    options: dict[str, Any],
) -> MultiRaterSample | None:
    """Fuse a case into its folder, and give it back where it was held."""
    with replacing_folder(folder) as unfinished:
        case = streamed = None
        if skill is None:
            streamed = fuse_streamed(cases, name, task, method, unfinished, structures, margin, options)
        if streamed is not None:
            counts, ties, drawn = streamed.counts, streamed.ties, streamed.drawn
        else:
            case = cases[number]
            counts = np.zeros((*case.rated.shape, 2, 2))
            drawn, fused = some_structures(case, method, skill, number, margin=margin, **options)
            ties = None if fused is None or fused.ties is None else int(fused.ties.sum())
            if fused is not None:
                some = (
                    (case.masks[:, drawn], case.rated[:, drawn])
                    if len(drawn) < len(task.structures)
                    else (case.masks, case.rated)
                )
                counts[:, drawn] = skill_counts(*some, fused.probability, margin=margin)
                _write(unfinished, case, fused, [structures[c] for c in drawn])
        undrawn = [s for c, s in enumerate(task.structures) if c not in drawn]
        about = {"name": name, "counts": counts.tolist(), "ties": ties, "undrawn": undrawn}
        if case is not None and isinstance(skill, PooledObservers):
            about["outlines"] = _outlines(case, drawn, fused, skill)
        write_file(unfinished / "case.json", _json(about), durable=False)
        flush(unfinished)
    return case


def _outlines(
    case: MultiRaterSample, drawn: Sequence[int], fused: Prediction | None, skill: PooledObservers
) -> dict[str, Any]:
    """How far outside each rater drew on this case, for the table over all cases; null where unknown."""
    displaced = np.full((*case.rated.shape, 2), np.nan)
    pieces = np.zeros((*case.rated.shape, 2, 2))
    if fused is not None:
        displaced[:, drawn], pieces[:, drawn] = fused.displaced, fused.pieces
    known = displaced.astype(object)
    known[~np.isfinite(displaced)] = None
    return {"unit": skill.unit, "displaced": known.tolist(), "pieces": pieces.tolist()}


def _write(folder: Path, case: MultiRaterSample, fused: Prediction, structures: Sequence[str]) -> None:
    geometry = getattr(case, "geometry", None)  # samples read from files have one
    suffix = ".nii.gz" if geometry is not None or case.masks.ndim > 4 else ".png"
    for structure, probability in zip(structures, fused.probability, strict=True):
        mask, chance = f"{structure}{suffix}", f"{structure}_probability{suffix}"
        spacing = case.spacing_mm
        write_mask(folder / mask, probability > 0.5, like=geometry, spacing_mm=spacing, durable=False)
        write_probability(folder / chance, probability, like=geometry, spacing_mm=spacing, durable=False)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
