"""A data set that stays where it lies: only the manifest is written, beside files that need no conversion."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.datasets.manifest import FORMAT, MANIFEST, OWN, Case, Drawn, Manifest, load
from mrprism.datasets.write import channel_names, manifest_text
from mrprism.images import follows_links
from mrprism.layouts.source import InPlace, Source
from mrprism.output.files import write_file
from mrprism.output.lock import alone_in


@alone_in("out")
def write_in_place(source: Source, out: Path, *, name: str) -> None:
    """Write a manifest that names the files of a data set where they are.

    Args:
        out: A new file, `dataset.json` or `mrprism.json`, in the folder that holds them or in one above it.

    Raises:
        InputError: The layout needs conversion, ``out`` is there already, or a file lies outside its folder.
    """
    here, task = check_in_place(source, out, name=name), source.task
    real = os.path.abspath if follows_links() else os.path.realpath
    root = Path(real(out.parent))

    def inside(path: str) -> str:
        full = Path(real(path))
        if not full.is_relative_to(root):
            raise InputError(
                f"'{path}' lies outside '{out.parent}'; expected '{out.name}' in a folder above it"
            )
        return full.relative_to(root).as_posix()

    manifest = Manifest(
        format=FORMAT,
        name=name,
        channels=list(source.channels or channel_names(task.channels)),
        structures=list(task.structures),
        raters=list(task.raters),
        anonymous=task.anonymous,
        labels={structure: list(values) for structure, values in here.labels.items()} or None,
        window=here.window,
        description="\n".join(source.notes) or None,
        cases=[_moved(case, inside) for case in here.cases],
    )
    write_file(out, manifest_text(manifest))
    _, faults = load(out)
    if faults:
        out.unlink()
        raise InputError(faults[0].sentence)


def check_in_place(source: Source, out: Path, *, name: str) -> InPlace:
    """What the manifest will say.

    Raises:
        InputError: The layout needs conversion, or ``out`` is there already or would not be found.
    """
    if source.here is None:
        raise InputError(f"'{name}' has files that must be converted; expected a new folder to write to")
    if out.name not in (MANIFEST, OWN):
        raise InputError(f"'{out}' would not be found again; expected the name {MANIFEST} or {OWN}")
    if out.exists():
        raise InputError(f"'{out}' exists already; expected a new file")
    return source.here


def _moved(case: Case, inside: Callable[[str], str]) -> Case:
    def drawn(found: Drawn) -> Drawn:
        return inside(found) if isinstance(found, str) else {s: inside(path) for s, path in found.items()}

    image = [inside(path) for path in case.images] if isinstance(case.image, list) else case.image
    image = inside(image) if isinstance(image, str) else image
    return case.model_copy(
        update={
            "image": image,
            "masks": {rater: drawn(found) for rater, found in case.masks.items()},
            "readings": {rater: [drawn(found) for found in again] for rater, again in case.readings.items()},
            "reference": None if case.reference is None else drawn(case.reference),
        }
    )
