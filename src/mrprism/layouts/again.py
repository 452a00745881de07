"""A mrprism data set, written anew: DICOM series become NIfTI, and masks come onto their image's grid if asked."""

from __future__ import annotations

from pathlib import Path

from mrprism.datasets.dataset import open_dataset
from mrprism.datasets.dicom import dicom_files
from mrprism.datasets.later import Later
from mrprism.datasets.manifest import files
from mrprism.images import format_of
from mrprism.layouts.ledger import Ledger
from mrprism.layouts.source import Source


def read(source: Path, ledger: Ledger, *, resample: str = "no") -> Source:
    """Read a data set.

    Args:
        resample: "yes" brings masks and further channels that lie on another grid onto that of their image.
    """
    data = open_dataset(source, resample=resample == "yes", keep_values=True)
    manifest = data.manifest
    assert manifest is not None
    kind = format_of(next(files(manifest.cases[0])).path) or ""
    for case in manifest.cases:
        for file in files(case):
            held = (data.root or source) / file.path
            ledger.take_all(dicom_files(held) if held.is_dir() else [held])
    return Source(
        data.name,
        data.task,
        Later(data.names, data.__getitem__),
        channels=tuple(manifest.channels),
        count=len(data),
        no_raters=not data.task.raters,
        image_format={"nifti": "nifti", "tiff": "tiff"}.get(kind, "png"),
    )
