"""What every data set that is read must be: raters who drew something, and names that are told apart."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.names import doubtful, near_twins
from mrprism.core.sample import MultiRaterSample, Reading, Task
from mrprism.datasets.later import Facts, Later
from mrprism.datasets.manifest import of_several
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import InPlace, Source


def whole(made: Source, ledger: Ledger, *, pseudonyms: bool = False) -> Source:
    """The data set with its ledger, checked as it is read to the end.

    Args:
        pseudonyms: Raters are called rater1, rater2, ...

    Raises:
        InputError: No rater was found, or two raters or structures differ in case, blanks or accents only.
            While reading: a rater of whom there is no mask, or cases whose names are near-twins.
    """
    for note in made.notes if made.notes is not ledger.notes else []:
        ledger.note(note)
    unwanted = _unwanted(made.task, ledger)
    task = replace(made.task, raters=tuple(r for r in made.task.raters if r not in unwanted))
    _apart(task.raters, "raters", made.name)
    _apart(task.structures, "structures", made.name)
    for what, each in (
        ("raters", task.raters),
        ("structures", task.structures),
        ("channels", made.channels or ()),
    ):
        for sentence in doubtful(what, each, letters=True):
            ledger.note(f"the {sentence}")
    if not task.raters and not made.no_raters:
        raise InputError(f"no rater was found in '{made.name}'{_why_none(ledger)}")
    if not task.structures:
        raise InputError(f"nothing that is drawn was found in '{made.name}'{_why_none(ledger)}")
    here = made.here and _here(made.here, unwanted)
    if here and not made.no_raters:
        _in_place(here, task, made.name)
    for sentence in of_several(here.cases) if here else ():
        ledger.note(sentence)
    names = {rater: f"rater{n}" for n, rater in enumerate(task.raters, 1)} if pseudonyms else {}
    if names:
        here = None
    samples = Checked(made, task, ledger)
    task = replace(task, raters=tuple(names.get(rater, rater) for rater in task.raters))
    return replace(
        made, task=task, samples=samples, here=here, ledger=ledger, notes=ledger.notes, pseudonyms=names
    )


def _unwanted(task: Task, ledger: Ledger) -> frozenset[str]:
    unwanted = ledger.without
    unknown = sorted(unwanted - set(task.raters) - ledger.skipped)
    if unknown:
        raise InputError(f"there is no rater '{unknown[0]}' to leave out; there are {', '.join(task.raters)}")
    if unwanted:
        ledger.note(f"as asked for, without {', '.join(sorted(unwanted))}")
    return unwanted


def _apart(names: tuple[str, ...], what: str, source: str) -> None:
    for twins in near_twins(names):
        raise InputError(
            f"the {what} '{twins[0]}' and '{twins[1]}' of '{source}' differ in case, blanks or the form of an accent "
            "only and would be taken for two; expected one spelling"
        )


def _why_none(ledger: Ledger) -> str:
    if not ledger.left:
        return "; expected masks of one rater at least"
    first = ledger.left[0]
    return f"; what was left out: {first.what} ({first.why}), {len(ledger.left)} in all"


def _here(here: InPlace, unwanted: frozenset[str]) -> InPlace:
    cases = [
        case.model_copy(update={"masks": {r: m for r, m in case.masks.items() if r not in unwanted}})
        for case in here.cases
    ]
    return replace(here, cases=cases)


def _in_place(here: InPlace, task: Task, name: str) -> None:
    drawn = {rater for case in here.cases for rater, masks in case.masks.items() if masks}
    _all_drew(task, [rater in drawn for rater in task.raters], name, None)


@dataclass
class Checked:
    """The samples of a source: without raters nobody wants, and looked at together when all are read."""

    made: Source
    task: Task
    ledger: Ledger
    names: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    # what was done with images that is not plain to see, and of which cases
    odd: dict[str, list[str]] = field(default_factory=dict)
    drew: set[int] = field(default_factory=set)

    def __iter__(self) -> Iterator[MultiRaterSample]:
        self.begin()
        wanted = self.wanted
        for sample in self.made.samples:
            kept = wanted(sample)
            self.note(Facts.of(kept))
            yield kept
        self.end()

    @property
    def wanted(self) -> Wanted:
        kept = [self.made.task.raters.index(rater) for rater in self.task.raters]
        return Wanted(None if len(kept) == len(self.made.task.raters) else kept)

    @property
    def later(self) -> Later | None:
        """The same, read by whoever wants them, who calls `begin`, `note` and `end`; None where they come one by one."""
        samples = self.made.samples
        if not isinstance(samples, Later):
            return None
        return replace(samples, read=partial(_wanted, samples.read, self.wanted))

    def begin(self) -> None:
        for kept in (self.names, self.patients, self.odd, self.drew):
            kept.clear()

    def note(self, facts: Facts) -> None:
        """Take note of one sample after the other."""
        self.names.append(facts.name)
        self.patients += [facts.group] if facts.group else []
        for what in facts.notes:
            self.odd.setdefault(what, []).append(facts.name)
        self.drew.update(np.flatnonzero(facts.drew).tolist())

    def end(self) -> None:
        """Say what there is to say of all of them.

        Raises:
            InputError: Of a rater there is no mask.
        """
        for sentence in (*doubtful("cases", self.names), *doubtful("patients", self.patients)):
            self.ledger.note(f"the {sentence}")
        for what, of in self.odd.items():
            more = f" and {len(of) - 1} more" if len(of) > 1 else ""
            self.ledger.note(f"of the image of '{of[0]}'{more}: {what}")
        if self.names and (not self.task.anonymous or not self.drew):
            did = [number in self.drew for number in range(len(self.task.raters))]
            _all_drew(self.task, did, self.made.name, self.ledger)
        self.ledger.settle()


@dataclass(frozen=True)
class Wanted:
    """A sample without the raters nobody wants."""

    raters: list[int] | None  # None: all are wanted

    def __call__(self, sample: MultiRaterSample) -> MultiRaterSample:
        kept = self.raters
        if kept is None:
            return sample
        again = tuple(Reading(r.masks[kept], r.rated[kept]) for r in sample.readings)
        return replace(sample, masks=sample.masks[kept], rated=sample.rated[kept], readings=again)


def _wanted(read: Callable[[int], MultiRaterSample], wanted: Wanted, number: int) -> MultiRaterSample:
    return wanted(read(number))


def _all_drew(task: Task, drew: Iterable[bool], name: str, ledger: Ledger | None) -> None:
    """Every rater has a mask at least, for who has none was misread or should not be named."""
    for rater, did in zip(task.raters, drew, strict=True):
        if did:
            continue
        lost = [item for item in (ledger.left if ledger else []) if item.rater == rater]
        why = f": {lost[0].what} was left out ({lost[0].why}), {len(lost)} such in all" if lost else ""
        raise InputError(
            f"no mask of the rater '{rater}' could be read from '{name}'{why}; "
            f"if that is right, leave this rater out: -o {shlex.quote(f'without={rater}')}"
        )
