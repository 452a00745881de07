"""3D Slicer: `images/CASE.nii.gz`, and `RATER/CASE.seg.nrrd` with a segment for each structure.

A rater who did not do a case has no file; a segment without a voxel is empty. `mrprism import slicer`
reads it back.
"""

from __future__ import annotations

import colorsys
import gzip
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.images import Geometry, read_image
from mrprism.layouts.writers.cases import Cases, geometry, volume, whole
from mrprism.output.files import write_file


def write(cases: Cases, folder: Path) -> None:
    """Volumes only: Slicer's segmentations have three axes."""
    for sample in cases:
        if not volume(sample):
            raise InputError(
                f"case '{sample.name}' is not a volume; seg-nrrd holds volumes (png holds images)"
            )
        name = cases.files[sample.name]
        image = folder / "images" / f"{name}.nii.gz"
        cases.image(sample, image)
        lies = geometry(sample) or (_alone(sample) if sample.image is None else read_image(image).geometry)
        assert lies is not None
        for r, rater in enumerate(cases.task.raters):
            if whole(sample, cases.task, r, "seg-nrrd"):
                content = segmentation(sample.masks[r], cases.task.structures, lies)
                path = folder / cases.rater_files[rater] / f"{name}.seg.nrrd"
                write_file(path, content, durable=False)


def _alone(sample: MultiRaterSample) -> Geometry:
    """Where masks lie that have neither an image nor a place of their own: at the origin."""
    spacing = sample.spacing_mm or (1.0, 1.0, 1.0)
    return Geometry(np.diag([*spacing[::-1], 1.0]), sample.space[::-1])


def segmentation(
    masks: Bool[np.ndarray, "C D H W"], structures: tuple[str, ...], geometry: Geometry
) -> bytes:
    """A `.seg.nrrd` file: one layer a structure, so that they may overlap; gzip; left-posterior-superior."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ geometry.affine
    sizes = [len(masks), *masks.shape[:0:-1]]
    vectors = " ".join(_vector(affine[:3, axis]) for axis in range(3))
    lines = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: none {vectors}",
        "kinds: list domain domain domain",
        "encoding: gzip",
        f"space origin: {_vector(affine[:3, 3])}",
        "Segmentation_MasterRepresentation:=Binary labelmap",
    ]
    for c, structure in enumerate(structures):
        colour = colorsys.hsv_to_rgb(c / len(structures), 0.6, 0.9)
        lines += [
            f"Segment{c}_ID:=Segment_{c + 1}",
            f"Segment{c}_Name:={' '.join(structure.split())}",
            f"Segment{c}_Color:={' '.join(f'{value:.6f}' for value in colour)}",
            f"Segment{c}_Layer:={c}",
            f"Segment{c}_LabelValue:=1",
            f"Segment{c}_Extent:=0 {sizes[1] - 1} 0 {sizes[2] - 1} 0 {sizes[3] - 1}",
        ]
    # on the disk the layer runs fastest, then x, y, z
    voxels = masks.transpose(0, 3, 2, 1).astype(np.uint8).tobytes(order="F")
    return ("\n".join(lines) + "\n\n").encode() + gzip.compress(voxels, mtime=0)


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"
