"""BU-BIL: cells and aortas outlined by seven crowd workers and three to ten experts.

Forms: `setK/{images,gold,crowd,experts}` (K = 1, 3, 4, 6; masks already cut to the crowd's window), and
the original `BU-BIL_DatasetK/{RawImages,GoldStandard,ExpertsAnnotations,CrowdsourcedAnnotations}`, whose
masks are inverted (object 0) and whose crowd masks are windows cut from the image: those can be used
only with a `crop_offsets.json` ({case: {y, x, h, w}}) beside them, which then cuts everything else.

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
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.tree import entries, matching, natural, needed, subfolder
from mrprism.images import read_image, read_mask
from mrprism.layouts.marks import read_json
from mrprism.layouts.source import Source

STRUCTURE = "object"
_WHO = ("crowd", "experts", "persons", "all")


def read(source: Path, *, set: str = "all", raters: str = "crowd", tool: str = "Amira") -> Source:
    """Read one set or all of them.

    Args:
        set: 1, 2, ... or "all". Case and expert names then begin with the set's.
        raters: "crowd" (anonymous slots), "experts" (person and tool), "persons" (each expert once,
            with ``tool`` where there are several) or "all" (crowd and experts).
    """
    if raters not in _WHO:
        raise InputError(f"unknown raters '{raters}'; known: {', '.join(_WHO)}")
    sets = _sets(source)
    if set != "all":
        if set not in sets:
            raise InputError(f"folder '{source}' has no set '{set}'; it has {', '.join(sets)}")
        sets = {set: sets[set]}
    cases: list[_Case] = []
    for key, folder in sets.items():
        prefix = f"set{key} " if set == "all" else ""
        found = _packed(folder) if (folder / "images").is_dir() else _original(folder, raters)
        cases += [_select(case, prefix, raters, tool) for case in found]
    names = sorted({rater for case in cases for rater in case.masks}, key=natural)
    task = Task(1, (STRUCTURE,), tuple(names), anonymous=raters in ("crowd", "all"))
    notes = ["the gold standard is a fusion of the experts"] if raters != "crowd" else []
    return Source(f"bu-bil-{set}-{raters}", task, _samples(cases, task), notes=notes)


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


def _packed(folder: Path) -> list[_Case]:
    masks: dict[str, dict[str, Path]] = {}
    for match, path in matching(needed(folder, "crowd"), r"(.+)_c(\d+)\.png"):
        masks.setdefault(match[1].lower(), {})[f"crowd {match[2]}"] = path
    for match, path in matching(needed(folder, "experts"), r"(.+?)_((?:Person|Expert)\d+(?:_.+)?)\.png"):
        masks.setdefault(match[1].lower(), {})[match[2].replace("_", " ")] = path
    gold = {m[1].lower(): p for m, p in matching(needed(folder, "gold"), r"(.+)\.png")}
    return [
        _Case(m[1], path, gold.get(m[1].lower()), masks.get(m[1].lower(), {}))
        for m, path in matching(needed(folder, "images"), r"(.+)\.png")
    ]


def _original(folder: Path, raters: str) -> list[_Case]:
    offsets = _offsets(folder / "crop_offsets.json")
    drawn: dict[str, dict[str, Path]] = {}
    experts = subfolder(folder, "ExpertsAnnotations", "ExpertAnnotations")
    for person in entries(experts) if experts else []:
        for match, path in matching(person, r"(?:seg_)?(.+)\.png") if person.is_dir() else []:
            drawn.setdefault(match[1].lower(), {})[person.name.replace("_", " ")] = path
    crowd = subfolder(folder, "CrowdsourcedAnnotations")
    if raters in ("crowd", "all") and crowd is not None:
        if not offsets:
            raise InputError(
                f"the crowd masks in '{crowd}' are windows cut from the images; "
                f"expected '{folder / 'crop_offsets.json'}' to say where, or --raters experts"
            )
        for match, slot in matching(crowd, r"mturk_annotation\d+-(\d+)"):
            for name, path in matching(slot, r"(?:seg_)?(.+)\.png"):
                drawn.setdefault(name[1].lower(), {})[f"crowd {match[1]}"] = path
    gold = {m[1].lower(): p for m, p in matching(needed(folder, "GoldStandard"), r"(?:seg_)?(.+)\.png")}
    cases = []
    for m, path in matching(needed(folder, "RawImages"), r"(.+)\.[^.]+"):
        key = m[1].lower()
        cases.append(_Case(m[1], path, gold.get(key), drawn.get(key, {}), True, offsets.get(key)))
    return cases


def _offsets(path: Path) -> dict[str, tuple[int, int, int, int]]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        found = {k.lower(): (int(v["y"]), int(v["x"]), int(v["h"]), int(v["w"])) for k, v in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"'{path}' is broken: {error}; expected y, x, h, w for each case") from error
    for case, (y, x, h, w) in found.items():
        if min(y, x) < 0 or min(h, w) < 1:
            raise InputError(
                f"'{path}' has the window {y}, {x}, {h}, {w} for '{case}'; expected one inside the image"
            )
    return found


def _select(case: _Case, prefix: str, raters: str, tool: str) -> _Case:
    kept: dict[str, Path] = {}
    for rater, path in case.masks.items():
        if rater.startswith("crowd"):
            if raters in ("crowd", "all"):
                kept[rater] = path
        elif raters in ("experts", "all"):
            kept[prefix + rater] = path
        elif raters == "persons":
            person, _, with_tool = rater.partition(" ")
            if with_tool in ("", tool):
                kept[prefix + person] = path
    return replace(case, name=prefix.replace(" ", "/") + case.name, masks=kept)


def _samples(cases: list[_Case], task: Task) -> Iterator[MultiRaterSample]:
    for case in cases:
        image = read_image(case.image).array
        image = image[:1] if all(np.array_equal(image[0], other) for other in image[1:]) else image
        if len(image) != 1:
            raise InputError(f"image '{case.image}' is coloured; expected grey")
        if case.window is not None:
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
