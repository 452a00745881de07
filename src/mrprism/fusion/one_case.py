"""Fusing one case of a data set."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mrprism.core import given
from mrprism.core.errors import InputError, unknown
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.fusion import BY_DISTANCE, FUSIONS
from mrprism.fusion.by_pattern import MARGIN
from mrprism.fusion.pooling import Pooled, Skill

VOTE, AUTO = "majority", "auto"


def fuse_case(
    case: MultiRaterSample,
    method: str,
    skill: Skill | None = None,
    **options: Any,
) -> Prediction:
    """Fuse one case, by a method alone or with the skill found by ``pool_skill``."""
    known(method)
    given.one_of(case, MultiRaterSample, "one case, such as data[0]")
    if method == AUTO and skill is None:
        raise InputError("auto chooses a fusion by many cases, so it cannot fuse one: give a data set")
    _check_options(method, options)
    try:
        if skill is None:
            if method in BY_DISTANCE:
                options = {"spacing_mm": case.spacing_mm, **options}
            return FUSIONS[method](case.masks, case.rated, **options)
        return skill.fuse(case, options.get("margin", MARGIN))
    except InputError as error:
        raise InputError(f"case '{case.name}': {error}") from error


def some_structures(
    case: MultiRaterSample,
    method: str,
    skill: Pooled | None = None,
    number: int = 0,
    **options: Any,
) -> tuple[list[int], Prediction | None]:
    """Fuse what somebody drew of a case: which structures that is, and their fusion; None for nothing at all."""
    drawn = np.flatnonzero(case.rated.any(axis=0)).tolist()
    if not drawn:
        return [], None
    some = case
    if len(drawn) < len(case.rated[0]):  # a selection is a copy
        some = replace(case, masks=case.masks[:, drawn], rated=case.rated[:, drawn], reference=None)
    return drawn, fuse_case(some, method, None if skill is None else skill.of(number, drawn), **options)


def known(method: str) -> None:
    """Refuse a method that does not exist."""
    if method not in (*FUSIONS, AUTO):
        raise unknown("method", method, (*FUSIONS, AUTO))


def _check_options(method: str, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(FUSIONS[VOTE if method == AUTO else method]).parameters.values()
    for p in parameters:
        if p.name in options and (options[p.name] is not None or "None" not in str(p.annotation)):
            kind = str(p.annotation).split(" |")[0]
            if kind == "int":
                given.whole(options[p.name], f"option {p.name} of {method}")
            elif kind == "float":
                given.number(options[p.name], f"option {p.name} of {method}", -math.inf)
    own = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in options:
        if name not in own and not any_name:
            raise unknown(f"option of {method}", name, own)
