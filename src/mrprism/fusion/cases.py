"""Fusing the cases of a data set, each by itself or with what they say together about the raters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Samples, Task
from mrprism.core.workers import ALONE, Workers
from mrprism.fusion.auto import choose
from mrprism.fusion.one_case import AUTO, fuse_case, known
from mrprism.fusion.pooling import Pooled, pool


def fuse_cases(cases: Samples, method: str, *, pooled: bool = False, **options: Any) -> Iterator[Prediction]:
    """Fuse every case of a data set, one after the other.

    Args:
        cases: Read twice when pooled; one case is in memory at a time.
        method: A name in ``FUSIONS``, or "auto": of several fusions the one that predicts best what a rater left
            out has drawn, for each structure (`mrprism.fusion.auto`).
        pooled: Estimate one skill per rater from all cases together (``pool_skill``), and fuse each case
            with it, instead of rating the raters anew on every image. Raters must be the same persons
            from case to case.
        options: Of the fusion; when pooled, of ``pool_skill``.

    Raises:
        InputError: An unknown method, one that cannot be pooled, or a case whose structure nobody drew.
    """
    known(method)
    if isinstance(cases, str) or not hasattr(cases, "__getitem__"):
        raise InputError(
            f"expected an open data set, such as mrprism.open_dataset gives; found {given.said(cases)}"
        )
    return _fused(cases, method, pooled, options)


def _fused(cases: Samples, method: str, pooled: bool, options: Mapping[str, Any]) -> Iterator[Prediction]:
    skill = shared(cases, method, **options) if pooled or method == AUTO else None
    for number in range(len(cases)):
        case = cases[number]
        yield fuse_case(case, method, skill.of(number) if skill else None, **options)


def shared(
    cases: Samples, method: str, *, task: Task | None = None, workers: Workers = ALONE, **options: Any
) -> Pooled:
    """What all cases together say: about the raters, or, for "auto", about fusions as well.

    Args:
        task: For "auto", whether raters are persons, and the names of structures; None: that of the data set.
        workers: Who reads the cases; what comes of it is the same.

    Raises:
        InputError: A method that cannot be pooled, or nobody drew anything.
    """
    if method != AUTO:
        return pool(cases, method, workers=workers, **options)
    task = task or getattr(cases, "task", None)
    count = cases[0].rated.shape[1] if len(cases) else 0
    structures = task.structures if task else tuple(f"structure {c}" for c in range(count))
    return choose(cases, structures, anonymous=task is not None and task.anonymous, workers=workers)
