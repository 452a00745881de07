"""Whether what was drawn lies on the grid of its image; and, on request, bringing it there."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images import FromFile, ImageFile, scale
from mrprism.images.grids import apart, in_order_of
from mrprism.images.resample import resample_image, resample_labels


class SeveralFaultsError(InputError):
    """Several things that are wrong with one file, each in a sentence."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("; besides, ".join(sentences))
        self.sentences = sentences


OnGrid = TypeVar("OnGrid", bound=FromFile)


def aligned(
    file: OnGrid, image: ImageFile | None, what: str = "mask '{}'", *, resample: bool = False
) -> OnGrid:
    """What was read, if it has the size of its image and lies where it lies.

    Args:
        image: None: it is not compared. Of a case without an image the grid of its first mask: a file
            of no channels.
        what: How to call it in the error, with {} for its path.
        resample: Bring it onto the grid of its image; possible where both know their place.

    Raises:
        InputError: It does not fit; both files and both values are named.
    """
    if image is None:
        return file
    file = in_order_of(file, image.geometry)
    shape = file.array.shape[1:] if isinstance(file, ImageFile) else file.array.shape
    wanted = image.array.shape[1:]
    ours, theirs = file.geometry, image.geometry
    difference = apart(image, file)
    if resample and ours is not None and theirs is not None and (shape != wanted or difference):
        return _resampled(file, image, what)
    if shape != wanted:
        other = "image" if len(image.array) else "other"
        more = f"; the {other} has {difference}" if difference else ""
        raise InputError(
            f"{what.format(file.path)} has the size {size(shape)}, {_other(image)} "
            f"{size(wanted)}; expected the same{more}{_turned(file, image)}"
        )
    if difference is not None:
        order = "image first" if len(image.array) else "that one first"
        raise InputError(
            f"{what.format(file.path)} lies in another place than {_other(image)}: {difference} ({order})"
        )
    return file


def _other(image: ImageFile) -> str:
    return f"its image '{image.path}'" if len(image.array) else f"another mask of the case, '{image.path}',"


def _turned(file: FromFile, image: FromFile) -> str:
    """What is to be known of files that were turned upright, where sizes do not fit."""
    said = [f"; of '{one.path}': {note}" for one in (file, image) for note in one.notes if "turned" in note]
    return "".join(said)


def _resampled(file: OnGrid, image: ImageFile, what: str) -> OnGrid:
    ours, theirs = file.geometry, image.geometry
    assert ours is not None
    assert theirs is not None
    if isinstance(file, ImageFile):
        if file.values is None:
            array = np.stack([resample_image(channel, ours, theirs) for channel in file.array])
            return replace(file, array=array, geometry=theirs, spacing_mm=image.spacing_mm)
        low = [channel.min() if file.window is None else file.window[0] for channel in file.values]
        values = np.stack(
            [
                resample_image(np.asarray(channel, np.float32), ours, theirs, outside=float(least))
                for channel, least in zip(file.values, low, strict=True)
            ]
        )
        array = scale(values, file.path, file.window)
        return replace(file, array=array, values=values, geometry=theirs, spacing_mm=image.spacing_mm)
    array = resample_labels(file.array, ours, theirs)
    if file.array.any() and not array.any():
        raise InputError(
            f"nothing of {what.format(file.path)} lies inside its image '{image.path}'; expected some of it"
        )
    return replace(file, array=array, geometry=theirs, spacing_mm=image.spacing_mm)


def size(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
