"""Simulated raters laid over any data set that has a reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from mrprism.core.errors import InputError, unknown
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.raters import SCENARIOS, draw_raters


def lay_raters(
    samples: Iterable[MultiRaterSample], task: Task, scenario: str, *, seed: int = 0
) -> tuple[Task, Iterator[MultiRaterSample]]:
    """Replace the raters of a data set by those of a scenario, drawing over its references.

    Each case is drawn as a function of (seed, its position) alone.

    Raises:
        InputError: The scenario is unknown, or (when its turn comes) a case has no reference.
    """
    if scenario not in SCENARIOS:
        raise unknown("scenario", scenario, SCENARIOS)
    group = SCENARIOS[scenario]
    raters = tuple(f"rater{number}" for number in range(1, len(group.styles) + 1))

    def drawn() -> Iterator[MultiRaterSample]:
        for number, sample in enumerate(samples):
            if sample.reference is None:
                raise InputError(f"case '{sample.name}' has no reference to draw simulated raters over")
            rng = np.random.default_rng((seed, number, 1))
            masks, rated = draw_raters(sample.reference, group, rng, sample.image)
            yield replace(sample, masks=masks, rated=rated, readings=())

    return Task(task.channels, task.structures, raters, group.anonymous), drawn()
