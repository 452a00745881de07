"""What a reader of another layout returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mrprism.sample import MultiRaterSample, Task


@dataclass(frozen=True)
class Source:
    """A data set in another layout, its cases read one at a time."""

    name: str
    task: Task
    samples: Iterable[MultiRaterSample]
    channels: tuple[str, ...] | None = None
    image_format: str = "png"
    notes: list[str] = field(default_factory=list)  # what was decided or left out; grows while reading
