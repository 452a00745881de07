"""Raters whose masks are no second opinion, found as cases go by: equal ones, and corrections of one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrprism.agreement.cases import Cases, outlined_case
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.outlined import Outlined, outlined
from mrprism.datasets.suspicions import Corrections, NeverDiffer, Suspicion, keep, look_at, see

MOST = 60  # raters up to which every two outlines are compared


Seen = list[list[Any]]  # of each structure what each suspicion saw


def silent(task: Task) -> bool:
    """Whether nothing is said of copies: raters are slots, or very many."""
    return task.anonymous or len(task.raters) > MOST


def seen_on(case: Outlined, suspicions: Sequence[Suspicion]) -> Seen:
    """What suspicions see on a case."""
    found = []
    for c in range(case.rated.shape[1]):
        pieces = {int(r): case.pieces[int(r), c] for r in np.flatnonzero(case.rated[:, c])}
        found.append(see(suspicions, look_at(case.name, "", c, pieces, None)))
    return found


class Copies:
    """Who seems to have the masks of another; of slots and of very many raters nothing is said."""

    def __init__(self, dataset: Cases) -> None:
        self.task = dataset.task
        self.silent = silent(self.task)
        self.suspicions: tuple[Suspicion, ...] = (NeverDiffer(), Corrections())

    def see(self, dataset: Cases, number: int, sample: MultiRaterSample | None = None) -> Seen:
        """Look at a case.

        Args:
            sample: The case itself, where somebody holds it already; without it, it is read.
        """
        if self.silent:
            return []
        return seen_on(
            outlined_case(dataset, number) if sample is None else outlined(sample), self.suspicions
        )

    def keep(self, seen: Seen) -> None:
        """Keep what was seen on one case after the other."""
        for part in seen:
            keep(self.suspicions, part)

    def say(self) -> tuple[str, ...]:
        """A sentence for each finding."""
        task = self.task
        return tuple(
            said for suspicion in self.suspicions for said in suspicion.say(task.raters, task.structures)
        )
