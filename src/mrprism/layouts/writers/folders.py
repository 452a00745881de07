"""Plain folders: `images/CASE`, and `RATER/STRUCTURE/CASE` for each mask, as PNG, TIFF or NIfTI.

A mask that is not there was not drawn; `mrprism import folder` reads it back.
"""

from __future__ import annotations

from pathlib import Path

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
    for c, structure in enumerate(task.structures):
        part = cases.structure_files[structure]
        for r, rater in enumerate(task.raters):
            if sample.rated[r, c]:
                mask_file(folder / cases.rater_files[rater] / part / file, sample.masks[r, c], sample)
        if sample.reference is not None and not cases.fused:
            mask_file(folder / "reference" / part / file, sample.reference[c], sample)
