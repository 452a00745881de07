"""Whether what was drawn lies on the grid of its image; and, on request, bringing it there."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from mrprism.core.errors import InputError
from mrprism.images import FromFile, ImageFile
from mrprism.images.resample import resample_image, resample_labels

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
    shape = file.array.shape[1:] if isinstance(file, ImageFile) else file.array.shape
    wanted = image.array.shape[1:]
    ours, theirs = file.geometry, image.geometry
    difference = theirs.differs(ours) if ours is not None and theirs is not None else None
    if resample and ours is not None and theirs is not None and (shape != wanted or difference):
        return _resampled(file, image, what)
    if shape != wanted:
        other = "image" if len(image.array) else "other"
        more = f"; the {other} has {difference}" if difference else ""
        raise InputError(
            f"{what.format(file.path)} has the size {size(shape)}, {_other(image)} "
            f"{size(wanted)}; expected the same{more}"
        )
    if difference is not None:
        order = "image first" if len(image.array) else "that one first"
        raise InputError(
            f"{what.format(file.path)} lies elsewhere than {_other(image)}: {difference} ({order})"
        )
    return file


def _other(image: ImageFile) -> str:
    return f"its image '{image.path}'" if len(image.array) else f"another mask of the case, '{image.path}',"


def _resampled(file: OnGrid, image: ImageFile, what: str) -> OnGrid:
    ours, theirs = file.geometry, image.geometry
    assert ours is not None
    assert theirs is not None
    if isinstance(file, ImageFile):
        array = np.stack([resample_image(channel, ours, theirs) for channel in file.array])
    else:
        array = resample_labels(file.array, ours, theirs)
        if file.array.any() and not array.any():
            raise InputError(
                f"nothing of {what.format(file.path)} lies inside its image '{image.path}'; expected some of it"
            )
    return replace(file, array=array, geometry=theirs, spacing_mm=image.spacing_mm)


def size(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
