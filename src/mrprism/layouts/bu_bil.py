"""BU-BIL: cells and aortas outlined by seven crowd workers and three to ten experts.

Forms: `setK/{images,gold,crowd,experts}` (K = 1, 3, 4, 6; masks already cut to the crowd's window), and
the original `BU-BIL_DatasetK/{RawImages,GoldStandard,ExpertsAnnotations,CrowdsourcedAnnotations}`, whose
masks are inverted (object 0) and whose crowd masks are windows cut from the image: those can be used
only with a `crop_offsets.json` ({case: {y, x, h, w}}) beside them, which then cuts everything else that is
not of the window's size already. Experts lie in `ExpertsAnnotations/PERSON_TOOL` or one level deeper, in `2A`.

Crowd slot k is another worker on every image, so the crowd is anonymous. An expert is a person with
a tool. The gold standard fuses the experts: it is independent of the crowd and not of the experts.

Source: Gurari et al., WACV 2015, doi:10.1109/WACV.2015.160. Boston University 2014, BSD-4-style.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.names import spoken
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import folders, matching, natural, needed, subfolder
from mrprism.images import format_of, read_image, read_mask
from mrprism.layouts.fields import Ids, of_kind, whole
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.marks import read_json
from mrprism.layouts.source import Source

STRUCTURE = "object"
_PERSONS = ("Person", "Expert")
_GOLD = " gold"  # no rater's name
_NAMED = r"(?:seg_)?(.+)\.[^.]+"
_WHO = ("crowd", "experts", "persons", "all")


def read(
    source: Path, ledger: Ledger, *, set: str = "all", raters: str = "crowd", tool: str = "Amira"
) -> Source:
    """Read one set or all of them.

    Args:
        set: 1, 2, ... or "all". Case and expert names then begin with the set's.
        raters: "crowd" (anonymous slots), "experts" (person and tool), "persons" (each expert once,
            with ``tool`` where there are several) or "all" (crowd and experts).
    """
    if raters not in _WHO:
        raise InputError(f"unknown raters '{raters}'; known: {', '.join(_WHO)}")
    every = _sets(source)
    if set != "all" and set not in every:
        raise InputError(f"folder '{source}' has no set '{set}'; it has {', '.join(every)}")
    sets = every if set == "all" else {set: every[set]}
    cases: list[_Case] = []
    tools: dict[str, None] = {}
    for key, folder in every.items():
        if key not in sets:
            ledger.know(folder, "another set")
            continue
        prefix = f"set{key} " if set == "all" else ""
        packed = (folder / "images").is_dir()
        for case in _packed(folder, ledger) if packed else _original(folder, raters, ledger):
            tools.update(
                dict.fromkeys(rater.partition(" ")[2] for rater in case.masks if rater.startswith(_PERSONS))
            )
            cases.append(_select(case, prefix, raters, tool, ledger))
    names = sorted({rater for case in cases for rater in case.masks}, key=natural)
    if not names:
        asked = f"persons with the tool '{tool}'" if raters == "persons" else raters
        there = f"; experts used {', '.join(sorted(t for t in tools if t))}" if any(tools) else ""
        raise InputError(f"no mask by {asked} was found in '{source}'{there}")
    task = Task(1, (STRUCTURE,), tuple(names), anonymous=raters in ("crowd", "all"))
    notes = ["the gold standard is a fusion of the experts"] if raters != "crowd" else []
    return Source(f"bu-bil-{set}-{raters}", task, _samples(cases, task), notes=notes, count=len(cases))


@dataclass(frozen=True)
class _Case:
    name: str
    image: Path
    gold: Path | None
    masks: dict[str, Path] = field(default_factory=dict)
    inverted: bool = False
    window: tuple[int, int, int, int] | None = None  # y, x, h, w of the crowd's window in the image


def _sets(source: Path) -> dict[str, Path]:
    if (source / "images").is_dir() or (source / "RawImages").is_dir():
        found = re.search(r"(\d+)$", source.resolve().name)
        return {found[1] if found else "1": source}
    sets = {m[1]: p for m, p in matching(source, r"(?:set|BU-BIL_Dataset)(\d+)") if p.is_dir()}
    if not sets:
        raise InputError(f"folder '{source}' has no 'set1' or 'BU-BIL_Dataset1'; expected BU-BIL's layout")
    return sets


def _packed(folder: Path, ledger: Ledger) -> list[_Case]:
    masks = _Drawn(ledger)
    for match, path in matching(needed(folder, "crowd"), r"(.+)_c(\d+)\.png"):
        masks.add(match[1], f"crowd {match[2]}", path)
    for match, path in matching(needed(folder, "experts"), r"(.+?)_((?:Person|Expert)\d+(?:_.+)?)\.png"):
        masks.add(match[1], match[2].replace("_", " "), path)
    for match, path in matching(needed(folder, "gold"), r"(.+)\.png"):
        masks.add(match[1], _GOLD, path)
    ledger.know(folder / "crop_offsets.json", "where the crowd's window lay; everything is cut to it")
    return masks.cases(_files(needed(folder, "images"), r"(.+)\.png"), inverted=False, offsets={})


def _original(folder: Path, raters: str, ledger: Ledger) -> list[_Case]:
    offsets = _offsets(folder / "crop_offsets.json", ledger)
    masks = _Drawn(ledger)
    experts = subfolder(folder, "ExpertsAnnotations", "ExpertAnnotations")
    for person in folders(experts) if experts else []:  # of some sets one level deeper, in 2A and 2B
        if re.fullmatch(r"(?:Person|Expert)\d+(?:_.+)?", person.name, re.IGNORECASE):
            for name, path in _files(person, _NAMED):
                masks.add(name, person.name.replace("_", " "), path)
    crowd = subfolder(folder, "CrowdsourcedAnnotations")
    if crowd is not None and raters not in ("crowd", "all"):
        ledger.know(crowd, "the crowd was not asked for")
    elif crowd is not None:
        if not offsets:
            raise InputError(
                f"the crowd masks in '{crowd}' are windows cut from the images; "
                f"expected '{folder / 'crop_offsets.json'}' to say where, or --raters experts"
            )
        for slot in folders(crowd):
            match = re.fullmatch(r"mturk_annotation\d+[A-Z]?-(\d+)", slot.name, re.IGNORECASE)
            for name, path in _files(slot, _NAMED) if match else []:
                masks.add(name, f"crowd {match[1]}" if match else "", path)
    for name, path in _files(needed(folder, "GoldStandard"), _NAMED):
        masks.add(name, _GOLD, path)
    return masks.cases(_files(needed(folder, "RawImages"), r"(.+)\.[^.]+"), inverted=True, offsets=offsets)


def _files(folder: Path, pattern: str) -> list[tuple[str, Path]]:
    """Files of a folder and of those below, with what the bracket finds in their names."""
    found = (pair for inner in folders(folder) for pair in matching(inner, pattern))
    return [(match[1], path) for match, path in found if path.is_file() and format_of(path)]


class _Drawn:
    """Masks by the case they are of: one of a rater on each."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.masks: dict[str, dict[str, Path]] = {}

    def add(self, case: str, rater: str, path: Path) -> None:
        masks = self.masks.setdefault(spoken(case), {})
        if rater in masks:
            raise InputError(
                f"'{masks[rater]}' and '{path}' are both of '{case}' by '{rater}'; expected one of them"
            )
        masks[rater] = path

    def cases(
        self, images: list[tuple[str, Path]], *, inverted: bool, offsets: dict[str, tuple[int, int, int, int]]
    ) -> list[_Case]:
        """The images with their masks; a mask of no image is left out."""
        made: dict[str, _Case] = {}
        for name, path in images:
            key = spoken(name)
            if key in made:
                raise InputError(
                    f"'{made[key].image}' and '{path}' are one case by their names; expected one of them"
                )
            masks = self.masks.pop(key, {})
            gold = masks.pop(_GOLD, None)
            self.ledger.take_all([path, *([gold] if gold else [])])
            made[key] = _Case(name, path, gold, masks, inverted, offsets.get(name.lower()))
        for masks in self.masks.values():
            for rater, path in masks.items():
                self.ledger.leave(path, "a mask without an image", rater="" if rater == _GOLD else rater)
        return list(made.values())


def _offsets(path: Path, ledger: Ledger) -> dict[str, tuple[int, int, int, int]]:
    if not path.is_file():
        return {}
    found: Ids[tuple[int, int, int, int]] = Ids("window", path)
    for name, window in of_kind(read_json(ledger.take(path)), dict, f"'{path}'").items():
        y, x, h, w = (whole(window, key, f"the window of '{name}' in '{path}'") for key in "yxhw")
        found.add(name.lower(), (y, x, h, w))
    for case, (y, x, h, w) in found.items():
        if min(y, x) < 0 or min(h, w) < 1:
            raise InputError(
                f"'{path}' has the window {y}, {x}, {h}, {w} for '{case}'; expected one inside the image"
            )
    return found


def _select(case: _Case, prefix: str, raters: str, tool: str, ledger: Ledger) -> _Case:
    kept: dict[str, Path] = {}
    for rater, path in case.masks.items():
        name = _as_asked(rater, prefix, raters, tool)
        if name is None:
            ledger.know(path, "by raters who were not asked for")
            continue
        if name in kept:
            raise InputError(
                f"'{kept[name]}' and '{path}' are both by '{name}'; expected --raters experts, or one of them"
            )
        kept[name] = ledger.take(path)
    return replace(case, name=prefix.replace(" ", "/") + case.name, masks=kept)


def _as_asked(rater: str, prefix: str, raters: str, tool: str) -> str | None:
    """What a rater is called; None for one who was not asked for."""
    if rater.startswith("crowd"):
        return rater if raters in ("crowd", "all") else None
    if raters in ("experts", "all"):
        return prefix + rater
    person, _, used = rater.partition(" ")
    return prefix + person if raters == "persons" and used.lower() in ("", tool.lower()) else None


def _samples(cases: list[_Case], task: Task) -> Iterator[MultiRaterSample]:
    for case in cases:
        image = read_image(case.image).array
        image = image[:1] if all(np.array_equal(image[0], other) for other in image[1:]) else image
        if len(image) != 1:
            raise InputError(f"image '{case.image}' is coloured; expected grey")
        if case.window is not None and image.shape[1:] != case.window[2:]:  # of set 5 cut already
            y, x, h, w = case.window
            if y + h > image.shape[1] or x + w > image.shape[2]:
                raise InputError(
                    f"the window {y}, {x}, {h}, {w} of '{case.name}' reaches out of its image '{case.image}' "
                    f"of {image.shape[1]} x {image.shape[2]} pixels"
                )
            image = _cut(image, case.window)
        size = image.shape[1:]
        masks = np.zeros((len(task.raters), 1, *size), dtype=bool)
        rated = np.zeros((len(task.raters), 1), dtype=bool)
        for r, rater in enumerate(task.raters):
            if rater in case.masks:
                masks[r, 0], rated[r] = _mask(case, case.masks[rater], size), True
        reference = None if case.gold is None else _mask(case, case.gold, size)[None]
        yield MultiRaterSample(case.name, image, masks, rated, reference)


def _mask(case: _Case, path: Path, size: tuple[int, ...]) -> np.ndarray:
    mask = read_mask(path).array ^ case.inverted
    if mask.shape != size:
        mask = _cut(mask, case.window)
    if mask.shape != size:
        raise InputError(f"mask '{path}' has the size {mask.shape}, its image '{case.image}' {size}")
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if border.mean() > 0.5:
        found, other = ("0", "the other") if case.inverted else ("the other", "0")
        raise InputError(
            f"mask '{path}' seems inverted: taking {found} value as the object marks {border.mean():.0%} "
            f"of the image's border; expected {other} for the object"
        )
    return mask


def _cut(array: np.ndarray, window: tuple[int, int, int, int] | None) -> np.ndarray:
    if window is None:
        return array
    y, x, h, w = window
    return np.ascontiguousarray(array[..., y : y + h, x : x + w])
