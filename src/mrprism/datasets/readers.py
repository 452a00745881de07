"""The layouts `mrprism import` reads: name, and function from a path to a `Source`."""

from collections.abc import Callable

from mrprism.datasets import bu_bil, drishti, drive, lidc
from mrprism.datasets.source import Source

DATASETS: dict[str, Callable[..., Source]] = {
    "bu-bil": bu_bil.read,
    "drishti": drishti.read,
    "drive": drive.read,
    "lidc": lidc.read,
}
