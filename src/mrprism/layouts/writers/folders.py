"""Plain folders: `images/CASE`, and `RATER/STRUCTURE/CASE` for each mask, as PNG, TIFF or NIfTI.

Further readings lie in `RATER.2/`, `RATER.3/`. A mask that is not there was not drawn; `mrprism import
folder` reads it back (`-o readings=.2,.3` with further readings).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.layouts.writers.cases import Cases, flat, mask_file


def write_png(cases: Cases, folder: Path) -> None:
    """8-bit PNG, 255 inside."""
    for sample in cases:
        _write(cases, flat(sample, "png"), folder, ".png")


def write_tiff(cases: Cases, folder: Path) -> None:
    """Compressed TIFF, 255 inside; any number of channels."""
    for sample in cases:
        _write(cases, flat(sample, "tiff"), folder, ".tif")


def write_nifti(cases: Cases, folder: Path) -> None:
    """Compressed NIfTI with the geometry of the image, 1 inside."""
    for sample in cases:
        _write(cases, sample, folder, ".nii.gz")


def _write(cases: Cases, sample: MultiRaterSample, folder: Path, ending: str) -> None:
    task, file = cases.task, cases.files[sample.name] + ending
    cases.image(sample, folder / "images" / file)
    for number in range(2, 2 + len(sample.readings)):
        for rater in cases.rater_files.values():
            if f"{rater}.{number}" in cases.rater_files.values():
                raise InputError(
                    f"'{rater}.{number}' is a rater, and where reading {number} by '{rater}' would lie; expected "
                    "another name (or bids, which leaves further readings out)"
                )
    readings = [("", sample.masks, sample.rated)]
    readings += [(f".{n}", again.masks, again.rated) for n, again in enumerate(sample.readings, start=2)]
    for c, structure in enumerate(task.structures):
        part = cases.structure_files[structure]
        for ending, masks, rated in readings:
            for r in np.flatnonzero(rated[:, c]).tolist():
                rater = f"{cases.rater_files[task.raters[r]]}{ending}"
                mask_file(folder / rater / part / file, masks[r, c], sample)
        if sample.reference is not None and not cases.fused:
            mask_file(folder / "reference" / part / file, sample.reference[c], sample)
