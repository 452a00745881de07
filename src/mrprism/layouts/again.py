"""A mrprism data set, written anew: DICOM series become NIfTI, and masks come onto their image's grid if asked."""

from __future__ import annotations

from pathlib import Path

from mrprism.datasets.dataset import open_dataset
from mrprism.datasets.manifest import files
from mrprism.images import format_of
from mrprism.layouts.source import Source


def read(source: Path, *, resample: str = "no") -> Source:
    """Read a data set.

    Args:
        resample: "yes" brings masks and further channels that lie on another grid onto that of their image.
    """
    data = open_dataset(source, resample=resample == "yes")
    manifest = data.manifest
    assert manifest is not None
    kind = format_of(next(files(manifest.cases[0])).path) or ""
    return Source(
        data.name,
        data.task,
        data,
        channels=tuple(manifest.channels),
        image_format={"nifti": "nifti", "tiff": "tiff"}.get(kind, "png"),
    )
