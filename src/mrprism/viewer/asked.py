"""What the page, or a script, can ask to have written."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mrprism.datasets.decision import LONGEST_NOTE, Kind, Status

LARGEST_PNG = 8_000_000  # bytes, of one painted slice


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AskedStart(_Asked):
    """What a decision is to begin with."""

    kind: Kind
    of: str | None = Field(default=None, max_length=200, description="fusion: its name; rater: its number")


class AskedSlice(_Asked):
    """A painted slice, or the whole of an image."""

    plane: str = ""
    index: int = Field(default=0, ge=0)
    png: str = Field(
        max_length=LARGEST_PNG, description="base64 of a PNG of the slice's size; above half is inside"
    )


class AskedBetween(_Asked):
    """Fill the slices between two of them, which the mask drawn there is blended into."""

    plane: str
    first: int = Field(ge=0)
    last: int = Field(ge=0)


class Asked(_Asked):
    """One save: a beginning, a painted slice, a status, a note, or several of them."""

    structure: int = Field(ge=0)
    base: Annotated[list[str], Field(max_length=50)] = Field(
        default_factory=list, description="ids of the saves it goes on from; the first one's mask is meant"
    )
    sitting: str | None = Field(
        default=None, max_length=64, description="the window, so that strokes are one work"
    )
    start: AskedStart | None = None
    slice: AskedSlice | None = None
    between: AskedBetween | None = Field(
        default=None, description="a save of its own, which no stroke replaces"
    )
    status: Status | None = None
    note: str | None = Field(default=None, max_length=LONGEST_NOTE)


class AskedFlag(_Asked):
    """Flag a case, or note something of it."""

    flag: bool = False
    note: str = Field(default="", max_length=LONGEST_NOTE)


class AskedAccept(_Asked):
    """Accept what raters agree on."""

    above: float = Field(ge=0.5, le=1, description="the least Dice of any two raters, 0 to 1")
    dry: bool = Field(default=False, description="only count")
