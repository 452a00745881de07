"""What is wrong in a data set's `decisions/`: files that were damaged, or that are about something else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.datasets.decision import ID, Decision, standing_of
from mrprism.datasets.decisions import Decisions
from mrprism.datasets.flags import FOLDER as FLAGS
from mrprism.datasets.flags import read_flags
from mrprism.datasets.manifest import Fault, Manifest
from mrprism.images import ImageFile


def decision_faults(root: Path, manifest: Manifest) -> Iterator[Fault]:
    """Every fault of the decisions, and what nobody will ever read."""
    decisions = Decisions(root, manifest)
    folder = decisions.folder
    if not os.path.lexists(folder):
        return
    try:
        decisions.inside(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (InputError, OSError) as error:
        yield Fault("error", str(folder), None, _sentence(error, folder))
        return
    known = {decisions.place(case.name).name: case.name for case in manifest.cases}
    for entry in entries:
        place = Path(entry.path)
        if entry.name in known:
            yield from _of_case(decisions, known[entry.name], place)
        elif entry.name == FLAGS:
            yield from _flags(decisions, place)
        elif entry.is_dir(follow_symlinks=False):
            sentence = (
                f"'{place}' holds decisions of a case that is not in the data set; expected the folder of one of its "
                "cases: bring the case back under its old name, or move the folder away"
            )
            yield Fault("warning", str(place), None, sentence)
        elif not entry.name.startswith("."):  # such are locks, and files being written
            yield Fault("warning", str(place), None, f"'{place}' is no decision, and is not read")


def _flags(decisions: Decisions, folder: Path) -> Iterator[Fault]:
    """Flags that cannot be read, and flags of cases that are gone."""
    names = {case.name for case in decisions.manifest.cases}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.name.startswith("."):
            continue
        try:
            gone = sorted(set(read_flags(decisions, file).cases) - names)
        except (InputError, OSError) as error:
            yield Fault("error", str(file), None, _sentence(error, file))
            continue
        if gone:
            sentence = f"'{file}' notes something of {len(gone)} cases that are not in the data set, such as '{gone[0]}'"
            yield Fault("warning", str(file), None, sentence)


def _of_case(decisions: Decisions, case: str, place: Path) -> Iterator[Fault]:
    try:
        decisions.inside(place)
        names = sorted(os.listdir(place))
    except (InputError, OSError) as error:
        yield Fault("error", str(place), case, _sentence(error, place))
        return
    kept: list[Decision] = []
    broken = False
    for name in names:
        if name.endswith(".json") and ID.fullmatch(name[:-5]):
            try:
                kept.append(decisions.one(place / name, case))
            except (InputError, OSError) as error:
                broken = True
                yield Fault("error", str(place / name), case, _sentence(error, place / name))
    yield from _masks(decisions, kept, place, case)
    yield from _lost(kept, place, case)
    named = {f"{one.id}.json" for one in kept} | {one.mask for one in kept}
    for name in names:
        path = place / name
        if name in named or name.startswith("."):
            continue
        if name.endswith(".json"):
            if not ID.fullmatch(name[:-5]):
                yield Fault("warning", str(path), case, f"'{path}' is no decision, and is not read")
            continue
        if broken:  # it may be the mask of what cannot be understood
            continue
        sentence = f"'{path}' belongs to no decision: a program was stopped while it saved, or the JSON beside it is gone"
        yield Fault("warning", str(path), case, sentence)


def _masks(decisions: Decisions, kept: list[Decision], place: Path, case: str) -> Iterator[Fault]:
    """Masks that are not there, not what was saved, or of another size or place than the image."""
    like: ImageFile | None = None
    looked: set[str] = set()
    for one in kept:
        if one.mask in looked:
            continue
        looked.add(one.mask)
        file = place / one.mask
        try:
            like = decisions.grid(case) if like is None else like
        except (InputError, OSError):
            return  # the image itself cannot be read, which is told elsewhere
        try:
            decisions.mask(one, like)
        except (InputError, OSError) as error:
            yield Fault("error", str(file), case, _sentence(error, file))


def _lost(kept: list[Decision], place: Path, case: str) -> Iterator[Fault]:
    """Saves that others go on from and that are gone, and structures in conflict."""
    there = {one.id for one in kept} | {id for one in kept for id in one.replaces}
    gone = Counter(id for one in kept for id in {*one.parents, one.origin} - there)
    for id, times in sorted(gone.items()):
        sentence = (
            f"'{place}' lacks decision '{id}', from which {times} other{'s go' if times > 1 else ' goes'} on"
        )
        yield Fault("warning", str(place), case, sentence)
    for structure in sorted({one.structure for one in kept}):
        standing = standing_of(one for one in kept if one.structure == structure)
        if standing.conflict:
            who = " and ".join(sorted({f"'{head.who}'" for head in standing.heads}))
            sentence = (
                f"'{structure}' of case '{case}' is in conflict between {who}, and does not count as settled"
            )
            yield Fault("warning", str(place), case, sentence)


def _sentence(error: Exception, path: Path) -> str:
    if isinstance(error, OSError):
        return f"'{path}' cannot be read: {(error.strerror or str(error)).lower()}"
    return str(error)
