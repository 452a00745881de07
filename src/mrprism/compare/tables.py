"""The tables of a comparison: lines of methods, columns of metrics, each with its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mrprism.compare.candidates import CEILING, SPREAD, Slot, TableOfContents
from mrprism.compare.protocols import protocol_of
from mrprism.compare.results import Comparison, Result
from mrprism.compare.statistics import Against, Competitor, Verdict, judge, over_seeds
from mrprism.metrics import METRICS
from mrprism.metrics.scores import ANSWERS, FINAL, MEAN, RATERS, REFERENCE
from mrprism.report.findings import mean_of
from mrprism.report.reading import Entry, Key

COLUMNS = {
    REFERENCE: ("soft_dice", "dice"),
    MEAN: ("soft_dice", "dice", "ece", "brier"),
    RATERS: (ANSWERS, "ged", "ged_v", "hm_iou", "coverage", "dice_max", "dice_match", "ncc", "volume_crps"),
}
CEILING_LABEL = "U-Net on the reference (a ceiling)"


@dataclass(frozen=True)
class Column:
    target: str
    metric: str


@dataclass(frozen=True)
class Cell:
    """One number."""

    mean: float  # NaN: there is none
    spread: float  # standard deviation of the seeds' means; NaN for one seed
    best: bool = False  # better than every other method of the column by more than chance
    level: bool = False  # the best, or not to be told from the best, where nobody is alone at the top
    missing: int = 0  # cases where the metric is not defined
    against: Against | None = None  # the best of the column beside this line


@dataclass(frozen=True)
class Line:
    """One method, or one recurrence of it."""

    label: str
    result: Result
    entry: Entry | None
    recurrence: str
    reads: str
    ceiling: bool
    competes: bool  # may be best of a column: no ceiling, no recurrence but the last, not collapsed
    cells: tuple[Cell, ...] = ()

    @property
    def seeds(self) -> int:
        return len(self.result.runs)

    @property
    def why(self) -> str:
        """Why there are no numbers, or fewer than asked for."""
        if self.entry is None and not self.result.why:
            return "its runs were not scored as a fusion" if self.result.runs else "not trained yet"
        return self.result.why


@dataclass(frozen=True)
class StructureTable:
    structure: str
    lines: tuple[Line, ...]
    verdicts: tuple[Verdict | None, ...]  # one a column; where methods are compared by groups, of none


@dataclass(frozen=True)
class Table:
    contents: TableOfContents
    columns: tuple[Column, ...]
    structures: tuple[StructureTable, ...]

    @property
    def groups(self) -> list[tuple[str, list[str]]]:
        """Targets with their metrics, in the order of the columns."""
        targets = dict.fromkeys(column.target for column in self.columns)
        return [(t, [c.metric for c in self.columns if c.target == t]) for t in targets]

    @property
    def masks(self) -> bool:
        """Whether its lines were given the masks they are scored on."""
        return _given_masks(self.contents)

    @property
    def by_answers(self) -> bool:
        """Whether methods are compared only with those that give as many answers."""
        return any(column.target == RATERS for column in self.columns)

    @property
    def ties(self) -> bool:
        return any(cell.level for cell in self.cells())

    def cells(self) -> Iterator[Cell]:
        for part in self.structures:
            for line in part.lines:
                yield from line.cells


def _given_masks(contents: TableOfContents) -> bool:
    return any(slot.given == "masks" and not slot.control for slot in contents.slots)


def make_tables(comparison: Comparison) -> list[Table]:
    """Every table that was asked for."""
    return [_table(comparison, contents) for contents in comparison.contents()]


def _table(comparison: Comparison, contents: TableOfContents) -> Table:
    targets = (RATERS,) if contents.name == SPREAD else comparison.targets
    protocol = protocol_of(comparison.plan.protocol)
    metrics = COLUMNS if protocol is None else {**COLUMNS, RATERS: protocol.metrics}
    columns = tuple(Column(t, m) for t in targets for m in metrics[t])
    lines = _lines(comparison, contents)
    parts = []
    for structure in comparison.structures:
        groups = {line.label: _answers(line, structure) for line in lines} if targets == (RATERS,) else {}
        verdicts = {
            group: tuple(
                _verdict(
                    comparison, [line for line in lines if groups.get(line.label) == group], structure, column
                )
                for column in columns
            )
            for group in {groups.get(line.label) for line in lines}
        }
        filled = tuple(
            replace(
                line,
                cells=tuple(
                    _cell(line, _key(line, structure, column), verdict)
                    for column, verdict in zip(columns, verdicts[groups.get(line.label)], strict=True)
                ),
            )
            for line in lines
        )
        common = verdicts.get(None, (None,) * len(columns))
        parts.append(StructureTable(structure, filled, common))
    return Table(contents, columns, tuple(parts))


def _answers(line: Line, structure: str) -> float:
    """How many outlines a method gives of a structure; 0 where its runs do not say."""
    if line.entry is None:
        return 0.0
    number = mean_of(line.entry, Key(structure, RATERS, ANSWERS, line.recurrence))
    return 0.0 if math.isnan(number) else number


def _lines(comparison: Comparison, contents: TableOfContents) -> list[Line]:
    """Lines without numbers: the U-Nets that are always there, then the table's own."""
    slots = list(contents.slots)
    if not _given_masks(contents):
        elsewhere = [] if contents.name == SPREAD else comparison.outside_slots()
        slots = [*comparison.plain_slots(), *slots, *elsewhere]
        if CEILING.key in comparison.results and contents.name != SPREAD:
            slots.append(Slot(CEILING, CEILING_LABEL))
    return [line for slot in slots for line in _lines_of(comparison, slot)]


def _lines_of(comparison: Comparison, slot: Slot) -> Iterator[Line]:
    result = comparison.results[slot.candidate.key]
    entry = result.entry(slot.given)
    steps: Sequence[str] = (slot.recurrence,)
    if slot.recurrence == "each":
        steps = entry.recurrences if entry and entry.recurrences else (FINAL,)
    for step in steps:
        label = f"{slot.label} {step}" if slot.recurrence == "each" and step != FINAL else slot.label
        yield Line(
            label,
            result,
            entry,
            step,
            result.reads(slot.given),
            slot.candidate.ceiling,
            competes=entry is not None
            and not slot.candidate.ceiling
            and not slot.control
            and slot.candidate.method != "control"  # asked for by name: still a control
            and step == steps[-1]
            and not result.collapsed,
        )


def _verdict(comparison: Comparison, lines: Sequence[Line], structure: str, column: Column) -> Verdict | None:
    if column.metric == ANSWERS:
        return None  # more answers are not better ones
    competitors = [
        Competitor(
            line.label,
            line.entry.values(_key(line, structure, column)),
            _seed_means(line, _key(line, structure, column)),
        )
        for line in lines
        if line.entry is not None and line.competes
    ]
    return judge(competitors, comparison.groups, METRICS[column.metric].better)


def _key(line: Line, structure: str, column: Column) -> Key:
    return Key(structure, column.target, column.metric, line.recurrence)


def _seed_means(line: Line, key: Key) -> dict[int, float]:
    entries = line.result.each_seed("image" if line.reads == "image" else "masks")
    return {seed: mean_of(entry, key) for seed, entry in zip(line.result.runs, entries, strict=True)}


def _cell(line: Line, key: Key, verdict: Verdict | None) -> Cell:
    if line.entry is None:
        return Cell(math.nan, math.nan)
    _, spread = over_seeds(list(_seed_means(line, key).values()))
    values = line.entry.values(key)
    missing = sum(math.isnan(value) for value in values.values())
    cell = Cell(mean_of(line.entry, key), spread, missing=missing if missing < len(values) else 0)
    if verdict is None or not line.competes:
        return cell
    return replace(
        cell,
        best=verdict.alone and verdict.best == line.label,
        level=verdict.level(line.label),
        against=verdict.others.get(line.label),
    )
