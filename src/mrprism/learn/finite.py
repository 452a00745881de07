"""NaN and infinity stop here: in weights that are read, weights that are saved, answers that are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction


def not_finite(tensors: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """The first tensor with a value that is no number, and how many of its values are none."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex():
            wrong = int((~tensor.isfinite()).sum())
            if wrong:
                return name, wrong
    return None


def refuse_not_finite(tensors: Mapping[str, Tensor], file: Any) -> None:
    """Refuse tensors read from a file where a value is no number.

    Raises:
        InputError: It names the tensor and the file.
    """
    found = not_finite(tensors)
    if found is not None:
        name, wrong = found
        raise InputError(
            f"{file}: tensor '{name}' has {_values(wrong)} NaN or infinite; expected finite numbers, so the file "
            "is damaged or its training went wrong: train anew, or take another copy"
        )


def check_answer(prediction: Prediction, case: str, method: str) -> None:
    """Refuse an answer (NumPy arrays) in which a value is no number, before it is written or scored.

    Raises:
        InputError: It names the case, and which map it is.
    """
    for name in (field.name for field in fields(Prediction)):
        value = getattr(prediction, name)
        for array in value if isinstance(value, tuple) else () if value is None else (value,):
            wrong = array.size - int(np.isfinite(array).sum())
            if wrong:
                raise InputError(
                    f"method '{method}' answers '{case}' with {_values(wrong)} NaN or infinite in its {name}: "
                    "its weights are finite but give no numbers on this image, so nothing is said of it; "
                    "train anew with a lower learning rate"
                )


def _values(count: int) -> str:
    return f"{count} value that is" if count == 1 else f"{count} values that are"
