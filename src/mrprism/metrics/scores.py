"""Predictions to one tidy table: a row for each case, structure, recurrence, target and metric.

The table is all a report or a comparison reads of how good a run is; nothing is computed again.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mrprism.core.errors import InputError, unknown
from mrprism.core.files import plain_file
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.metrics import METRICS
from mrprism.metrics.overlap import Cuts, VotedCuts
from mrprism.output.files import replacing
from mrprism.output.tables import as_meant, to_csv

REFERENCE = "reference"  # the arbitrated mask
MEAN = "mean of raters"  # the share of votes of those who did the structure
RATERS = "raters"  # all their masks, as a set
RATER = "rater:"  # followed by the rater's name: one mask alone
ANSWERS = "answers"  # the metric that says how many outlines a method gives of one structure
DIVERSITY = "diversity"  # the metric that says how far the raters are from each other, whatever the method
FINAL = "final"  # the answer of a method; "Rec0", "Rec1", ... are the recurrences on the way


class Row(NamedTuple):
    """One number, and all that says what it is."""

    case: str
    group: str  # the patient, or the case where none is known
    structure: str
    recurrence: str
    target: str
    metric: str
    value: float  # NaN: the metric is not defined here, such as a distance to an empty outline
    reads: str = "image"  # what the method looked at: "image", "masks" or "both"


@dataclass(frozen=True)
class Target:
    """What a probability is held against: votes out of a number of raters, one out of one if hard."""

    name: str
    votes: np.ndarray
    raters: int

    @cached_property
    def cuts(self) -> VotedCuts:
        """The same, kept for all that is held against it."""
        return VotedCuts(self.votes, self.raters)


def score(
    prediction: Prediction,
    sample: MultiRaterSample,
    task: Task | None = None,
    *,
    reads: str = "image",
    metrics: Collection[str] | None = None,
    targets: Collection[str] | None = None,
) -> list[Row]:
    """Everything that can be said of one prediction, one number a row.

    Each structure is scored by itself. Recurrences and the final answer are held against the
    reference and the mean of the raters who did the structure, the final answer also against
    each rater. What the prediction or the sample lacks gives no row; a metric that is not
    defined for a case gives NaN.

    Args:
        prediction: One case, at the sample's own size.
        task: Gives the names of structures and raters; without it they are numbered from 1.
        reads: What the method was shown. A method that reads masks is scored against masks it
            has seen, so its rows never share a column with the others.
        metrics: Names from `METRICS`; all when None.
        targets: Of "reference", "mean of raters", "raters" and "rater" (each alone); all when None.

    Raises:
        ValueError: The prediction is of another size than the sample, or a name is unknown.
        InputError: A metric that is always defined came out as NaN, or any as infinite.
    """
    wanted = _wanted(metrics, targets)
    raters, structures = sample.masks.shape[:2]
    if prediction.probability.shape != sample.masks.shape[1:]:
        raise ValueError(
            f"the prediction of {sample.name} has shape {prediction.probability.shape}, "
            f"its masks have {sample.masks.shape[1:]}"
        )
    names = task or Task(
        channels=0 if sample.image is None else len(sample.image),
        structures=tuple(f"structure {c + 1}" for c in range(structures)),
        raters=tuple(f"rater {r + 1}" for r in range(raters)),
    )
    rows = []
    for c, structure in enumerate(names.structures):
        for recurrence, target, metric, value in _numbers(prediction, sample, names, c, wanted):
            if not METRICS[metric].allows(value):
                raise InputError(
                    f"{metric} of '{structure}' of case '{sample.name}' is {value:g}; expected a number, so nothing "
                    "is written"
                )
            rows.append(
                Row(
                    sample.name,
                    sample.group or sample.name,
                    structure,
                    recurrence,
                    target,
                    metric,
                    value,
                    reads,
                )
            )
    return rows


@dataclass(frozen=True)
class _Wanted:
    metrics: frozenset[str]
    targets: frozenset[str]

    def of(self, needs: str) -> list[str]:
        return self.by_need.get(needs, [])

    @cached_property
    def by_need(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, metric in METRICS.items():
            if name in self.metrics:
                found.setdefault(metric.needs, []).append(name)
        return found


def _wanted(metrics: Collection[str] | None, targets: Collection[str] | None) -> _Wanted:
    known_targets = (REFERENCE, MEAN, RATERS, "rater")
    for given, known in ((metrics, tuple(METRICS)), (targets, known_targets)):
        for name in given or ():
            if name not in known:
                raise unknown("name", name, known)
    return _Wanted(
        frozenset(METRICS if metrics is None else metrics),
        frozenset(known_targets if targets is None else targets),
    )


def _numbers(
    prediction: Prediction, sample: MultiRaterSample, task: Task, c: int, wanted: _Wanted
) -> Iterator[tuple[str, str, str, float]]:
    """Recurrence, target, metric and value of everything about structure `c`."""
    final = prediction.probability[c]
    common = list(_common_targets(sample, c, wanted))
    steps = ((f"Rec{i}", step[c]) for i, step in enumerate(prediction.steps))  # a volume's are on the disk
    for recurrence, probability in itertools.chain(steps, [(FINAL, final)]):
        cuts = Cuts(probability)
        for target in common:
            for name in wanted.of("probability"):
                yield recurrence, target.name, name, _value(name, cuts, target, sample)
    drawn = [r for r in range(len(sample.masks)) if sample.rated[r, c]]
    if drawn:
        yield from _as_validation_taught(prediction, sample, c, drawn, wanted)
    if "rater" in wanted.targets:
        for r in drawn:
            target = Target(RATER + task.raters[r], sample.masks[r, c].astype(np.uint8), 1)
            for name in wanted.of("probability"):
                if METRICS[name].each_rater:
                    yield FINAL, target.name, name, _value(name, cuts, target, sample)
        yield from _about_raters(prediction, sample, task, c, wanted)
    if RATERS in wanted.targets and drawn:
        draws, sampled, weights = _answers(prediction, c)
        for name in wanted.of("draws"):
            given = (weights,) if weights is not None and METRICS[name].weighted else ()
            value = METRICS[name].function(draws, sample.masks[drawn, c], sampled, *given)
            yield FINAL, RATERS, name, value


def _as_validation_taught(
    prediction: Prediction, sample: MultiRaterSample, c: int, drawn: Sequence[int], wanted: _Wanted
) -> Iterator[tuple[str, str, str, float]]:
    """How good the calibrated probability is, and whether inner and outer outline hold."""
    masks = sample.masks[drawn, c]
    if prediction.calibrated is not None and MEAN in wanted.targets:
        target = Target(MEAN, masks.sum(axis=0, dtype=np.int32), len(drawn))
        cuts = Cuts(prediction.calibrated[c])
        for name in wanted.of("calibrated"):
            yield FINAL, MEAN, name, _value(name, cuts, target, sample)
    if MEAN in wanted.targets:
        levels = None if prediction.at_least is None else np.asarray(prediction.at_least[:, c])
        votes = masks.sum(axis=0, dtype=np.int32)
        for name in wanted.of("votes"):
            yield (
                FINAL,
                MEAN,
                name,
                METRICS[name].function(prediction.probability[c], levels, votes, len(drawn)),
            )
    if RATERS in wanted.targets and prediction.inner is not None and prediction.outer is not None:
        for name in wanted.of("bounds"):
            value = METRICS[name].function(prediction.inner[c], prediction.outer[c], masks)
            yield FINAL, RATERS, name, value


def _answers(prediction: Prediction, c: int) -> tuple[np.ndarray, bool, np.ndarray | None]:
    """Every outline a method gives of a structure, whether they are some of many, and their chances if unlike."""
    if prediction.draws is not None and prediction.draw_weights is not None:
        weights = np.asarray(prediction.draw_weights, np.float64)[:, c]
        some = np.flatnonzero(weights > 0)  # draws without a chance are none
        if len(some):
            alike = np.ptp(weights[some]) < 1e-9
            return prediction.draws[some, c], False, None if alike else weights[some] / weights.sum()
    if prediction.draws is not None:
        return prediction.draws[:, c], True, None
    if prediction.raters is not None:
        return prediction.raters[:, c], False, None
    return np.asarray(prediction.probability[c])[None], False, None  # one, and always the same


def _common_targets(sample: MultiRaterSample, c: int, wanted: _Wanted) -> Iterator[Target]:
    if REFERENCE in wanted.targets and sample.reference is not None:
        yield Target(REFERENCE, sample.reference[c].astype(np.uint8), 1)
    rated = sample.rated[:, c]
    if MEAN in wanted.targets and rated.any():
        yield Target(MEAN, sample.masks[rated, c].sum(axis=0, dtype=np.int32), int(rated.sum()))


def _value(name: str, cuts: Cuts, target: Target, sample: MultiRaterSample) -> float:
    metric = METRICS[name]
    if metric.of_cuts is not None:
        return metric.of_cuts(cuts, target.cuts)
    return metric.function(cuts.probability, target.votes, target.raters, sample.spacing_mm)


def _about_raters(
    prediction: Prediction, sample: MultiRaterSample, task: Task, c: int, wanted: _Wanted
) -> Iterator[tuple[str, str, str, float]]:
    """How well each rater is imitated, how far trusted, and how good they are in truth."""
    for r, name in enumerate(task.raters):
        for metric in wanted.of("confidence"):
            if prediction.confidence is not None:
                yield FINAL, RATER + name, metric, METRICS[metric].function(prediction.confidence[r, c])
        for metric in wanted.of("weight"):
            if prediction.weights is not None:
                yield FINAL, RATER + name, metric, METRICS[metric].function(prediction.weights[r, c])
        if not sample.rated[r, c]:
            continue
        for metric in wanted.of("raters"):
            if prediction.raters is not None:
                imitated = np.asarray(prediction.raters[r, c] > 0.5)
                yield FINAL, RATER + name, metric, METRICS[metric].function(imitated, sample.masks[r, c])
        for metric in wanted.of("masks"):
            if sample.reference is not None:
                value = METRICS[metric].function(sample.masks[r, c], sample.reference[c])
                yield FINAL, RATER + name, metric, value


class Summary(NamedTuple):
    """A metric over the cases of a table."""

    structure: str
    recurrence: str
    target: str
    metric: str
    reads: str
    mean: float
    sd: float  # over cases, n - 1 in the denominator; NaN for a single case
    n: int  # cases with a value
    missing: int  # cases where the value is NaN


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Mean and spread over cases, NaN left out and counted, in the order of the rows."""
    values: dict[tuple[str, str, str, str, str], list[float]] = {}
    for row in rows:
        key = (row.structure, row.recurrence, row.target, row.metric, row.reads)
        values.setdefault(key, []).append(row.value)
    summaries = []
    for key, all_values in values.items():
        known = np.array([value for value in all_values if not math.isnan(value)])
        mean = float(known.mean()) if len(known) else math.nan
        sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        summaries.append(Summary(*key, mean, sd, len(known), len(all_values) - len(known)))
    return summaries


def write_table(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as CSV, whole or not at all; numbers and names come back exactly."""
    cells: Iterator[list[str | float]] = ([*row[:6], float(row.value), row.reads] for row in rows)
    head = to_csv(Row._fields, [])
    with replacing(Path(path)) as file:
        file.write(head.encode())
        while some := list(itertools.islice(cells, 10_000)):  # never the text of all of them
            file.write(to_csv(Row._fields, some).removeprefix(head).encode())


def read_table(path: str | Path) -> list[Row]:
    """Read what `write_table` wrote.

    Raises:
        InputError: The file is missing, no table, or damaged; the line is named.
    """
    path = Path(path)
    try:
        with plain_file(path).open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: evaluate the run first") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}") from None
    if not lines or tuple(lines[0]) != Row._fields:
        raise InputError(f"{path} is not a table of scores: its first line should be {','.join(Row._fields)}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            case, group, structure, recurrence, target, metric, value, reads = map(as_meant, line)
            rows.append(Row(case, group, structure, recurrence, target, metric, float(value), reads))
            _check_value(metric, rows[-1].value)
        except ValueError:
            raise InputError(f"{path} is damaged at line {number}: {','.join(line)[:80]!r}") from None
    return rows


def _check_value(metric: str, value: float) -> None:
    known = METRICS.get(metric)
    if math.isinf(value) or (known is not None and not known.allows(value)):
        raise ValueError(f"{metric} is {value}")


def dice_of_cases(rows: Sequence[Row]) -> dict[str, float]:
    """Dice of the final answer in each case, the mean over structures.

    Against the reference where there is one and the mean of raters elsewhere; of a method scored in two ways,
    of its answer from the image.
    """
    seen = {row.reads for row in rows}
    reads = "image" if "image" in seen else next(iter(sorted(seen)), "image")
    final = [row for row in rows if (row.recurrence, row.metric, row.reads) == (FINAL, "dice", reads)]
    reference = [row for row in final if row.target == REFERENCE]
    dices: dict[str, list[float]] = {}
    for row in reference or [row for row in final if row.target == MEAN]:
        if not math.isnan(row.value):
            dices.setdefault(row.case, []).append(row.value)
    return {case: float(np.mean(values)) for case, values in dices.items()}


def pick_examples(rows: Sequence[Row]) -> dict[str, str]:
    """The best, the median and the worst case of a table by Dice of the final answer, and the first.

    What counts is `dice_of_cases`. The first by name is the same for every method, so pictures of
    it can be laid side by side. Small tables give fewer cases.

    Returns:
        "best", "median", "worst" and "first" to the names of cases.
    """
    dices = dice_of_cases(rows)
    ranked = sorted(dices, key=lambda case: (-dices[case], case))
    if not ranked:
        return {}
    roles = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1], "first": min(ranked)}
    picked: dict[str, str] = {}
    for role, case in roles.items():
        if case not in picked.values():
            picked[role] = case
    return picked
