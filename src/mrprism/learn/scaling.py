"""How file values became intensities in training, so that images outlined later are scaled alike or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mrprism.core.errors import InputError
from mrprism.datasets import Dataset
from mrprism.datasets.open_image import open_image
from mrprism.images import ImageFile, Window
from mrprism.learn.settings import RunConfig

_NARROW = 0.01  # of a window, that values of the right scale should span at least


def scaling_of(dataset: Dataset) -> dict[str, Any]:
    """What a run writes down of it: the window, whether there are several, and whether values are shares.

    Nothing is known of data that were given from Python.
    """
    manifest, root = dataset.manifest, dataset.root
    if manifest is None or root is None:
        return {"window": None}
    known = set(dataset.names)
    cases = [case for case in manifest.cases if case.name in known and case.image is not None]
    windows = {case.window or manifest.window for case in cases}
    if len(windows) > 1:
        return {"window": None, "several_windows": True}
    first = open_image(root / cases[0].images[0])
    return {"window": windows.pop(), "shares": first.top is not None}


def open_alike(file: Path, config: RunConfig, window: Window | None) -> ImageFile:
    """An image with its intensities as the run's training images had them.

    Args:
        window: What the user says instead.

    Raises:
        InputError: It cannot be read, or its values cannot be meant as those of the training images were.
    """
    if window is not None:
        return open_image(file, window=window)
    if config.several_windows:
        raise InputError(
            "the images this run was trained on had different windows, so none can be taken for "
            f"'{file}'; say which with --window LOW:HIGH"
        )
    image = open_image(file, window=config.window)
    if config.shares is not None and (image.top is not None) != config.shares:
        kinds = ("pictures of 8 or 16 bits", "images with values of their own, such as CT")
        had, has = kinds if config.shares else kinds[::-1]
        raise InputError(
            f"'{file}' is of the {has}, the run was trained on {had}, so its scale is not known; expected an image of "
            "the same kind, or --window LOW:HIGH"
        )
    if config.window is not None and image.values is not None:
        _fits(file, image, config.window)
    return replace(image, values=None)  # they would only take memory


def need_window(dataset: Dataset, config: RunConfig) -> None:
    """Refuse a data set whose images are scaled by another window than those of the run."""
    manifest = dataset.manifest
    if manifest is None or config.window is None:
        return
    for case in manifest.cases:
        own = case.window or manifest.window
        if case.image is not None and case.name in dataset.names and own != config.window:
            found = "no window" if own is None else f"the window {own[0]:g} to {own[1]:g}"
            raise InputError(
                f"case '{case.name}' of data set '{dataset.name}' has {found}, the run was trained with "
                f"{config.window[0]:g} to {config.window[1]:g}; expected the same, so that values mean the same"
            )


def _fits(file: Path, image: ImageFile, window: Window) -> None:
    """Refuse values that a window leaves nothing of."""
    assert image.values is not None
    low, high = float(image.values.min()), float(image.values.max())
    outside = window == (0.0, 1.0) and (
        low < -0.01 or high > 1.01
    )  # intensities that 0.1 wrote without their window
    nothing = high > low and (
        high - low < _NARROW * (window[1] - window[0]) or image.array.min() == image.array.max()
    )
    if outside or nothing:
        raise InputError(
            f"'{file}' holds values from {low:g} to {high:g}, but the run was trained on values in the window "
            f"{window[0]:g} to {window[1]:g}; expected an image of that scale, or --window LOW:HIGH"
        )
