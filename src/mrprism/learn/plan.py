"""A plan: how cases are brought before a network, written down with its reasons, to be read and changed.

    dims = 2                # what the network sees: images, or volumes
    patch = [256, 256]      # and how much of them at once

`mrprism.learn.planning` makes one from a data set; a run keeps the one it was trained by.
"""

from __future__ import annotations

import json
import math
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mrprism.core.errors import InputError, unknown
from mrprism.core.files import plain_file
from mrprism.learn.bounds import Augment, BatchSize, Epochs, fault_of

FORMAT: Literal["mrprism-plan/1"] = "mrprism-plan/1"
MOST_BYTES = 1 << 20
MOST_PATCH = 1 << 27  # voxels of one batch
MOST_CHANNELS = 1000
WIDTH = 110  # letters of a line with reasons

Millimetres = Annotated[float, Field(gt=1e-6, lt=1e6, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=4096)]
LongSide = Annotated[int, Field(ge=8, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Overlap = Annotated[float, Field(ge=0, le=0.9, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=1e-9, le=1e6, allow_inf_nan=False)]
Patches = Annotated[int, Field(ge=1, le=10_000)]
Normalise = Literal["foreground", "case", "none"]


class Channel(BaseModel):
    """How one channel is normalised by the foreground of all training cases, in intensities from 0 to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Number  # what lies below and above is cut off
    high: Number
    mean: Number
    deviation: Deviation

    @model_validator(mode="after")
    def _rises(self) -> Channel:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class Plan(BaseModel):
    """What is settled of sizes, patches, intensities and length of a training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mrprism-plan/1"] = FORMAT
    dims: Literal[2, 3]  # of 2 the planes of a volume are cases by themselves
    spacing_mm: tuple[Millimetres, ...] | None = None  # one an axis of `dims`; every case is brought to it
    long_side: LongSide | None = None  # pixels of a case's longest side, where there are no millimetres
    patch: tuple[Side, ...]  # pixels or voxels a network sees at once, one number an axis
    batch_size: BatchSize
    patches_per_case: Patches = 1  # drawn of each case in an epoch
    drawn: Share = 0.0  # of the patches: laid on a structure that somebody marked, each structure alike
    disputed: Share = 0.0  # of the patches: laid where raters disagree
    overlap: Overlap = 0.5  # of neighbouring windows in predicting
    normalise: Normalise = "none"
    channels: tuple[Channel, ...] = Field(default=(), max_length=MOST_CHANNELS)  # with "foreground" alone
    augment: Augment = "full"
    epochs: Epochs = 150

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        for name, values in (("patch", self.patch), ("spacing_mm", self.spacing_mm)):
            if values is not None and len(values) != self.dims:
                raise ValueError(f"{name} has {len(values)} numbers; expected {self.dims}, one an axis")
        if self.spacing_mm is not None and self.long_side is not None:
            raise ValueError("there are both spacing_mm and long_side; expected one of them")
        if min(self.patch[-2:]) < 8:
            raise ValueError(f"patch is {list(self.patch)}; expected 8 pixels or more along rows and columns")
        if math.prod(self.patch) * self.batch_size > MOST_PATCH:
            raise ValueError(
                f"patch and batch_size make {math.prod(self.patch) * self.batch_size} pixels a step; at most "
                f"{MOST_PATCH} are allowed"
            )
        if self.drawn + self.disputed > 1 + 1e-9:
            raise ValueError(
                f"drawn and disputed are shares of the patches; {self.drawn:g} and "
                f"{self.disputed:g} make more than 1"
            )
        if bool(self.channels) != (self.normalise == "foreground"):
            raise ValueError('channels belong to normalise = "foreground", and to it alone')
        return self


@dataclass(frozen=True)
class Reasoned:
    """A plan, and why each of its lines says what it says."""

    plan: Plan
    reasons: Mapping[str, str]  # by field of `Plan`
    about: str = ""  # what was measured, for the head

    def changed(self, values: Mapping[str, Any]) -> Reasoned:
        """With other values in some lines.

        Raises:
            InputError: One of them is none.
        """
        if not values:
            return self
        try:
            plan = Plan.model_validate({**self.plan.model_dump(), **values})
        except ValidationError as error:
            raise InputError(fault_of(error)) from error
        return Reasoned(plan, {**self.reasons, **dict.fromkeys(values, "as was asked for")}, self.about)

    def to_toml(self) -> str:
        """The plan as a file that a person can read and change; a key that is not there is not set."""
        lines = [f"# {line}" for line in textwrap.wrap(self.about, WIDTH - 2)]
        tables: list[str] = []
        for key, value in self.plan.model_dump().items():
            if value is None or (key == "channels" and not value):
                continue
            why = [f"# {line}" for line in textwrap.wrap(self.reasons.get(key, ""), WIDTH - 2)]
            if key == "channels":
                for one in value:
                    tables += ["", *why, "[[channels]]", *(f"{k} = {_toml(v)}" for k, v in one.items())]
                    why = []
                continue
            lines += [*([""] if why else []), *why, f"{key} = {_toml(value)}"]
        return "\n".join([*lines, *tables]) + "\n"


def read_plan(file: str | Path) -> Plan:
    """A plan that somebody wrote or changed.

    Raises:
        InputError: It is not there, no TOML, or says what no plan says.
    """
    file = Path(file)
    try:
        with plain_file(file).open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InputError(f"plan '{file}' is larger than 1 MiB; expected what mrprism plan --out writes")
        found = tomllib.loads(text.decode())
    except OSError as error:
        raise InputError(f"plan '{file}' cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"plan '{file}' is no TOML: {error}") from error
    for key in found:
        if key not in Plan.model_fields:
            raise InputError(f"plan '{file}': {unknown('key', key, Plan.model_fields)}")
    try:
        return Plan.model_validate_json(json.dumps(found, default=str), strict=True)
    except ValidationError as error:
        raise InputError(f"plan '{file}': {fault_of(error)}") from error


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return json.dumps(value)
