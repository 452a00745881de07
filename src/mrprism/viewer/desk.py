"""Where disputed cases are settled: what the page can write, each save in the data set's `decisions/`."""

from __future__ import annotations

import base64
import binascii
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mrprism.agreement.against import rows_against
from mrprism.agreement.case import measure
from mrprism.core.errors import InputError
from mrprism.datasets.decision import Decision, Standing, Start
from mrprism.datasets.decisions import Decisions, decisions_of
from mrprism.datasets.flags import Flag, flags_of, set_flag
from mrprism.fusion import FUSIONS
from mrprism.images.between import between
from mrprism.output.lock import alone
from mrprism.viewer.asked import Asked, AskedBetween, AskedFlag, AskedSlice, AskedStart
from mrprism.viewer.opened import OpenCase
from mrprism.viewer.pictures import mask_png
from mrprism.viewer.solid import nifti
from mrprism.viewer.view import View

KEPT_MASKS = 4


class Desk:
    """A view on which somebody decides."""

    def __init__(self, view: View, who: str) -> None:
        """
        Raises:
            InputError: The data set is in memory or cannot be written to, or nobody can be called so.
        """
        self.view, self.who = view, _name(who)
        self.decisions: Decisions = decisions_of(view.dataset.manifest, view.dataset.root, view.dataset.name)
        folder = self.decisions.inside(self.decisions.folder)
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise InputError(
                f"cannot write to '{folder}', where decisions are kept; expected a folder of yours, or none"
            )
        with alone(folder, wait=True):  # says at once where nothing can be written
            pass
        self._lock = threading.Lock()
        self._places = {name: self.decisions.place(name).name for name in view.dataset.names}
        self._masks: OrderedDict[str, np.ndarray] = OrderedDict()
        self._seen: dict[str, tuple[int, str]] = {}  # case: when its folder changed last, and how it stands

    # ---- how things stand -----------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        return {"who": self.who, "blind": self.view.blind is not None, "starts": self._starts()}

    def _starts(self) -> list[dict[str, str | None]]:
        found: list[dict[str, str | None]] = []
        if len(self.view.task.raters) > 1:
            found += [
                {"kind": "fusion", "of": name} for name in ("majority", *sorted(set(FUSIONS) - {"majority"}))
            ]
            found += [{"kind": "union", "of": None}, {"kind": "intersection", "of": None}]
        if self.view.predictor:
            found.append({"kind": "model", "of": None})
        found += [{"kind": "rater", "of": str(r)} for r in range(len(self.view.task.raters))]
        return [*found, {"kind": "reference", "of": None}, {"kind": "empty", "of": None}]

    def statuses(self) -> dict[str, str]:
        """How each case stands that anything was decided about; read anew where a folder has changed."""
        found = {}
        try:
            there = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(self.decisions.folder)}
        except FileNotFoundError:  # nothing was decided yet
            return {}
        except OSError as error:
            raise InputError(
                f"'{self.decisions.folder}' cannot be read: {error.strerror or error}; expected the folder of decisions"
            ) from error
        for name, place in self._places.items():
            if place not in there:
                continue
            changed = there[place]
            if self._seen.get(name, (0, ""))[0] != changed:
                try:
                    self._seen[name] = changed, _whole(self.decisions.standing(name))
                except InputError:
                    self._seen[name] = changed, "unreadable"
            found[name] = self._seen[name][1]
        return found

    def flags(self) -> dict[str, Any]:
        """What people noted of cases: the own flag and note, and those of others; and which files cannot be read."""
        told: dict[str, dict[str, Any]] = {}
        found, faults = flags_of(self.decisions)
        for case, by in found.items():
            own = by.get(self.who, Flag())
            others = [{"who": who, **one.model_dump()} for who, one in by.items() if who != self.who]
            told[case] = {**own.model_dump(), "others": others}
        return {"flags": told, "faults": faults}

    def flag(self, number: int, asked: AskedFlag) -> None:
        """Flag a case, or take its flag away."""
        case = self.view.name_of(number)
        set_flag(self.decisions, case, self.who, Flag(flag=asked.flag, note=asked.note))

    def standing(self, number: int) -> dict[str, Any]:
        """What was decided about a case, structure by structure."""
        case = self.view.open(number)
        return {"structures": [self._said(case, one) for one in self.decisions.standing(case.name).values()]}

    def _said(self, case: OpenCase, standing: Standing) -> dict[str, Any]:
        heads = {head.id for head in standing.heads}
        return {
            "status": standing.status,
            "held": standing.held.id if standing.held else None,
            "saves": [{**self._told(case, one), "head": one.id in heads} for one in standing.history],
        }

    def _told(self, case: OpenCase, one: Decision) -> dict[str, Any]:
        of, blind = one.start.of, one.start.kind == "rater" and self.view.blind is not None
        if one.start.kind == "rater" and of in self.view.task.raters:
            of = self.view.called(case.name)[
                self.view.seats(case.name).index(self.view.task.raters.index(of))
            ]
        return {
            "id": one.id,
            "who": one.who,
            "when": one.when.isoformat(timespec="seconds"),
            "status": one.status,
            "note": one.note,
            "from": " ".join(filter(None, (one.start.kind if of is None or not blind else "", of or ""))),
            "changed": one.changed,
            "marked": one.marked,
            "accepted_above": one.accepted_above,
        }

    def mask(self, number: int, structure: int, id: str, plane: str, index: int) -> bytes:
        """A slice of what was decided, as PNG: white inside."""
        case = self.view.open(number)
        one = self._one(case, self.view.structure(structure), id)
        return mask_png(case.flat(self._pixels(case, one), plane, index))

    def mask_file(self, number: int, structure: int, id: str) -> bytes:
        """What was decided of a volume, as NIfTI."""
        case = self.view.open(number)
        if not case.planes:
            raise InputError(f"case '{case.name}' is an image; ask for decision.png")
        one = self._one(case, self.view.structure(structure), id)
        return nifti(np.asarray(self._pixels(case, one), np.uint8), case)

    def _one(self, case: OpenCase, structure: int, id: str) -> Decision:
        of_structure = self.decisions.standing(case.name)[self.view.task.structures[structure]]
        for one in of_structure.history:
            if one.id == id:
                return one
        raise InputError(
            f"there is no decision '{id[:60]}' on case '{case.name}' any more; read again what there is"
        )

    def _pixels(self, case: OpenCase, one: Decision) -> np.ndarray:
        with self._lock:
            if one.id not in self._masks:
                self._masks[one.id] = self.decisions.mask(one, case.like)
                while len(self._masks) > KEPT_MASKS:
                    self._masks.popitem(last=False)
            return self._masks[one.id]

    # ---- writing --------------------------------------------------------------------------------

    def save(self, number: int, asked: Asked) -> dict[str, Any]:
        """Keep what was begun, painted, settled or written, and say how the structure stands now.

        Raises:
            InputError: It does not fit the case, or cannot be written; nothing was.
        """
        case, c = self.view.open(number), self.view.structure(asked.structure)
        structure = self.view.task.structures[c]
        start, mask = None, None
        if asked.start is not None:
            start, mask = self._begin(case, c, asked.start)
        if mask is None and (asked.slice is not None or asked.between is not None):
            if not asked.base:
                raise InputError(
                    f"nothing was begun on '{structure}' of case '{case.name}'; expected a start"
                )
            mask = self._pixels(case, self._base(case, structure, asked.base[0]))
        if mask is not None and asked.slice is not None:
            mask = self._painted(case, mask, asked.slice)
        if mask is not None and asked.between is not None:
            mask = _filled(case, mask, asked.between)
        made = self.decisions.save(
            case.name, structure, self.who, mask=mask, start=start, status=asked.status, note=asked.note,
            base=asked.base, sitting=None if asked.between else asked.sitting, like=case.like,
        )  # fmt: skip
        if mask is not None:
            with self._lock:
                self._masks[made.id] = mask
                while len(self._masks) > KEPT_MASKS:
                    self._masks.popitem(last=False)
        return {"id": made.id, **self._said(case, self.decisions.standing(case.name)[structure])}

    def _base(self, case: OpenCase, structure: str, id: str) -> Decision:
        """The save that is gone on from, or the stroke that took its place meanwhile."""
        history = self.decisions.standing(case.name)[structure].history
        found = next((one for one in history if one.id == id or id in one.replaces), None)
        if found is None:
            raise InputError(
                f"there is no decision '{id[:60]}' on case '{case.name}' any more; read again what there is"
            )
        return found

    def _begin(self, case: OpenCase, c: int, asked: AskedStart) -> tuple[Start, np.ndarray]:
        kind, rated = asked.kind, case.rated[:, c]
        drawn = case.masks[:, c]
        if kind == "empty":
            return Start(kind=kind), np.zeros(case.space, bool)
        if kind == "reference":
            if c not in case.reference:
                raise InputError(f"case '{case.name}' has no reference to begin with")
            return Start(kind=kind), np.asarray(case.reference[c], bool)
        if kind == "model":
            return Start(kind=kind, of=self.view.title), self.view.answers.predicted(case, c)
        if kind == "rater":
            seats = self.view.seats(case.name)
            if asked.of is None or not asked.of.isdecimal() or int(asked.of) >= len(seats):
                raise InputError(f"there is no rater number {asked.of}; expected 0 to {len(seats) - 1}")
            r = seats[int(asked.of)]
            if not rated[r]:
                who = self.view.called(case.name)[int(asked.of)]
                raise InputError(
                    f"{who} did not do this structure of case '{case.name}'; begin with another mask"
                )
            return Start(kind=kind, of=self.view.task.raters[r]), np.array(drawn[r])
        if not rated.any():
            raise InputError(f"nobody did this structure of case '{case.name}'; begin with an empty mask")
        if kind == "fusion":
            return Start(kind=kind, of=asked.of), np.array(self.view.fused(case, asked.of or "majority")[c])
        together = np.any if kind == "union" else np.all
        return Start(kind=kind), np.asarray(together(drawn[rated], axis=0))

    def _painted(self, case: OpenCase, whole: np.ndarray, asked: AskedSlice) -> np.ndarray:
        painted = whole.copy()
        if not case.planes:
            painted[...] = _decoded(asked.png, painted.shape)
            return painted
        turned = case.cut(asked.plane).of(painted)
        if not 0 <= asked.index < turned.shape[0]:
            raise InputError(f"case '{case.name}' has no {asked.plane} slice {asked.index}")
        turned[asked.index] = _decoded(asked.png, turned.shape[1:])  # a view of the whole
        return painted

    # ---- many at once ---------------------------------------------------------------------------

    def accept(self, above: float, dry: bool) -> dict[str, Any]:
        """Settle, as agreed and by majority, whatever nobody began and any two raters agree on this well."""
        accepted: list[dict[str, str]] = []
        looked = 0
        for name in self.view.dataset.names:
            standing = self.decisions.standing(name)
            untouched = [c for c, one in enumerate(standing.values()) if not one.heads]
            if not untouched:
                continue
            try:
                case = OpenCase(self.view.dataset, name)
            except InputError:
                continue  # the list of cases says why
            for c in untouched:
                rated = case.rated[:, c]
                if rated.sum() < 2:
                    continue
                looked += 1
                masks = np.asarray(case.masks[:, c])
                if np.nanmin(measure(masks, rated, distances=False).dice) < above:
                    continue
                structure = self.view.task.structures[c]
                accepted.append({"case": name, "structure": structure})
                if not dry:
                    votes = masks[rated].sum(axis=0)
                    self.decisions.save(
                        name, structure, self.who, mask=2 * votes > rated.sum(), status="agreed",
                        start=Start(kind="fusion", of="majority"), accepted_above=above, like=case.like,
                    )  # fmt: skip
        return {"accepted": accepted, "looked_at": looked, "above": above}

    def summary(self) -> dict[str, Any]:
        """How many are settled, by whom, from what, and how far each rater is from what was decided."""
        structures, names = self.view.task.structures, self.view.dataset.names
        counts: dict[str, dict[str, int]] = {}
        people: dict[str, dict[str, int]] = {}
        remarks: list[dict[str, Any]] = []
        found = self.decisions.all()
        for name in names:
            for structure in structures:
                one = found.get(name, {}).get(structure, Standing())
                of = counts.setdefault(structure, dict.fromkeys(STANDS, 0))
                of[one.status] += 1
                for head in one.heads:
                    if head.status == "discuss" or head.note or one.conflict:
                        remarks.append(
                            {
                                "case": name,
                                "structure": structure,
                                "status": one.status,
                                "who": head.who,
                                "note": head.note,
                            }
                        )
                if one.settled is not None:
                    by = people.setdefault(one.settled.who, {"settled": 0, "unseen": 0, "changed": 0})
                    by["settled"] += 1
                    by["unseen"] += one.settled.accepted_above is not None
                    by["changed"] += one.settled.changed > 0
        rows = (
            []
            if self.view.blind is not None
            else list(rows_against(self._settled(found), structures, self.view.task.raters))
        )
        return {
            "cases": len(names),
            "structures": counts,
            "people": people,
            "remarks": remarks,
            "raters": rows,
        }

    def _settled(self, found: dict[str, dict[str, Standing]]) -> Iterator[Any]:
        """Cases with what was settled as their reference; a structure that was not is one nobody did."""
        for name, standing in found.items():
            if not any(one.settled for one in standing.values()):
                continue
            try:
                case = OpenCase(self.view.dataset, name)
            except InputError:
                continue
            sample = case.sample(np.broadcast_to(np.float32(0), case.values.shape))
            reference, rated = np.zeros((len(standing), *case.space), bool), sample.rated.copy()
            for c, one in enumerate(standing.values()):
                if one.settled is None:
                    rated[:, c] = False
                else:
                    reference[c] = self.decisions.mask(one.settled, case.like)
            yield type(sample)(**{**sample.__dict__, "reference": reference, "rated": rated})


STANDS: tuple[Literal["none", "open", "discuss", "agreed", "final", "conflict"], ...] = (
    "none", "open", "discuss", "conflict", "agreed", "final",
)  # fmt: skip


def _whole(standing: dict[str, Standing]) -> str:
    """How a case stands: what is worst among its structures."""
    said = {one.status for one in standing.values()}
    for worst in ("conflict", "discuss"):
        if worst in said:
            return worst
    if said <= {"agreed", "final"}:
        return "settled"
    return "none" if said == {"none"} else "open"


def _filled(case: OpenCase, whole: np.ndarray, asked: AskedBetween) -> np.ndarray:
    cut, filled = case.cut(asked.plane), whole.copy()
    turned = cut.of(filled)  # a view of the whole
    for index in (asked.first, asked.last):
        if not 0 <= index < len(turned):
            raise InputError(f"case '{case.name}' has no {asked.plane} slice {index}")
    first, last = sorted((asked.first, asked.last))
    if last - first < 2:
        raise InputError("there is no slice between these two; expected two that are further apart")
    for index in (first, last):
        if not turned[index].any():
            raise InputError(f"nothing is drawn on slice {index + 1}; draw on both, then fill between them")
    steps = None if case.spacing_mm is None else tuple(case.spacing_mm[axis] for axis in cut.axes[1:])
    turned[first + 1 : last] = between(turned[first], turned[last], last - first - 1, steps)
    return filled


def _decoded(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """A painted slice; its size is read before its pixels."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            if picture.size != shape[::-1]:
                found = " × ".join(map(str, picture.size))
                raise InputError(f"the painted slice has {found} pixels; expected {shape[1]} × {shape[0]}")
            return np.asarray(picture.convert("L")) > 127
    except (binascii.Error, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"the painted slice cannot be read: {error}; expected a PNG in base64") from None


def _name(who: str) -> str:
    from mrprism.datasets.decision import LONGEST_NAME

    if not who.strip() or not who.isprintable() or len(who) > LONGEST_NAME:
        raise InputError(
            f"nobody can be called {who!r}: expected 1 to {LONGEST_NAME} characters that can be printed"
        )
    return who.strip()


def summary_page(desk: Desk) -> str:
    """`Desk.summary` as a page that prints."""
    from datetime import UTC, datetime

    from mrprism.output.templates import templates

    page = templates(Path(__file__).parent).get_template("summary.html.jinja")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return page.render(
        title=desk.view.title, found=desk.summary(), blind=desk.view.blind is not None, when=now
    )
