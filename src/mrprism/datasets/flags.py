"""Cases that people flagged, and what they noted: one small file a person in `decisions/flags/`, so that none is overwritten."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.names import safe_name
from mrprism.datasets.decision import LONGEST_NOTE, Person
from mrprism.datasets.decisions import Decisions
from mrprism.images import limit_text
from mrprism.output.files import write_file
from mrprism.output.lock import alone

FOLDER = "flags"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Flag(_Strict):
    """What one person noted of one case."""

    flag: bool = False
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""


class Flags(_Strict):
    """One person's flags, by case."""

    format: Literal["mrprism-flags/1"] = "mrprism-flags/1"
    who: Person
    cases: dict[str, Flag] = Field(default_factory=dict)


def flags_of(decisions: Decisions) -> tuple[dict[str, dict[str, Flag]], list[str]]:
    """By case and person; and of each file that cannot be understood a sentence, so that it hides nobody else's flags."""
    folder = decisions.inside(decisions.folder / FOLDER)
    names = sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []
    found: dict[str, dict[str, Flag]] = {}
    faults = []
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            try:
                one = read_flags(decisions, folder / name)
            except InputError as error:
                faults.append(str(error))
                continue
            for case, flag in one.cases.items():
                found.setdefault(case, {})[one.who] = flag
    return found, faults


def set_flag(decisions: Decisions, case: str, who: str, flag: Flag) -> None:
    """Keep what a person notes of a case; of one without flag and note nothing is kept.

    Raises:
        InputError: The data set cannot be written to, or the person's file cannot be understood.
    """
    path = decisions.inside(decisions.folder / FOLDER / _file_of(who))
    with alone(path, wait=True):
        kept = read_flags(decisions, path) if path.exists() else Flags(who=who)
        cases = {name: one for name, one in kept.cases.items() if name != case}
        if flag.flag or flag.note:
            cases[case] = flag
        write_file(path, kept.model_copy(update={"cases": cases}).model_dump_json(indent=1) + "\n")


def read_flags(decisions: Decisions, path: Path) -> Flags:
    """A person's flags as their file holds them.

    Raises:
        InputError: It cannot be understood.
    """
    path = plain_file(decisions.inside(path))
    limit_text(path, path.stat().st_size)
    try:
        kept = Flags.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"the flags in '{path}' cannot be understood: {where}: {first['msg']}; move the file away, or bring it back "
            "as it was"
        ) from None
    if path.name != _file_of(kept.who):
        raise InputError(
            f"the flags in '{path}' are those of '{kept.who}', whose file is called '{_file_of(kept.who)}'; move the copy away"
        )
    return kept


def _file_of(who: str) -> str:
    """What a person's file is called."""
    digest = hashlib.sha256(who.encode()).hexdigest()[:8]
    return f"{safe_name(who, set())}-{digest}.json"
