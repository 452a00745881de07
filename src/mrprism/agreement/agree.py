"""One pass over a data set: every statistic of how much its raters differ."""

from __future__ import annotations

import numpy as np

from mrprism.agreement.bootstrap import resample
from mrprism.agreement.case import CaseMeasures, combine, measure
from mrprism.agreement.cases import Cases, outlined_case, patient
from mrprism.agreement.copies import MOST
from mrprism.agreement.rereading import reread, summarise_rereading
from mrprism.agreement.result import Agreement
from mrprism.agreement.structure import summarise
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.datasets.suspicions import Corrections, look_at

CHECKS = "mrprism check does it"


def agree(
    dataset: Cases, *, seed: int = 0, resamples: int = 1000, margin: float = 0.05, distances: bool = True
) -> Agreement:
    """Measure how much the raters of a data set differ.

    Args:
        dataset: Opened with `mrprism.datasets.open_dataset`; read once, case by case.
        seed: Of the bootstrap; equal seeds give equal intervals.
        resamples: How many times the patients are drawn again. 0: no intervals.
        margin: Of `within_spread`, tested for each reader.
        distances: Also HD95, which takes most of the time.

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
    for index in range(len(dataset)):
        seen = outlined_case(dataset, index)
        names.append(seen.name)
        groups.append(patient(seen))
        patients.append(seen.group)
        dimensions.add(len(seen.space))
        for c in range(len(task.structures)):
            masks, outside = seen.on_box(c)
            rated = seen.rated[:, c]
            measures[c].append(measure(masks, rated, seen.spacing_mm, distances=distances, outside=outside))
            again[c].append(reread(seen, c))
            if not task.anonymous and len(task.raters) <= MOST:
                pieces = {int(r): seen.pieces[int(r), c] for r in np.flatnonzero(rated)}
                if (at := look_at(seen.name, "", c, pieces, None)) is not None:
                    copies.look(at)
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


def _copies(seen: Corrections, task: Task) -> tuple[str, ...]:
    """Who seems to have begun from whose masks, as `mrprism check` finds it."""
    if len(task.raters) > MOST and not task.anonymous:
        return (f"Whether some of the {len(task.raters)} raters copied others was not checked; {CHECKS}",)
    return tuple(
        f"{sentence}. A corrected copy is not a second opinion: it raises Dice, and STAPLE trusts it"
        for sentence in seen.say(task.raters, task.structures)
    )
