"""What people settled: `decisions/` beside the raters' masks, which it never touches.

Each save is a small file of its own, `decisions/CASE/ID.json`, with its mask beside it, and says which earlier saves it
goes on from (`parents`). Nothing is overwritten: where two people go on from the same save, both of theirs stand, and
the structure is in conflict until somebody goes on from both. A save counts from the moment its JSON has its name, so
that a killed program leaves the one before.

While one person paints, each stroke takes the place of the stroke before; what the work began with, what somebody
settled or wrote, and what another person went on from stay for good.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from pydantic import ValidationError

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.core.names import safe_name
from mrprism.datasets.case_files import read_drawn, read_grid
from mrprism.datasets.decision import (
    ID,
    Decision,
    Standing,
    Start,
    Status,
    digest_of,
    is_stroke,
    made,
    standing_of,
)
from mrprism.datasets.links import ALLOWED, leads_outside
from mrprism.datasets.manifest import Case, Manifest
from mrprism.datasets.open_image import open_image
from mrprism.images import ImageFile, limit_text, write_mask
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.lock import alone

FOLDER = "decisions"


class Decisions:
    """The decisions on the cases of a data set on disk, read anew each time they are asked for."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root, self.manifest = root, manifest
        self.folder = root / FOLDER
        self._cases = {case.name: case for case in manifest.cases}
        self._begun: tuple[str, np.ndarray] | None = None  # the mask a decision began with, read last

    def place(self, case: str) -> Path:
        """The folder of a case: its name as files can have it, and a digest, for two may look the same there."""
        return self.folder / f"{safe_name(case, set())}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"

    def standing(self, case: str) -> dict[str, Standing]:
        """How each structure of a case stands.

        Raises:
            InputError: A file among its decisions cannot be understood.
        """
        found: dict[str, list[Decision]] = defaultdict(list)
        for decision in self._read(case):
            found[decision.structure].append(decision)
        return {structure: standing_of(found.get(structure, ())) for structure in self.manifest.structures}

    def all(self) -> dict[str, dict[str, Standing]]:
        """Of every case that anything was decided about, how each structure stands.

        Raises:
            InputError: As `standing`.
        """
        try:
            there = {entry.name for entry in os.scandir(self.folder)}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        cases = (name for name in self._cases if self.place(name).name in there)
        standing = {name: self.standing(name) for name in cases}
        return {name: of for name, of in standing.items() if any(one.heads for one in of.values())}

    def mask(self, decision: Decision, like: ImageFile | None = None) -> Bool[np.ndarray, "*space"]:
        """What was decided.

        Args:
            like: Its image, with whose size and place it is compared; None: it is opened.

        Raises:
            InputError: The mask is not there, is another than was saved, or does not fit its image.
        """
        case = self._case(decision.case)
        like = self.grid(case.name) if like is None else like
        path = self.inside(self.place(decision.case) / decision.mask)
        drawn = {decision.structure: path.relative_to(self.root).as_posix()}
        mask = read_drawn(self.root, self.manifest, case, drawn, like)[0][1]
        if digest_of(mask) != decision.pixels_sha256:
            raise InputError(
                f"'{path}' is not the mask that '{decision.who}' saved: it was changed outside mrprism; expected the "
                "file as it was, or a new decision"
            )
        return mask

    def save(
        self,
        case: str,
        structure: str,
        who: str,
        *,
        mask: Bool[np.ndarray, "*space"] | None = None,
        start: Start | None = None,
        status: Status | None = None,
        note: str | None = None,
        base: Sequence[str] = (),
        sitting: str | None = None,
        accepted_above: float | None = None,
        like: ImageFile | None = None,
    ) -> Decision:
        """Put a decision beside those there are.

        Args:
            who: Of whoever decides.
            mask: None: that of the first of ``base``.
            start: What this mask is, where the work begins or begins again; None: it goes on from ``base``.
            status: None: that of ``base``, but "open" where the mask of a settled one is changed.
            note: None: that of ``base``.
            base: Ids of the saves it goes on from. Of several, which end a conflict, the first one's mask is meant.
            sitting: The window it was painted in: a stroke takes the place of the last one of the same sitting.
            accepted_above: See `Decision`.
            like: The case's image, where it is open already.

        Raises:
            InputError: The data set cannot be written to, there is no such case or structure, the mask does not fit the
                image, or it is to be that of a stroke that went on since. Nothing is left behind.
        """
        self._case(case)
        if structure not in self.manifest.structures:
            known = ", ".join(self.manifest.structures)
            raise InputError(f"there is no structure '{structure}'; known: {known}")
        place = self.inside(self.place(case))  # before anything is written or tidied away there
        with alone(place, wait=True) as sure:
            kept = {one.id: one for one in self._read(case) if one.structure == structure}
            before = [_followed(kept, id, case, structure) for id in base]
            if not before and (mask is None or start is None):
                raise InputError(
                    f"nothing was decided on '{structure}' of case '{case}' yet; expected a mask, and what it is"
                )
            if mask is None and base[0] not in kept:
                raise InputError(
                    f"'{before[0].who}' painted on '{structure}' of case '{case}' in the meantime; look at it again"
                )
            like = self.grid(case) if like is None else like
            if mask is not None and mask.shape != like.array.shape[1:]:
                found, expected = (
                    " × ".join(map(str, shape)) for shape in (mask.shape, like.array.shape[1:])
                )
                raise InputError(
                    f"a decision on case '{case}' has {found} pixels; expected {expected}, as its image"
                )
            now = datetime.now(UTC)
            id = f"{now:%Y%m%dT%H%M%S%f}Z-{secrets.token_hex(4)}"
            held = before[0] if before else None
            pixels = mask if mask is not None else self.mask(held, like)  # type: ignore[arg-type]
            digest = digest_of(pixels)
            same = held is not None and digest == held.pixels_sha256
            name = held.mask if same and held else f"{id}{'.nii.gz' if pixels.ndim == 3 else '.png'}"
            origin = id if start is not None or held is None else held.origin
            changed = 0 if origin == id else self._changed(kept.get(origin), pixels, like)
            said = status or (held.status if held and (same or not held.settled) else "open")
            text = note if note is not None else (held.note if held else "")
            stroke = start is None and list(base) == [held.id if held else None]
            stroke = stroke and is_stroke(held, kept.values(), who, sitting, said, text)
            decision = made(
                id=id,
                case=case,
                structure=structure,
                status=said,
                who=who,
                when=now,
                start=start if start is not None else held.start,  # type: ignore[union-attr]
                origin=origin,
                changed=changed,
                marked=int(pixels.sum()),
                note=text,
                accepted_above=accepted_above,
                sitting=sitting,
                parents=held.parents if stroke and held else list(base),
                replaces=[*held.replaces, held.id] if stroke and held else [],
                mask=name,
                pixels_sha256=digest,
            )
            if not same:
                write_mask(place / name, pixels, like=like, spacing_mm=like.spacing_mm)
            write_file(place / f"{id}.json", decision.model_dump_json(indent=1, exclude_none=True) + "\n")
            if sure:
                self._tidy(place, case)
        return decision

    # ---- files ----------------------------------------------------------------------------------

    def _case(self, name: str) -> Case:
        if name not in self._cases:
            raise InputError(f"there is no case '{name}' to decide about")
        return self._cases[name]

    def grid(self, case: str) -> ImageFile:
        """Size and place of a case's image; of one without an image, of its masks.

        Raises:
            InputError: It cannot be read.
        """
        of = self._case(case)
        if not of.images:
            return read_grid(self.root, of)
        return open_image(self.root / of.images[0], window=of.window or self.manifest.window)

    def _changed(self, origin: Decision | None, pixels: np.ndarray, like: ImageFile) -> int:
        """How many pixels differ from what the work began with."""
        if origin is None:
            return 0
        begun = self._begun  # another request may put its own there meanwhile
        if begun is None or begun[0] != origin.id:
            begun = self._begun = origin.id, self.mask(origin, like)
        return int((begun[1] != pixels).sum())

    def _read(self, case: str) -> list[Decision]:
        """Every save of a case; read again where a stroke took another's place meanwhile."""
        place = self.place(case)
        for _ in range(20):
            with suppress(FileNotFoundError):
                names = [entry.name for entry in os.scandir(place)] if place.is_dir() else []
                names = sorted(n for n in names if n.endswith(".json") and ID.fullmatch(n[:-5]))
                return [self.one(place / name, case) for name in names]
        raise InputError(f"the decisions in '{place}' change all the time; try again")

    def one(self, path: Path, case: str) -> Decision:
        """A save as its file holds it.

        Raises:
            InputError: It cannot be understood, or is about something else.
        """
        path = plain_file(self.inside(path))
        limit_text(path, path.stat().st_size)
        text = path.read_bytes()
        try:
            decision = Decision.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise InputError(
                f"the decision '{path}' cannot be understood: {where}: {first['msg']}; move it away, or bring it back as "
                "it was"
            ) from None
        if (
            decision.case != case
            or decision.id != path.name[:-5]
            or decision.structure not in self.manifest.structures
        ):
            raise InputError(
                f"the decision '{path}' is about '{decision.structure}' of case '{decision.case}'; expected a structure "
                f"of case '{case}', and the id that is its name"
            )
        return decision

    def inside(self, path: Path) -> Path:
        """The path, where no link leads it out of the data set.

        Raises:
            InputError: One does.
        """
        if target := leads_outside(path, os.path.realpath(self.root)):
            raise InputError(
                f"'{path}' leaves the data set's folder through a link, to '{target}'; {ALLOWED}"
            )
        return path

    def _tidy(self, place: Path, case: str) -> None:
        """Remove strokes whose place was taken, and masks that no save names. For whoever holds the lock."""
        remove_leftovers(place)
        kept = self._read(case)
        taken = {id for one in kept for id in one.replaces}
        wanted = {parent for one in kept for parent in one.parents} | {one.origin for one in kept}
        gone = {id for id in taken - wanted if (place / f"{id}.json").exists()}
        for id in gone:
            with suppress(OSError):
                (place / f"{id}.json").unlink()
        masks = {one.mask for one in kept if one.id not in gone}
        for entry in list(os.scandir(place)):
            if (
                ID.fullmatch(entry.name.partition(".")[0])
                and not entry.name.endswith(".json")
                and entry.name not in masks
            ):
                with suppress(OSError):
                    os.unlink(entry.path)


def decisions_of(manifest: Manifest | None, root: Path | None, name: str) -> Decisions:
    """The decisions of a data set that was opened from a folder.

    Raises:
        InputError: It is in memory.
    """
    if manifest is None or root is None:
        raise InputError(f"data set '{name}' is not on disk; decisions lie beside the masks of one that is")
    return Decisions(root, manifest)


@dataclass(frozen=True)
class Decided:
    """A manifest whose references are what was decided, and what of that is left out."""

    manifest: Manifest
    settled: int  # cases with a reference
    partly: int  # some of whose structures are settled
    conflicts: int


def with_decisions(root: Path, manifest: Manifest) -> Decided:
    """The manifest with every settled case's decision as its reference, and no other reference.

    A case is settled when each of its structures is agreed or final, and nobody decided otherwise.

    Raises:
        InputError: A decision cannot be understood, or nothing is settled.
    """
    decisions = Decisions(root, manifest)
    found, cases = decisions.all(), []
    settled = partly = conflicts = 0
    for case in manifest.cases:
        standing = found.get(case.name, {})
        held = {structure: one.settled for structure, one in standing.items() if one.settled is not None}
        reference = None
        if held and len(held) == len(manifest.structures):
            like = decisions.grid(case.name)
            for one in held.values():
                if one is not None:
                    decisions.mask(one, like)  # refuses one that was changed since
            where = decisions.place(case.name).relative_to(root).as_posix()
            reference = {
                structure: f"{where}/{one.mask}" for structure, one in held.items() if one is not None
            }
            settled += 1
        conflicts += any(one.conflict for one in standing.values())
        partly += bool(held) and reference is None
        cases.append(case.model_copy(update={"reference": reference}))
    if not settled:
        raise InputError(
            f"no case of data set '{manifest.name}' is settled: a decision counts as its reference once every structure "
            "is agreed or final; settle cases with mrprism view --adjudicate --as NAME"
        )
    for drawn in (case.reference for case in cases):
        for path in drawn.values() if isinstance(drawn, dict) else ():
            decisions.inside(root / path)
    return Decided(manifest.model_copy(update={"cases": cases}), settled, partly, conflicts)


def _followed(kept: Mapping[str, Decision], id: str, case: str, structure: str) -> Decision:
    """A save, or the stroke that took its place meanwhile."""
    later = (one for one in kept.values() if id in one.replaces)
    found = kept.get(id) or next(later, None)
    if found is None:
        raise InputError(
            f"there is no decision '{id[:60]}' on '{structure}' of case '{case}'; read again what there is"
        )
    return found
