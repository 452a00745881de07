"""A case with what a method made of it, kept in a file for pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.images import limit_archive
from mrprism.output.files import write_file

MOST_DRAWS_SHOWN = 12  # of a case that is kept for pictures


@dataclass(frozen=True)
class Example:
    """One test case with what a method made of it; axes as in the sample and the prediction."""

    name: str
    image: np.ndarray
    masks: np.ndarray
    rated: np.ndarray
    probability: np.ndarray
    reference: np.ndarray | None = None
    raters: np.ndarray | None = None
    confidence: np.ndarray | None = None
    steps: tuple[np.ndarray, ...] = ()
    calibrated: np.ndarray | None = None
    draws: np.ndarray | None = None  # (S, C, *space) as masks
    modes: np.ndarray | None = None  # (M, 2, C, *space) as masks


def write_example(path: str | Path, sample: MultiRaterSample, prediction: Prediction) -> None:
    """Keep a case for pictures, as one .npz file; probabilities are rounded to 16 bits, of draws some are kept as masks."""

    def rounded(value: Any) -> np.ndarray:
        return np.asarray(value, dtype=np.float16)

    arrays: dict[str, Any] = {
        "name": np.array(sample.name),
        "image": rounded(sample.picture),
        "masks": sample.masks,
        "rated": sample.rated,
        "probability": rounded(prediction.probability),
    }
    if sample.reference is not None:
        arrays["reference"] = sample.reference
    for field in ("raters", "confidence", "calibrated"):
        if (value := getattr(prediction, field)) is not None:
            arrays[field] = rounded(value)
    for field, most in (("draws", MOST_DRAWS_SHOWN), ("modes", None)):
        if (value := getattr(prediction, field)) is not None:
            arrays[field] = np.asarray(value[:most]) > 0.5
    if prediction.steps:
        arrays["steps"] = rounded(np.stack(prediction.steps))
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_file(path, content.getvalue())


def read_example(path: str | Path) -> Example:
    """Read what `write_example` wrote.

    Raises:
        InputError: The file is damaged or holds something else.
    """
    path = Path(path)
    try:
        limit_archive(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        floats = {
            key: arrays[key].astype(np.float32)
            for key in ("image", "probability", "raters", "confidence", "steps", "calibrated")
            if key in arrays
        }
        raters, structures, *space = arrays["masks"].shape
        shapes = {
            "image": (len(arrays["image"]), *space),
            "rated": (raters, structures),
            "steps": (len(arrays.get("steps", ())), structures, *space),
            "draws": (len(arrays.get("draws", ())), structures, *space),
            "modes": (len(arrays.get("modes", ())), 2, structures, *space),
            **dict.fromkeys(("probability", "reference", "calibrated"), (structures, *space)),
            **dict.fromkeys(("raters", "confidence"), (raters, structures, *space)),
        }
        for key, shape in shapes.items():
            if key in arrays and (arrays[key].shape != shape or 0 in shape):
                raise ValueError(f"{key} has the shape {arrays[key].shape}; expected {shape}")
        for key, values in floats.items():
            if not np.isfinite(values).all():
                raise ValueError(f"{key} holds values that are no numbers")
        return Example(
            name=str(arrays.get("name", path.stem)),
            masks=arrays["masks"].astype(bool),
            rated=arrays["rated"].astype(bool),
            reference=arrays["reference"].astype(bool) if "reference" in arrays else None,
            steps=tuple(floats.pop("steps", ())),
            **{key: arrays[key].astype(bool) for key in ("draws", "modes") if key in arrays},
            **floats,
        )
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(f"{path} is not an example case: {error or type(error).__name__}") from None
