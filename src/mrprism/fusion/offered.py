"""Fusions that other packages offer: a fault of theirs is a sentence that names the package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.types import Masks, Rated

Fusion = Callable[..., Prediction]  # (masks (R, C, *space) bool, rated (R, C) bool, **options)


def fusion_of(found: Any, who: str) -> Fusion:
    """What another package offers, if it is a fusion; what it answers is looked at each time."""
    if not callable(found) or isinstance(found, type):
        raise ValueError(f"is {found!r}; expected a function (masks, rated, **options) -> Prediction")
    parameters = inspect.signature(found).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)

    @wraps(found)
    def fuse(masks: Masks, rated: Rated, **options: Any) -> Prediction:
        if "margin" not in named and not any_name:
            options.pop("margin", None)  # it makes no use of a region of interest
        try:
            fused = found(masks, rated, **options)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{who} failed with {type(error).__name__}: {error}") from error
        if not isinstance(fused, Prediction):
            raise InputError(f"{who} returned a {type(fused).__name__}; expected a Prediction")
        probability = np.asarray(fused.probability)
        if probability.shape != masks.shape[1:] or not ((probability >= 0) & (probability <= 1)).all():
            raise InputError(
                f"{who} returned a probability of shape {probability.shape} from {probability.min(initial=1):g} "
                f"to {probability.max(initial=0):g}; expected the shape {masks.shape[1:]} and 0 to 1"
            )
        return fused

    options = [p.replace(kind=p.KEYWORD_ONLY) for p in list(parameters)[2:] if p.kind is not p.VAR_KEYWORD]
    if "margin" not in named:
        options.append(inspect.Parameter("margin", inspect.Parameter.KEYWORD_ONLY, default=None))
    more = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    as_ours = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("masks", "rated")
    ]
    fuse.__signature__ = inspect.Signature([*as_ours, *options, *more])  # type: ignore[attr-defined]
    return fuse
