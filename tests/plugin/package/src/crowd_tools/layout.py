"""Images with each rater's mask beside them: `NAME.png`, `NAME.RATER.png`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.images import read_image, read_mask
from mrprism.layouts import Source
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import assemble, fitting


def read(source: Path, ledger: Ledger, *, structure: str = "lesion") -> Source:
    """Read the folder; who has no file beside an image did not rate it."""
    images = sorted(path for path in source.glob("*.png") if "." not in path.stem)
    if not images:
        raise InputError(f"folder '{source}' has no NAME.png; expected images with masks NAME.RATER.png")
    masks = {image: sorted(source.glob(f"{image.stem}.*.png")) for image in images}
    raters = sorted({_rater(mask) for drawn in masks.values() for mask in drawn})
    task = Task(3, (structure,), tuple(raters))

    def samples() -> Iterator[MultiRaterSample]:
        for image, drawn in masks.items():
            ledger.take_all([image, *drawn])
            pixels = read_image(image)
            given = {
                (_rater(mask), structure): fitting(read_mask(mask).array, mask, pixels.array, image)
                for mask in drawn
            }
            yield assemble(task, image.stem, pixels.array, given, like=pixels)

    return Source("name by name", task, samples(), count=len(images))


def _rater(mask: Path) -> str:
    return mask.stem.partition(".")[2]
