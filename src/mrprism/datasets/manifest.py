"""`dataset.json`: which images there are, who outlined what on them, and where the files lie."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.files import kind_of_no_file, plain_file
from mrprism.datasets.links import ALLOWED, leads_outside
from mrprism.images import limit_text
from mrprism.images.content import check_window

FORMAT: Literal["mrprism-dataset/1"] = "mrprism-dataset/1"
MANIFEST = "dataset.json"
OWN = "mrprism.json"  # the same, where another tool's dataset.json lies beside it

_SHOULD = "Input should be "
_KIND = re.compile(
    r"(dict|list)\[|(constrained-)?str$|function-"
)  # what pydantic tries, which is no place in a file

Name = Annotated[str, Field(min_length=1)]


def _rises(window: tuple[float, float]) -> tuple[float, float]:
    try:
        return check_window(window, "the window")
    except InputError as error:
        raise ValueError(str(error)) from error


Window = Annotated[tuple[float, float], AfterValidator(_rises)]
Drawn = dict[Name, Name] | Name  # a file for each structure, or one label map


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Rater(BaseModel):
    """A rater with remarks; only the name is read."""

    model_config = ConfigDict(extra="allow", strict=True)
    name: Name


class Case(_Strict):
    """One image and the files of those who outlined it."""

    name: Name
    image: Name | Annotated[list[Name], Field(min_length=1)] | None = Field(
        default=None,
        description="a file, or one file per channel. Without it there are masks only, all of one size",
    )
    masks: dict[Name, Drawn] = Field(
        default_factory=dict,
        description="rater: {structure: file}, or rater: label map. A rater who did not do the case, or "
        "a structure of it, is left out; a rater who saw nothing has a mask that is all zero",
    )
    readings: dict[Name, Annotated[list[Drawn], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="rater: the masks of a second, third, ... reading of the case by the same rater, each as "
        "in `masks`; they are measured against the first and never fused or voted with",
    )
    reference: Drawn | None = Field(default=None, description="an arbitrated mask, which is nobody's own")
    votes: dict[Name, Name] | None = Field(
        default=None, description="structure: file whose values say how many of `voters` marked the pixel"
    )
    voters: int | None = Field(default=None, ge=1)
    group: Name | None = Field(default=None, description="the patient; cases of one group stay in one split")
    split: Literal["train", "val", "test"] | None = None
    spacing_mm: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = Field(
        default=None, description="pixel size along each axis: row, column or slice, row, column"
    )
    diagnosis: Literal[0, 1] | None = Field(default=None, description="a case label such as glaucoma")
    window: Window | None = Field(default=None, strict=False, description="as for the data set")

    @model_validator(mode="after")
    def _votes_have_voters(self) -> Case:
        if (self.votes is None) != (self.voters is None):
            raise ValueError("votes and voters belong together")
        return self

    @property
    def images(self) -> list[str]:
        """The files of the image, one for all channels or one for each; none where there are masks only."""
        if self.image is None:
            return []
        return [self.image] if isinstance(self.image, str) else list(self.image)


class Manifest(_Strict):
    """The whole of `dataset.json`."""

    format: Literal["mrprism-dataset/1"]
    name: Name
    channels: list[Name] = Field(description="of the images; [] where no case has one")
    structures: list[Name] = Field(min_length=1)
    raters: list[Name | Rater]
    anonymous: bool = Field(
        default=False, description="raters are slots, not the same persons from case to case"
    )
    labels: dict[Name, list[int]] | None = Field(
        default=None,
        description="for label maps: the values that make up each structure; structures may share some",
    )
    window: Window | None = Field(
        default=None,
        strict=False,
        description="the file values that become 0 and 1; without it see the images' rule",
    )
    description: str | None = None
    cases: list[Case]

    @property
    def rater_names(self) -> tuple[str, ...]:
        return tuple(r if isinstance(r, str) else r.name for r in self.raters)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, or worth a look, in a data set."""

    severity: Literal["error", "warning"]
    file: str
    case: str | None
    sentence: str
    found: str | None = None
    expected: str | None = None
    rater: str | None = None  # whose mask it is about


@dataclass(frozen=True)
class File:
    """One file a case names: what it is for, and its path as written."""

    case: str
    role: Literal["image", "mask", "reference", "votes"]
    path: str
    rater: str | None = None
    structure: str | None = None  # None: a label map
    reading: int = 1  # 2, 3, ...: the same rater, asked again


def manifest_path(path: str | Path) -> Path:
    """The manifest of a data set given by its folder or by the manifest itself."""
    path = given.path(path, "the path of a data set")
    if path.is_dir():
        for name in (OWN, MANIFEST):
            if plain_file(path / name).is_file():
                return path / name
        raise InputError(
            f"folder '{path}' has no {MANIFEST}; expected a mrprism data set "
            "(see mrprism import, or docs/how-to/your-own-folder.md)"
        )
    if not plain_file(path).is_file():
        raise InputError(f"data set '{path}' does not exist; expected a folder with a {MANIFEST}")
    return path


def load(path: Path) -> tuple[Manifest | None, list[Fault]]:
    """Read a manifest and everything that is wrong with it, short of opening the images."""
    text = str(path)
    try:
        limit_text(path, path.stat().st_size)
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_no_twins)
    except (OSError, UnicodeDecodeError) as error:
        return None, [Fault("error", text, None, f"'{text}' cannot be read: {error}")]
    except (ValueError, RecursionError) as error:
        expected = f"expected a data set: its folder or its {MANIFEST} (mrprism import makes one)"
        return None, [Fault("error", text, None, f"'{text}' is not valid JSON: {error}; {expected}")]
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        return None, [_named(text, document, item) for item in _plain(error.errors(include_url=False))]
    return manifest, [*_contents(text, manifest), *_paths(path.parent, manifest)]


def files(case: Case) -> Iterator[File]:
    """Every file a case names."""
    for image in case.images:
        yield File(case.name, "image", image)
    for rater, drawn in case.masks.items():
        for structure, path in _drawn(drawn):
            yield File(case.name, "mask", path, rater, structure)
    for rater, again in case.readings.items():
        for reading, drawn in enumerate(again, start=2):
            for structure, path in _drawn(drawn):
                yield File(case.name, "mask", path, rater, structure, reading)
    for structure, path in _drawn(case.reference):
        yield File(case.name, "reference", path, None, structure)
    for structure, path in (case.votes or {}).items():
        yield File(case.name, "votes", path, None, structure)


def of_several(cases: Iterable[Case]) -> Iterator[str]:
    """Files that are named as the masks of several raters, cases or structures, a sentence each."""
    named: dict[str, dict[str, None]] = {}
    for case in cases:
        for entry in files(case):
            if entry.role == "mask":
                what = f"'{entry.structure}' " if entry.structure else ""
                named.setdefault(entry.path, {})[f"{what}by '{entry.rater}' on '{case.name}'"] = None
    for path, uses in named.items():
        if len(uses) > 1:
            first, second, *more = uses
            rest = f" and {len(more)} more" if more else ""
            yield f"file '{path}' is the mask of {first} and of {second}{rest}: are they one?"


def schema() -> dict[str, Any]:
    """The JSON schema of `dataset.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def _drawn(drawn: Drawn | None) -> list[tuple[str | None, str]]:
    if drawn is None:
        return []
    return [(None, drawn)] if isinstance(drawn, str) else list(drawn.items())


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON keeps the last of two equal keys; a rater named twice would vanish silently."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key '{key}' appears twice in one object")
        seen[key] = value
    return seen


def _plain(errors: Iterable[Any]) -> list[dict[str, Any]]:
    """Errors by their places in the document; what may be one of two kinds, and is neither, is one error."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for item in errors:
        place = tuple(part for part in item["loc"] if not _KIND.match(str(part)))
        kept = found.setdefault(place, {**item, "loc": place})
        if kept["msg"] != item["msg"] and kept["msg"].startswith(_SHOULD) and item["msg"].startswith(_SHOULD):
            kept["msg"] += f" or {item['msg'].removeprefix(_SHOULD)}"
    return list(found.values())


def _named(file: str, document: Any, item: Any) -> Fault:
    place, case = list(item["loc"]), None
    if len(place) >= 2 and place[0] == "cases" and isinstance(place[1], int):
        raw = document["cases"][place[1]]
        named = raw.get("name") if isinstance(raw, dict) else None
        case = named if isinstance(named, str) else f"number {place[1] + 1}"
        place = place[2:]
    where = ".".join(str(p) for p in place) or "the whole"
    message = str(item["msg"]).removeprefix("Value error, ")
    of = f" of case '{case}'" if case else ""
    found = "" if item["type"] == "missing" else f", found {_short(item['input'])}"
    return Fault(
        "error",
        file,
        case,
        f"'{file}': {where}{of}: {message}{found}",
        None if item["type"] == "missing" else _short(item["input"]),
        message,
    )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _contents(file: str, manifest: Manifest) -> Iterator[Fault]:
    def fault(sentence: str, case: str | None = None, expected: str | None = None) -> Fault:
        return Fault("error", file, case, f"'{file}': {sentence}", None, expected)

    raters, structures = manifest.rater_names, manifest.structures
    for what, names in (("rater", raters), ("structure", structures), ("channel", manifest.channels)):
        for name in _repeated(list(names)):
            yield fault(f"{what} '{name}' is listed twice")
    if not manifest.cases:
        yield fault("the data set is empty: no cases")
    for name in _repeated([case.name for case in manifest.cases]):
        yield fault(f"case '{name}' appears twice", name)
    for structure in manifest.labels or {}:
        if structure not in structures:
            yield fault(f"labels name the structure '{structure}'; known: {', '.join(structures)}")
    known_raters = ", ".join(raters) or "none"
    known_structures = ", ".join(structures)
    for case in manifest.cases:
        of = f"case '{case.name}'"
        for rater in dict.fromkeys([*case.masks, *case.readings]):
            if rater not in raters:
                yield fault(
                    f"{of} has a mask of the unknown rater '{rater}'; known: {known_raters}", case.name
                )
        for rater in case.readings:
            if rater in raters and rater not in case.masks:
                yield fault(
                    f"{of} has a second reading by '{rater}' and no first; expected the first in masks",
                    case.name,
                )
        if case.image is not None and not manifest.channels:
            yield fault(
                f"{of} has an image, but channels is empty; expected the names of its channels", case.name
            )
        if next(files(case), None) is None:
            yield fault(f"{of} has neither an image nor a mask; expected at least one of them", case.name)
        if isinstance(case.image, list) and manifest.channels and len(case.image) != len(manifest.channels):
            yield fault(
                f"{of} has {len(case.image)} image files; expected one for each of the "
                f"{len(manifest.channels)} channels",
                case.name,
            )
        for entry in files(case):
            if entry.structure is not None and entry.structure not in structures:
                yield fault(
                    f"{of} has a {entry.role} of the unknown structure '{entry.structure}'; "
                    f"known: {known_structures}",
                    case.name,
                )
            if entry.role in ("mask", "reference") and entry.structure is None:
                absent = [s for s in structures if s not in (manifest.labels or {})]
                if absent:
                    yield fault(
                        f"{of} gives a label map '{entry.path}', but labels does not say which values "
                        f"are {', '.join(absent)}",
                        case.name,
                    )


def _paths(root: Path, manifest: Manifest) -> Iterator[Fault]:
    real = os.path.realpath(root)
    for case in manifest.cases:
        for entry in files(case):
            sentence = _leaves(root, real, entry.path)
            is_there = (
                os.path.exists if entry.role == "image" else os.path.isfile
            )  # a DICOM series is a folder
            if sentence is None and not is_there(root / entry.path):  # Path.is_file raises on long names
                kind = kind_of_no_file(root / entry.path)
                sentence = f"is {kind}" if kind else "does not exist"
            if sentence is not None:
                yield Fault(
                    "error",
                    str(root / entry.path),
                    case.name,
                    f"{entry.role} '{entry.path}' of case '{case.name}' {sentence}",
                    None,
                    "a file inside the data set's folder",
                )


def _leaves(root: Path, real: str, path: str) -> str | None:
    parts = PurePosixPath(path)
    if parts.is_absolute() or "\\" in path or ":" in parts.parts[0] or "\0" in path:
        return "is not a relative path with forward slashes"
    if ".." in parts.parts:
        return "leaves the data set's folder"
    if target := leads_outside(root / path, real):
        return f"leaves the data set's folder through a link, to '{target}'; {ALLOWED}"
    return None


def _repeated(names: list[str]) -> list[str]:
    seen: set[str] = set()
    twice: list[str] = []
    for name in names:
        if name in seen and name not in twice:
            twice.append(name)
        seen.add(name)
    return twice
