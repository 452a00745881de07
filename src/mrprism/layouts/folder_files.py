"""The files of a folder by raters, readings and cases, before any of them is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.names import spoken
from mrprism.datasets.dicom import dicom_files
from mrprism.datasets.open_image import is_series
from mrprism.datasets.tree import entries, folders, natural, stem
from mrprism.images import format_of
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import Spelling
from mrprism.output.commands import option

_SAID = 8  # files in one message


@dataclass(frozen=True)
class Picture:
    name: str
    path: Path | None  # None: there are masks only


Files = dict[tuple[str, str], Path]  # (folded case, structure or "" for all of them)


class Tree:
    """Files of a folder by the cases they are of."""

    def __init__(self, ledger: Ledger, suffixes: tuple[str, ...], deep: bool) -> None:
        self.ledger, self.suffixes, self.deep = ledger, suffixes, deep

    def pictures(self, folder: Path) -> dict[str, Picture]:
        """The images, by their folded names; a folder of DICOM slices is one."""
        found: dict[str, Picture] = {}
        for name, path in self._named(folder, series=True):
            self._once(found, name, Picture(name, path), path)
            self.ledger.take_all(dicom_files(path) if path.is_dir() else [path])
        return found

    def masks(self, folder: Path) -> dict[str, Path]:
        """The masks of one folder, by the folded names of their cases."""
        found: dict[str, Picture] = {}
        for name, path in self._named(folder):
            self._once(found, name, Picture(name, path), path)
        return {key: self.ledger.take(path) for key, path in _paths(found)}

    def instead(self, folder: Path) -> str:
        """What a folder without images holds, to be said behind that it has none."""
        other = next((p for inner in folders(folder) for p in entries(inner) if p.is_file()), None)
        if other is None:
            return ""
        deeper = "; -o deep=yes reads folders within" if other.parent != folder and format_of(other) else ""
        return f" but '{self.ledger.named(other)}'{deeper}"

    def _named(self, folder: Path, *, series: bool = False, before: str = "") -> Iterator[tuple[str, Path]]:
        for path in entries(folder):
            if path.is_file():
                if format_of(path):
                    yield before + self.stem(path), path
            elif series and is_series(path):
                yield before + path.name, path
            elif self.deep:
                yield from self._named(path, series=series, before=f"{before}{path.name}/")

    def stem(self, path: Path) -> str:
        """What a file is called, without its ending and the suffix that was told."""
        name = stem(path)
        for suffix in self.suffixes:
            if name.lower().endswith(suffix.lower()) and len(name) > len(suffix):
                return name[: -len(suffix)]
        return name

    def _once(self, found: dict[str, Picture], name: str, picture: Picture, path: Path) -> None:
        other = found.setdefault(spoken(name), picture)
        if other is not picture:
            how_ = (
                "have the same name but for the ending"
                if other.name == name
                else "belong to one case by their names"
            )
            raise InputError(f"'{other.path}' and '{path.name}' {how_}; expected one of them")


def _paths(found: dict[str, Picture]) -> Iterator[tuple[str, Path]]:
    return ((key, picture.path) for key, picture in found.items() if picture.path is not None)


def readings_of(files: dict[str, Files], endings: str) -> tuple[dict[str, Files], list[dict[str, Files]]]:
    """The first reading of every rater, and each further one by the names of the raters."""
    first = dict(files)
    again: list[dict[str, Files]] = []
    for number, ending in enumerate([e.strip() for e in endings.split(",") if e.strip()], start=2):
        folders_ = [name for name in files if name.endswith(ending) and name != ending]
        if not folders_:
            raise InputError(
                f"no folder ends in '{ending}'; expected reading {number} in such, as -o readings= says"
            )
        found = {}
        for name in folders_:
            rater = name.removesuffix(ending)
            if rater not in files:
                raise InputError(
                    f"'{name}' is reading {number} by '{rater}', but there is no folder '{rater}'"
                )
            found[rater] = first.pop(name)
            for case, part in found[rater]:
                if not any(drawn == case for drawn, _ in files[rater]):
                    path = found[rater][case, part]
                    raise InputError(
                        f"'{path}' is reading {number} by '{rater}' of a case for which '{rater}' has no first reading"
                    )
        again.append(found)
    return first, again


def without_images(tree: Tree, files: dict[str, Files], source: Path) -> dict[str, Picture]:
    """The cases there are masks of."""
    found: dict[str, Picture] = {}
    for masks in files.values():
        for (case, _), path in masks.items():
            name = case if tree.deep else tree.stem(path)
            found.setdefault(case, Picture(name, None))
    if not found:
        raise InputError(f"folder '{source}' has neither a folder 'images' nor a mask")
    return dict(sorted(found.items(), key=lambda item: natural(item[1].name)))


def masks_of(
    tree: Tree,
    others: list[Path],
    structure: str,
    named: tuple[str, ...],
    known: set[str] | None,
    images: str,
) -> dict[str, Files]:
    """The masks of every rater, and of the reference; ``known`` is None where there are no images."""
    some = known or set()
    plain = (
        {p: tree.masks(p) for p in others}
        if not tree.deep
        else {p: _plain(tree, p, some) if known is not None else tree.masks(p) for p in others}
    )
    parts = {p: {i: f for i in entries(p) if i.is_dir() and (f := _part(tree, i, some))} for p in others}
    structured = any(parts[p] and not plain[p] for p in others)
    mixed = [p for p in others if parts[p] and plain[p]]
    if mixed and all(parts[p] for p in others if plain[p] or parts[p]) and not structured:
        inner = next(iter(parts[mixed[0]]))
        raise InputError(
            f"'{mixed[0]}' has masks and beside them folders of masks, such as '{inner.name}'; expected masks of one "
            "structure, or a folder for each"
        )
    if structured and named:
        first = next(p for p in others if parts[p] and not plain[p])
        raise InputError(
            f"'{first}' has folders for structures; expected files that hold {', '.join(named)} together, as told"
        )
    spelling = Spelling(tree.ledger)
    files: dict[str, Files] = {}
    for folder in others:
        found: Files = {}
        if structured:
            for part, masks in parts[folder].items():
                found |= {(name, spelling.of(part.name, folder)): path for name, path in masks.items()}
        else:
            found = {(name, "" if named else structure): path for name, path in plain[folder].items()}
        unused = plain[folder].values() if structured else _all(parts[folder])
        why = (
            "beside folders for structures"
            if structured
            else "in a folder beside masks, and no other rater has such"
        )
        for path in unused:
            tree.ledger.leave(path, why, rater=folder.name)
        if not found and (other := _first_file(folder, set(unused))):
            raise InputError(
                f"'{folder}' holds no mask but '{other.name}'; expected beside '{images}' a folder of masks for each rater "
                f"and nothing else, or {option('without', folder.name)}"
            )
        files[folder.name] = found
    if known is not None:
        _strange(tree, files, known, images)
    return files


def _plain(tree: Tree, folder: Path, known: set[str]) -> dict[str, Path]:
    """Of a deep folder, the masks whose place is that of an image."""
    return {name: path for name, path in tree.masks(folder).items() if name in known or "/" not in name}


def _part(tree: Tree, folder: Path, known: set[str]) -> dict[str, Path]:
    """The masks of a folder that may be a structure's; none if, in a deep tree, images have such a folder."""
    if tree.deep and any(name.startswith(f"{spoken(folder.name)}/") for name in known):
        return {}
    return tree.masks(folder)


def _all(parts: dict[Path, dict[str, Path]]) -> list[Path]:
    return [path for masks in parts.values() for path in masks.values()]


def _first_file(folder: Path, but: set[Path]) -> Path | None:
    inside = (path for inner in folders(folder) for path in entries(inner))
    return next((path for path in inside if path.is_file() and path not in but), None)


def _strange(tree: Tree, files: dict[str, Files], known: set[str], images: str) -> None:
    """Every mask has an image, or all that have none are named, with the option that would help."""
    strange = [
        (rater, path, name)
        for rater, found in files.items()
        for (name, _), path in found.items()
        if name not in known
    ]
    if not strange:
        return
    rater, path, _ = strange[0]
    if len(strange) == 1:
        text = f"'{rater}' has a mask '{path.name}' for which there is no image in '{images}'"
    else:
        some = ", ".join(f"'{tree.ledger.named(p)}'" for _, p, _ in strange[:_SAID])
        more = ", ..." if len(strange) > _SAID else ""
        text = f"{len(strange)} masks have no image in '{images}': {some}{more}"
    raise InputError(text + _suffix_hint([name for _, _, name in strange], known))


def _suffix_hint(strange: list[str], known: set[str]) -> str:
    """The suffixes that would bring masks and images together, if there are such."""
    pairs = set()
    by_start: dict[str, list[str]] = {}
    for name in known:
        by_start.setdefault(re.split(r"[-_. ]", name)[0], []).append(name)
    for name in strange:
        near = known & {name[:n] for n in range(1, len(name))}
        if near:
            best = max(near, key=len)
            pairs.add(("", name[len(best) :]))
            continue
        alike = by_start.get(re.split(r"[-_. ]", name)[0], [])
        if len(alike) != 1:
            return ""
        start = len(re.split(r"[-_. ]", name)[0])
        pairs.add((alike[0][start:], name[start:]))
    endings = {end for pair in pairs for end in pair if end}
    if not endings or len(endings) > 4:
        return ""
    return f"; if these belong together, {option('suffix', ','.join(sorted(endings)))} takes the endings off"
