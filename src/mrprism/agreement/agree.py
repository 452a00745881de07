"""One pass over a data set: every statistic of how much its raters differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mrprism.agreement.bootstrap import resample
from mrprism.agreement.case import CaseMeasures, combine, measure, pairs
from mrprism.agreement.cases import Cases, patient
from mrprism.agreement.ratio import row_mean
from mrprism.agreement.structure import StructureAgreement, summarise
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task


@dataclass(frozen=True)
class Agreement:
    """How much the raters of a data set differ.

    Where a value is undefined (0/0) it is NaN here, null in JSON and empty in CSV, and counted.
    """

    name: str
    task: Task
    cases: tuple[str, ...]
    patients: tuple[str | None, ...]
    unit: str  # of sizes: "mm²", "mm³", "px" or "voxels"
    distance_unit: str  # "mm" or "px"
    structures: tuple[StructureAgreement, ...]
    seed: int
    resamples: int
    margin: float
    groups: int  # patients there are to resample

    def __getitem__(self, structure: str) -> StructureAgreement:
        return next(part for part in self.structures if part.structure == structure)

    def matrix(self, structure: str, statistic: str) -> Float[np.ndarray, "R R"]:
        """A statistic of every two raters (`dice`, `hd95`, `cohen_kappa`); NaN on the diagonal."""
        raters = len(self.task.raters)
        square = np.full((raters, raters), np.nan)
        first, second = pairs(raters)
        square[first, second] = square[second, first] = self[structure].pairs[statistic].value
        return square

    def hardest(self) -> list[int]:
        """Places of the cases, those people most disagree on first (mean pairwise Dice, over structures)."""
        scores = np.stack([part.cases["dice"] for part in self.structures])
        score = row_mean(scores.T)
        order = np.argsort(np.where(np.isnan(score), np.inf, score), kind="stable")
        return [int(i) for i in order if not np.isnan(score[i])]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Tidy tables by name: `overall`, `pairs`, `raters`, `spread`, `cases`, `sizes`."""
        from mrprism.agreement.tables import tables

        return tables(self)

    def to_json(self) -> dict[str, Any]:
        """The tables and what they were made with, ready for `json.dumps` (undefined: None)."""
        from mrprism.agreement.tables import to_json

        return to_json(self)


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
    dimensions = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        _check(sample, task)
        names.append(sample.name)
        groups.append(patient(sample))
        patients.append(sample.group)
        dimensions.add(sample.masks.ndim - 2)
        for c in range(len(task.structures)):
            measures[c].append(
                measure(sample.masks[:, c], sample.rated[:, c], sample.spacing_mm, distances=distances)
            )
    if not any(case.rated.sum() > 1 for cases in measures for case in cases):
        raise InputError(f"no case of {dataset.name} was outlined by two raters; there is nothing to compare")

    pixel = combine(measures[0], "pixel_size")
    metric = not np.isnan(pixel).all()
    flat = dimensions == {2}
    weights = resample(groups, resamples, seed)
    sizes = pixel if metric else np.ones(len(pixel))
    parts = tuple(
        summarise(name, cases, sizes, weights, groups, task, seed=seed, margin=margin)
        for name, cases in zip(task.structures, measures, strict=True)
    )
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
    )


def _check(sample: MultiRaterSample, task: Task) -> None:
    expected = (len(task.raters), len(task.structures))
    if sample.masks.shape[:2] != expected or sample.rated.shape != expected:
        raise InputError(
            f"case '{sample.name}' has masks of {sample.masks.shape[:2]} raters and structures and "
            f"{sample.rated.shape} marks of who rated; the data set has {expected}"
        )
