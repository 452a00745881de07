"""A volume as other programs read it: as NIfTI, and its masks as surfaces for the page's 3-D view (NiiVue)."""

from __future__ import annotations

import struct

import nibabel as nib
import numpy as np

from mrprism.images.surfaces import surface
from mrprism.viewer.opened import OpenCase


def place(case: OpenCase) -> np.ndarray:
    """Voxel (x, y, z) to millimetres; to voxels where the spacing is unknown."""
    if case.geometry is not None:
        return np.asarray(case.geometry.affine, float)
    spacing = case.spacing_mm or (1.0, 1.0, 1.0)
    return np.diag([*spacing[::-1], 1.0])


def nifti(values: np.ndarray, case: OpenCase) -> bytes:
    """A volume (D, H, W) as NIfTI, where it lies in the patient."""
    content: bytes = nib.Nifti1Image(values.transpose(2, 1, 0), place(case)).to_bytes()
    return content


def mesh(mask: np.ndarray, case: OpenCase) -> bytes:
    """The surface of a mask (D, H, W) in the patient's millimetres, in the format MZ3."""
    points, faces = surface(np.asarray(mask, bool))
    affine = place(case)
    there = (points[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]).astype("<f4")
    if np.linalg.det(affine[:3, :3]) < 0:  # a mirror turns what is outside in
        faces = faces[:, ::-1]
    head = struct.pack("<2H3I", 0x5A4D, 3, len(faces), len(points), 0)
    return bytes(head + faces.astype("<i4").tobytes() + there.tobytes())
