"""One pass over a data set: every statistic of how much its raters differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mrprism.agreement.bootstrap import resample
from mrprism.agreement.case import CaseMeasures, combine, measure
from mrprism.agreement.cases import Cases, called, outlined_case, patient
from mrprism.agreement.copies import MOST, Seen, seen_on, silent
from mrprism.agreement.rereading import reread, summarise_rereading
from mrprism.agreement.result import Agreement
from mrprism.agreement.structure import summarise
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.core.workers import ALONE, Workers, in_order
from mrprism.datasets.suspicions import Corrections, keep

CHECKS = "mrprism check does it"


def agree(
    dataset: Cases,
    *,
    seed: int = 0,
    resamples: int = 1000,
    margin: float = 0.05,
    distances: bool = True,
    workers: Workers = ALONE,
    each: Callable[[int], None] = lambda done: None,
) -> Agreement:
    """Measure how much the raters of a data set differ.

    Args:
        dataset: Opened with `mrprism.datasets.open_dataset`; read once, case by case.
        seed: Of the bootstrap; equal seeds give equal intervals.
        resamples: How many times the patients are drawn again. 0: no intervals.
        margin: Of `within_spread`, tested for each reader.
        distances: Also HD95, which takes most of the time.
        workers: Who measures the cases; what comes of it is the same.
        each: Called with the number of cases done.

    Raises:
        InputError: The data set is empty, or no case was outlined by two raters.
    """
    task = dataset.task
    if not len(dataset):
        raise InputError(f"{dataset.name} has no cases; agreement needs at least one")
    if len(task.raters) < 2:
        found = f"one rater only, {task.raters[0]}" if task.raters else "no rater"
        raise InputError(f"{dataset.name} has {found}; agreement needs at least two")
    names, groups, patients = [], [], []
    measures: list[list[CaseMeasures]] = [[] for _ in task.structures]
    again: list[list[np.ndarray]] = [[] for _ in task.structures]
    dimensions = set()
    copies = Corrections()
    cases, named = partial(_case, dataset, distances), called(dataset)
    for done, case in enumerate(in_order(cases, range(len(dataset)), workers, named=named), start=1):
        names.append(case.name)
        groups.append(case.who)
        patients.append(case.group)
        dimensions.add(case.axes)
        for c, (measured, reading) in enumerate(zip(case.measures, case.again, strict=True)):
            measures[c].append(measured)
            again[c].append(reading)
        for seen in case.seen:
            keep([copies], seen)
        each(done)
    if not any(case.rated.sum() > 1 for cases in measures for case in cases):
        raise InputError(f"no case of {dataset.name} was outlined by two raters; there is nothing to compare")

    pixel = combine(measures[0], "pixel_size")
    metric = not np.isnan(pixel).all()
    flat = dimensions == {2}
    drawn = resample(groups, resamples, seed)
    sizes = pixel if metric else np.ones(len(pixel))
    parts = tuple(
        summarise(name, cases, sizes, drawn, groups, task, seed=seed, margin=margin, distances=distances)
        for name, cases in zip(task.structures, measures, strict=True)
    )
    rereadings = [
        summarise_rereading(name, own, cases, drawn, task.anonymous)
        for name, own, cases in zip(task.structures, again, measures, strict=True)
    ]
    return Agreement(
        name=dataset.name,
        task=task,
        cases=tuple(names),
        patients=tuple(patients),
        unit=("mm²" if flat else "mm³") if metric else ("px" if flat else "voxels"),
        distance_unit="mm" if metric else "px",
        structures=parts,
        seed=seed,
        resamples=resamples,
        margin=margin,
        groups=len(set(groups)),
        copies=_copies(copies, task),
        again=tuple(found for found in rereadings if found is not None),
    )


@dataclass(frozen=True)
class _Case:
    """What is kept of a case: short arrays, no pixels."""

    name: str
    who: str
    group: str | None
    axes: int
    measures: list[CaseMeasures]  # of each structure
    again: list[np.ndarray]
    seen: Seen


def _case(dataset: Cases, distances: bool, index: int) -> _Case:
    seen, task = outlined_case(dataset, index), dataset.task
    measures, again = [], []
    for c in range(len(task.structures)):
        masks, outside = seen.on_box(c)
        rated = seen.rated[:, c]
        measures.append(measure(masks, rated, seen.spacing_mm, distances=distances, outside=outside))
        again.append(reread(seen, c))
    copied = [] if silent(task) else seen_on(seen, [Corrections()])
    return _Case(seen.name, patient(seen), seen.group, len(seen.space), measures, again, copied)


def _copies(seen: Corrections, task: Task) -> tuple[str, ...]:
    """Who seems to have begun from whose masks, as `mrprism check` finds it."""
    if len(task.raters) > MOST and not task.anonymous:
        return (f"Whether some of the {len(task.raters)} raters copied others was not checked; {CHECKS}",)
    return tuple(
        f"{sentence}. A corrected copy is not a second opinion: it raises Dice, and STAPLE trusts it"
        for sentence in seen.say(task.raters, task.structures)
    )
