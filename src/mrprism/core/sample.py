"""What the rest of mrprism talks about: a task, and one image with what its raters drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mrprism.core.brief import brief, counted, size
from mrprism.core.errors import InputError
from mrprism.core.notebook import html
from mrprism.core.types import Image, Masks, Rated, Reference


@dataclass(frozen=True)
class Task:
    """What is being outlined, and by whom; saved with the weights."""

    channels: int
    structures: tuple[str, ...]
    raters: tuple[str, ...]
    anonymous: bool = False  # raters are slots, not the same persons from case to case
    # as networks see it, never of a data set: 2 for images and slices, 3 for volumes; and the sides of a voxel
    dims: int = field(default=2, repr=False)
    spacing_mm: tuple[float, ...] | None = field(default=None, repr=False)  # None: alike along all axes

    __repr__ = brief

    def __post_init__(self) -> None:
        for what, names in (("structures", self.structures), ("raters", self.raters)):
            if isinstance(names, str):  # would be taken for a name a letter
                raise InputError(f"{what} are a tuple of names; found '{names}': write ('{names}',)")


@dataclass(frozen=True)
class Reading:
    """One further reading of a case: what the same raters drew when they were asked again."""

    masks: Masks
    rated: Rated

    __repr__ = brief


@dataclass(frozen=True)
class MultiRaterSample:
    """One image and what each rater drew on it.

    A rater who did not do a structure is absent (``rated`` is False and the mask is all
    False and never read); a rater who looked and saw nothing is empty (``rated`` is True).

    A case may have masks only, as reader studies hand on what may not be shown: its ``image`` is
    None, its size that of the masks (``space``). What needs the pixels asks for ``picture``.
    """

    name: str
    image: Image | None
    masks: Masks
    rated: Rated
    reference: Reference | None = None  # an arbitrated mask, kept apart from the raters
    group: str | None = None  # the patient; None: the case stands for itself
    split: str | None = None  # "train", "val" or "test" where the data set fixes it
    diagnosis: int | None = None  # a case label such as glaucoma, 0 or 1
    spacing_mm: tuple[float, ...] | None = None  # one per axis of `space`
    readings: tuple[Reading, ...] = ()  # second, third, ... reading; never mixed into votes and fusions

    def __repr__(self) -> str:
        raters, structures = self.rated.shape
        missing = int((~self.rated).sum())
        parts = [
            "no image" if self.image is None else f"image {size(self.image.shape)}",
            f"{counted(raters, 'rater')} × {counted(structures, 'structure')}",
            f"{missing} masks missing" if missing else "",
            f"{counted(len(self.readings), 'further reading')}" if self.readings else "",
            "reference" if self.reference is not None else "",
            f"group '{self.group}'" if self.group is not None else "",
            f"{self.split}" if self.split is not None else "",
            f"diagnosis {self.diagnosis}" if self.diagnosis is not None else "",
            f"{size(self.spacing_mm)} mm" if self.spacing_mm is not None else "",
        ]
        return f"{type(self).__name__}('{self.name}', {', '.join(part for part in parts if part)})"

    def _repr_html_(self) -> str:
        import mrprism

        return html(repr(self), mrprism.plot_case(self))

    @property
    def space(self) -> tuple[int, ...]:
        """Pixels along each axis: rows and columns, or slices, rows and columns."""
        return self.masks.shape[2:]

    @property
    def picture(self) -> Image:
        """The image, for what cannot do without.

        Raises:
            InputError: The case has none.
        """
        if self.image is None:
            raise InputError(
                f"case '{self.name}' has masks only and no image; learning and predicting need the image"
            )
        return self.image


if TYPE_CHECKING:
    Samples = Sequence[MultiRaterSample]
else:
    Samples = Sequence  # checkers of types at run time would read a file to see what is in it
