"""One save of a decision, and how a structure stands after several."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mrprism.core.errors import InputError

FORMAT: Literal["mrprism-decision/1"] = "mrprism-decision/1"
LONGEST_NAME, LONGEST_NOTE = 80, 4000  # characters
MOST_STROKES = 200  # take one another's place; the next is kept, too

Status = Literal["open", "discuss", "agreed", "final"]
STATUSES: tuple[Status, ...] = ("open", "discuss", "agreed", "final")
SETTLED = ("agreed", "final")
Kind = Literal["fusion", "rater", "union", "intersection", "model", "reference", "empty"]
ID = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{8}")  # when, and what no other save has


def _person(name: str) -> str:
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"a name has 1 to {LONGEST_NAME} characters that can be printed, not {name!r}")
    return name


def _id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError(f"'{text[:60]}' is not the name of a decision")
    return text


def _mask_name(name: str) -> str:
    if not name.endswith((".png", ".nii.gz")) or not ID.fullmatch(name.partition(".")[0]):
        raise ValueError(f"'{name[:60]}' is not the name of a decision's mask")
    return name


Id = Annotated[str, AfterValidator(_id)]
Person = Annotated[str, AfterValidator(_person)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Start(_Strict):
    """What a decision began with."""

    kind: Kind
    of: str | None = Field(default=None, description="the fusion, the rater, or the run")

    @property
    def said(self) -> str:
        return self.kind if self.of is None else f"{self.kind} {self.of}"


class Decision(_Strict):
    """One save of one structure of one case, as `ID.json` holds it."""

    format: Literal["mrprism-decision/1"] = FORMAT
    id: Id
    case: str
    structure: str
    status: Status
    who: Person
    when: datetime = Field(strict=False)
    start: Start
    origin: Id = Field(description="the save that holds what it began with, before anything was changed")
    changed: int = Field(ge=0, description="pixels that differ from what it began with")
    marked: int = Field(ge=0, description="pixels inside")
    note: str = Field(default="", max_length=LONGEST_NOTE)
    accepted_above: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the least Dice of two raters above which it was accepted unseen",
    )
    sitting: str | None = Field(default=None, max_length=64, description="the window it was painted in")
    parents: list[Id] = Field(default_factory=list, description="the saves it goes on from")
    replaces: list[Id] = Field(default_factory=list, description="strokes whose place it takes")
    mask: Annotated[str, AfterValidator(_mask_name)]
    pixels_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @property
    def settled(self) -> bool:
        return self.status in SETTLED


@dataclass(frozen=True)
class Standing:
    """How a structure of a case stands."""

    heads: tuple[Decision, ...] = ()  # which nobody went on from, the newest first
    history: tuple[Decision, ...] = ()  # all that is kept, the newest first

    @property
    def conflict(self) -> bool:
        """Whether people who did not see each other's decision drew different masks, or one would discuss what another settled."""
        said = {head.status for head in self.heads}
        apart = "discuss" in said and not said.isdisjoint(SETTLED)
        return apart or len({head.pixels_sha256 for head in self.heads}) > 1

    @property
    def held(self) -> Decision | None:
        """The one that stands for all: of several that do not contradict each other a settled one."""
        return next((head for head in self.heads if head.settled), next(iter(self.heads), None))

    @property
    def status(self) -> Literal["none", "open", "discuss", "agreed", "final", "conflict"]:
        if self.held is None:
            return "none"
        return "conflict" if self.conflict else self.held.status

    @property
    def settled(self) -> Decision | None:
        """The decision that holds, if one does."""
        held = self.held
        return held if held is not None and held.settled and not self.conflict else None


def standing_of(saves: Iterable[Decision]) -> Standing:
    newest = sorted(saves, key=lambda one: one.id, reverse=True)
    followed = {id for one in newest for id in (*one.parents, *one.replaces)}
    replaced = {id for one in newest for id in one.replaces}
    heads = tuple(one for one in newest if one.id not in followed)
    return Standing(heads, tuple(one for one in newest if one.id not in replaced))


def is_stroke(
    last: Decision | None, saves: Iterable[Decision], who: str, sitting: str | None, status: Status, note: str
) -> bool:
    """Whether the next save of this person takes the place of the last: it is one more stroke of the same work."""
    if (
        last is None
        or sitting is None
        or last.origin == last.id
        or last.settled
        or len(last.replaces) >= MOST_STROKES
    ):
        return False
    if (last.who, last.sitting, last.status, last.note) != (who, sitting, status, note):
        return False
    return not any(last.id in (*one.parents, *one.replaces) for one in saves)


def digest_of(mask: np.ndarray) -> str:
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()


def made(**values: object) -> Decision:
    try:
        return Decision.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
