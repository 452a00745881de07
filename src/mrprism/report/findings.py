"""What the numbers of a report say: its table, its first sentence, who ranks where."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mrprism.metrics import METRICS, Difference, paired_difference
from mrprism.metrics.claims import LEVEL, all_pairs, suffice, too_few
from mrprism.metrics.scores import FINAL, MEAN, RATER, REFERENCE
from mrprism.report.reading import Entry, Key

DASH = "–"
COLUMNS = ((REFERENCE, ("soft_dice", "dice", "hd95")), (MEAN, ("soft_dice", "dice", "ece", "brier")))
BLOCKS: tuple[tuple[str, Callable[[Entry], bool]], ...] = (
    ("Look at the image only", lambda entry: entry.rival),
    ("Ceiling: trained on the reference itself", lambda entry: entry.reads == "image" and entry.ceiling),
    ("Not comparable: were given the masks they are scored on", lambda entry: entry.reads != "image"),
)


@dataclass(frozen=True)
class Cell:
    """One number of a table as text; empty parts where it is not known."""

    mean: str
    spread: str
    best: bool = False
    missing: int = 0


@dataclass(frozen=True)
class Line:
    entry: Entry
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class StructureTable:
    structure: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Table:
    """Methods down, metrics across in groups of one target each, structures one below the other."""

    groups: tuple[tuple[str, tuple[str, ...]], ...]  # target, its metrics
    structures: tuple[StructureTable, ...]

    @property
    def width(self) -> int:
        return 1 + sum(len(metrics) for _, metrics in self.groups)


def main_table(entries: Sequence[Entry], structures: Sequence[str]) -> Table:
    """The table of final answers; a column that no entry fills is left out."""
    groups = []
    for target, metrics in COLUMNS:
        filled = tuple(
            metric
            for metric in metrics
            if any(_known(entry, Key(s, target, metric)) for entry in entries for s in structures)
        )
        if filled:
            groups.append((target, filled))
    keys = [(target, metric) for target, metrics in groups for metric in metrics]
    tables = []
    for structure in structures:
        blocks = []
        for title, belongs in BLOCKS:
            members = [entry for entry in entries if belongs(entry)]
            best = [_best(members, Key(structure, *key)) if title == BLOCKS[0][0] else None for key in keys]
            lines = tuple(
                Line(entry, tuple(cell(entry, Key(structure, *key), best=top is entry)
                                  for key, top in zip(keys, best, strict=True)))
                for entry in members
            )  # fmt: skip
            if lines:
                blocks.append(Block(title, lines))
        tables.append(StructureTable(structure, tuple(blocks)))
    return Table(tuple(groups), tuple(tables))


def recurrence_table(entry: Entry, structures: Sequence[str]) -> Table | None:
    """The same columns for each recurrence of one entry; None where it has none."""
    if not entry.recurrences:
        return None
    groups = tuple((t, tuple(m for m in ms if m != "hd95")) for t, ms in COLUMNS if t in entry.targets)
    keys = [(target, metric) for target, metrics in groups for metric in metrics]
    tables = []
    for structure in structures:
        lines = tuple(
            Line(Entry(recurrence, entry.reads, entry.runs),
                 tuple(cell(entry, Key(structure, *key, recurrence)) for key in keys))
            for recurrence in entry.recurrences
        )  # fmt: skip
        tables.append(StructureTable(structure, (Block("", lines),)))
    return Table(groups, tuple(tables))


def cell(entry: Entry, key: Key, *, best: bool = False) -> Cell:
    """Mean and standard deviation over cases."""
    values = list(entry.values(key).values())
    known = np.array([value for value in values if not math.isnan(value)])
    if not len(known):
        return Cell(DASH, "")
    spread = number(known.std(ddof=1), key.metric) if len(known) > 1 else ""
    return Cell(number(known.mean(), key.metric), spread, best, len(values) - len(known))


def number(value: float, metric: str) -> str:
    """A value as tables show it: fractions times 100, the others with what digits they need."""
    if math.isnan(value):
        return DASH
    unit = METRICS[metric].unit
    digits = {"%": 1, "px": 1, "mm": 2, "count": 0}.get(unit, 4)
    text = f"{100 * value if unit == '%' else value:.{digits}f}"
    return text.replace("-", "−")


def mean_of(entry: Entry, key: Key) -> float:
    """Mean over the cases that have a value; NaN where none has."""
    known = [value for value in entry.values(key).values() if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def difference(first: Entry, second: Entry, key: Key) -> Difference:
    """First minus second over the cases both have, resampling patients."""
    one, two = first.values(key), second.values(key)
    shared = [case for case in one if case in two]
    return paired_difference(
        np.array([one[case] for case in shared], dtype=float),
        np.array([two[case] for case in shared], dtype=float),
        [first.groups[case] for case in shared],
    )


def change(entry: Entry, key: Key, since: str) -> Difference:
    """How one recurrence differs from another of the same entry."""
    now, then = entry.values(key), entry.values(Key(key.structure, key.target, key.metric, since))
    shared = [case for case in now if case in then]
    return paired_difference(
        np.array([now[case] for case in shared], dtype=float),
        np.array([then[case] for case in shared], dtype=float),
        [entry.groups[case] for case in shared],
    )


def _best(entries: Sequence[Entry], key: Key) -> Entry | None:
    """The entry that is better than every other by more than chance, if there is one."""
    sign = 1 if METRICS[key.metric].better == "higher" else -1
    ranked = [entry for entry in entries if _known(entry, key) and not entry.collapsed]
    if len(ranked) < 2:
        return None
    top = max(ranked, key=lambda entry: sign * mean_of(entry, key))
    p = _all_pairs(ranked, [key])[ranked.index(top)]
    for place, other in enumerate(ranked):
        if other is not top and not (p[place] < LEVEL and sign * difference(top, other, key).mean > 0):
            return None
    return top


def _all_pairs(entries: Sequence[Entry], keys: Sequence[Key]) -> np.ndarray:
    """p of every two entries differing in the mean over some columns, corrected for all pairs."""
    groups = {case: group for entry in entries for case, group in entry.groups.items()}
    scores = [[[e.values(key).get(case, math.nan) for key in keys] for e in entries] for case in groups]
    return all_pairs(np.asarray(scores, dtype=float).mean(axis=2), list(groups.values()))


def _known(entry: Entry, key: Key) -> bool:
    return not math.isnan(mean_of(entry, key))


# ---- the first sentence -------------------------------------------------------------------------


def headline(entries: Sequence[Entry], main: Entry, structures: Sequence[str]) -> str:
    """What was learned, in one sentence that is as ready to say that the main method lost."""
    target = REFERENCE if REFERENCE in main.targets else MEAN
    keys = [Key(s, target, "dice") for s in structures if _known(main, Key(s, target, "dice"))]
    if not keys:
        return f"{main.name} has no Dice on these cases."
    start = f"On {_count(len(main.values(keys[0])), 'test case')}, {main.name}"
    if main.collapsed:
        return f"{start}: {main.name} collapsed, and its numbers mean nothing.".replace(
            f", {main.name}:", ":"
        )
    rivals = [entry for entry in entries if entry.rival and entry is not main and not entry.collapsed]
    rivals = [entry for entry in rivals if all(_known(entry, key) for key in keys)]
    if not rivals:
        said = _listed(
            f"the {key.structure} with a Dice of {number(mean_of(main, key), 'dice')}" for key in keys
        )
        against = "the reference" if target == REFERENCE else "the raters' majority"
        return f"{start} outlines {said} against {against}."
    best = {key: max(rivals, key=lambda entry: mean_of(entry, key)) for key in keys}
    verdicts: dict[str, list[str]] = {}
    patients = len(set(main.groups.values()))
    if not suffice(patients):
        said = _listed(f"{number(mean_of(main, key), 'dice')} on the {key.structure}" for key in keys)
        return f"{start} has a Dice of {said}. {too_few(patients)}."
    for key in keys:
        apart = difference(main, best[key], key)
        p = float(_all_pairs([main, *rivals], [key])[0, 1 + rivals.index(best[key])])  # the best was picked
        apart = apart._replace(p=p)
        ours, theirs = (number(mean_of(entry, key), "dice") for entry in (main, best[key]))
        name = f" by {best[key].name}" if len(set(best.values())) > 1 else ""
        numbers = f"(Dice {ours} against {theirs}{name}{interval(apart)})"
        verdicts.setdefault(_verdict(apart), []).append(f"the {key.structure} {numbers}")
    if len(rivals) == 1:
        who = rivals[0].name
    elif len(set(best.values())) == 1:
        who = f"{best[keys[0]].name}, the best of {len(rivals)} other methods,"
    else:
        who = f"the best of {len(rivals)} other methods"
    first, *others = (f"{verdict} {{}} on {_listed(parts)}" for verdict, parts in verdicts.items())
    rest = "".join(
        f", and {said.format('it' if len(rivals) == 1 else 'the best of them')}" for said in others
    )
    return f"{start} {first.format(who)}{rest}.".replace(",,", ",")


def _verdict(apart: Difference) -> str:
    if not apart.significant:
        return "shows no clear difference to"
    return "does better than" if apart.mean > 0 else "falls behind"


def interval(apart: Difference) -> str:
    """The 95 % interval of a difference in points, to stand behind two numbers; empty where unknown."""
    if math.isnan(apart.low):
        return ""
    return f", difference {points(apart.low)} to {points(apart.high)}"


def points(fraction: float) -> str:
    """A difference times 100 with its sign; one that rounds to nothing has none."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def remarks(entries: Sequence[Entry], main: Entry, structures: Sequence[str]) -> list[str]:
    """What else is worth a sentence: recurrences, calibration, and all that limits the table."""
    target = REFERENCE if REFERENCE in main.targets else MEAN
    said = [*_recurrence_remark(main, structures, target), *_calibration_remark(entries, main, structures)]
    for entry in entries:
        if entry.reads != "image" and any(_same_runs(entry, other) for other in entries):
            continue  # said of what the same runs answer from the image; how they fuse masks is in the table
        for run in entry.runs:
            if run.result.get("collapsed"):
                why = "; ".join(map(str, run.result.get("collapse", ()))) or "its answer is constant"
                numbers = "Its numbers from the image" if entry.reads == "image" else "Its numbers"
                said.append(f"{entry.name} collapsed in {run.name}: {why}. {numbers} mean nothing.")
    cases = [frozenset(entry.groups) for entry in entries]
    if len(set(cases)) > 1:
        shared = len(frozenset.intersection(*cases))
        said.append(
            f"The methods were scored on different cases ({shared} in common): do not compare their means. The "
            "intervals use only the cases that both methods share."
        )
    return list(dict.fromkeys(said))


def _same_runs(entry: Entry, other: Entry) -> bool:
    """Whether another line is of what the same runs answer from the image."""
    alike = [run.path for run in entry.runs] == [run.path for run in other.runs]
    return alike and other is not entry and other.reads == "image"


def _recurrence_remark(main: Entry, structures: Sequence[str], target: str) -> list[str]:
    if len(main.recurrences) < 2 or main.collapsed:
        return []
    first, last = main.recurrences[0], main.recurrences[-1]
    parts = []
    for structure in structures:
        moved = change(main, Key(structure, target, "dice", last), first)
        if not math.isnan(moved.mean):
            sure = "" if moved.significant else ", which may be chance"
            if not suffice(moved.patients):
                sure = ", with too few patients to say more"
            parts.append(f"{points(moved.mean)} points on the {structure}{sure}")
    return [f"From {first} to {last} its Dice changes by {_listed(parts)}."] if parts else []


def _calibration_remark(entries: Sequence[Entry], main: Entry, structures: Sequence[str]) -> list[str]:
    rivals = [entry for entry in entries if entry.rival and entry is not main and not entry.collapsed]
    keys = [Key(structure, MEAN, "brier") for structure in structures]

    def mean_over_structures(entry: Entry) -> float:
        return float(np.mean([mean_of(entry, key) for key in keys]))

    rivals = [entry for entry in rivals if not math.isnan(mean_over_structures(entry))]
    if not rivals or main.collapsed or math.isnan(mean_over_structures(main)):
        return []
    together = [main, *rivals]
    p = _all_pairs(together, keys)[0]
    ours = mean_over_structures(main)
    sure = [(other, mean_over_structures(other)) for other, q in zip(rivals, p[1:], strict=True) if q < LEVEL]
    ahead = [other.name for other, score in sure if score < ours]
    if len(sure) == len(rivals) and not ahead:
        return [
            f"Its probabilities are the closest to the raters' votes of {len(together)} methods (Brier score)."
        ]
    if ahead:
        return [f"The probabilities of {_listed(ahead)} are closer to the raters' votes (Brier score)."]
    return []


def _listed(parts: Iterable[str]) -> str:
    parts = list(parts)
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


# ---- raters -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RankedRater:
    """One rater: how far the method trusts them, and how good they are where that is known."""

    name: str
    index: int  # in the task's order, for the colour
    trust: float  # `RANKED_BY`, the mean over cases and structures, in [0, 1]
    skill: float  # Dice with the reference, likewise; NaN where unknown
    imitated: float  # Dice of what the method thinks they draw with what they drew; NaN where unknown
    cases: int


def rank_raters(entry: Entry, raters: Sequence[str], structures: Sequence[str]) -> list[RankedRater]:
    """Raters by how far they are trusted, the most trusted first; empty where a method says nothing of it."""
    by = ranked_by(entry, raters, structures)
    ranked = []
    for index, name in enumerate(raters):

        def over_structures(metric: str, name: str = name) -> float:
            means = [mean_of(entry, Key(s, RATER + name, metric, FINAL)) for s in structures]
            known = [mean for mean in means if not math.isnan(mean)]
            return float(np.mean(known)) if known else math.nan

        drawn = {case for s in structures for case in entry.values(Key(s, RATER + name, "dice", FINAL))}
        ranked.append(
            RankedRater(
                name, index, over_structures(by), over_structures("skill"),
                over_structures("rater_dice"), len(drawn),
            )
        )  # fmt: skip
    if all(math.isnan(rater.trust) for rater in ranked):
        return []
    return sorted(ranked, key=lambda rater: -rater.trust if not math.isnan(rater.trust) else math.inf)


def ranked_by(entry: Entry, raters: Sequence[str], structures: Sequence[str]) -> str:
    """The weight that acts in the fusion where a run says it; else the mean of the confidence maps."""
    keys = [Key(s, RATER + name, "weight", FINAL) for s in structures for name in raters]
    return "weight" if any(_known(entry, key) for key in keys) else "confidence"


def rank_agreement(ranked: Sequence[RankedRater]) -> float:
    """Spearman's correlation of trust and skill; NaN with fewer than five raters that have both.

    Of four, the best of all orders comes about by chance in one of 24 cases, and that proves nothing.
    """
    both = [(r.trust, r.skill) for r in ranked if not math.isnan(r.trust) and not math.isnan(r.skill)]
    if len(both) < 5:
        return math.nan
    from scipy.stats import rankdata

    trust, skill = (rankdata(column) for column in zip(*both, strict=True))
    if trust.std() == 0 or skill.std() == 0:
        return math.nan
    return float(np.corrcoef(trust, skill)[0, 1])
