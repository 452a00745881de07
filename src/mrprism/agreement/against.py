"""How far each rater is from the reference, such as what people settled in the viewer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import Dataset
from mrprism.metrics.overlap import dice

Row = dict[str, Any]


def against_reference(dataset: Dataset) -> tuple[Row, ...]:
    """Each rater against the references of a data set, structure by structure.

    Returns:
        `structure`, `rater`, `cases` that have both, mean `dice` (0 to 1; both empty: 1), `marked_too_much` and
        `left_out` (pixels over those of the reference, all cases together; None where the references are empty),
        `worst_case` and its `worst_dice`.

    Raises:
        InputError: No case has a reference.
    """
    named = [name for name, there in dataset.referenced.items() if there]
    if not named:
        raise InputError(
            f"no case of data set '{dataset.name}' has a reference to compare the raters with; settle cases with "
            "mrprism view --adjudicate --as NAME, or leave --reference out"
        )
    return rows_against((dataset[name] for name in named), dataset.task.structures, dataset.task.raters)


def rows_against(
    samples: Iterable[MultiRaterSample], structures: tuple[str, ...], raters: tuple[str, ...]
) -> tuple[Row, ...]:
    """`against_reference` of these samples; those without a reference do not count."""
    found: dict[tuple[int, int], list[tuple[float, str, int, int, int]]] = {}
    for sample in samples:
        if sample.reference is None:
            continue
        for r, c in zip(*np.nonzero(sample.rated), strict=True):
            drawn, held = sample.masks[r, c], sample.reference[c]
            more, less = int((drawn & ~held).sum()), int((held & ~drawn).sum())
            measured = float(dice(drawn, held)), sample.name, more, less, int(held.sum())
            found.setdefault((int(c), int(r)), []).append(measured)
    return tuple(_row(structures[c], raters[r], found[c, r]) for c, r in sorted(found))


def _row(structure: str, rater: str, cases: list[tuple[float, str, int, int, int]]) -> Row:
    size = sum(case[4] for case in cases)
    worst = min(cases)
    return {
        "structure": structure,
        "rater": rater,
        "cases": len(cases),
        "dice": float(np.mean([case[0] for case in cases])),
        "marked_too_much": sum(case[2] for case in cases) / size if size else None,
        "left_out": sum(case[3] for case in cases) / size if size else None,
        "worst_case": worst[1],
        "worst_dice": worst[0],
    }
