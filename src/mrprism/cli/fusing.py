"""Calls from Python for fusing a data set, and mask files; the command line uses the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrprism.cli.calls import AnyPath, opened
from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.files import stem
from mrprism.core.workers import On, Workers
from mrprism.output.lock import named

if TYPE_CHECKING:
    from mrprism.core.rows import Rows
    from mrprism.datasets import Dataset
    from mrprism.fusion.files import FusedFiles
    from mrprism.fusion.folder import FusedFolder
    from mrprism.fusion.skill_table import SkillRow

EDGE = 10  # pixels around everything marked: the region of interest of fusions


def fuse_dataset(
    dataset: Dataset | AnyPath,
    method: str = "staple",
    out: AnyPath = "fused",
    *,
    pooled: bool = False,
    margin: int | None = EDGE,
    jobs: int | None = None,
    on: On = "local",
    each: Callable[[str], None] = lambda name: None,
    **options: Any,
) -> FusedFolder:
    """Fuse every case of a data set into a folder, with a table of how far each rater can be trusted.

    Args:
        method: A name in `FUSIONS`.
        out: A new folder, or one that was begun like this: it is gone on with.
        pooled: One skill per rater for all cases (staple, dawid-skene).
        margin: Region of interest, in pixels around everything marked; None: the whole image.
        jobs: How many cases at a time, each in a process of its own; None: one, or one for each core of a cluster.
        on: "local": processes of this machine; "ray": a Ray cluster.
        each: Called with the name of each case as it is done.
        options: Of the fusion.

    Raises:
        InputError: One rater only, an unknown method, or a folder that holds something else.
    """
    from mrprism.agreement.copies import Copies
    from mrprism.core.names import safe_names
    from mrprism.datasets.digest import masks_digest
    from mrprism.fusion.folder import fuse_folder

    def file_names(names: Sequence[str]) -> list[str]:
        return list(safe_names(names).values())

    data = opened(dataset)
    if len(data.task.raters) < 2:
        raise InputError(f"data set '{data.path or data.name}' has one rater only; fusing needs two or more")
    copies, patients = Copies(data), data.groups
    fused = fuse_folder(
        data,
        data.task,
        named(out),
        method,
        names=data.names,
        file_names=file_names,
        groups=[patients[name] for name in data.names],
        masks_sha256=masks_digest(data),
        pooled=pooled,
        margin=margin,
        each=each,
        look=copies,
        workers=Workers(jobs, on),
        **options,
    )
    return replace(fused, copies=copies.say())


def fuse_masks(
    paths: Sequence[AnyPath],
    method: str = "staple",
    out: AnyPath = "fused",
    *,
    margin: int | None = EDGE,
    **options: Any,
) -> tuple[FusedFiles, Rows[SkillRow]]:
    """Fuse mask files, one per rater, of one structure of one image, into a folder.

    Returns:
        What was written, and how far each rater can be trusted.

    Raises:
        InputError: Fewer than two files, files on different grids, or an unknown method.
    """
    from mrprism.fusion.files import fuse_files
    from mrprism.fusion.folder import CLAIM, write_skill
    from mrprism.fusion.skill_table import skill_table
    from mrprism.output.folders import complete_set
    from mrprism.output.lock import alone

    files, place = given.paths(paths, "mask files, one a rater"), named(out)
    if twice := next((path for at, path in enumerate(files) if path in files[:at]), None):
        raise InputError(f"'{twice}' is given twice; expected each rater's mask once")
    with alone(place):
        if (place / CLAIM).exists():
            raise InputError(f"'{place}' holds the fusion of a data set; expected a new folder")
        older = ("consensus.*", "probability.*", "skill.*")
        with complete_set(place, "fusion", older, last=("skill.json",)) as new:
            fused = fuse_files(files, method, new, margin=margin, **options)
            rows = skill_table(fused.counts[None, :, None], _rater_names(files), ["mask"], ["case"])
            write_skill(new, rows)
    mask, probability = place / fused.mask.name, place / fused.probability.name
    return replace(fused, mask=mask, probability=probability), rows


def _rater_names(paths: Sequence[Path]) -> list[str]:
    """File names without ending; whole paths where those repeat."""
    stems = [stem(path) for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
