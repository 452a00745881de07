"""Where a grid of voxels lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Geometry:
    """Where a file's voxels lie in the patient."""

    affine: Float64[np.ndarray, "4 4"]  # voxel (x, y, z) to millimetres, right-anterior-superior
    shape: tuple[int, ...]  # as on disk, x first
    header: Any = None  # the nibabel header of a NIfTI file, so that units and codes survive

    @property
    def space(self) -> tuple[int, ...]:
        """The pixel axes, x first: two of them where the third has length one."""
        return self.shape[:2] if len(self.shape) == 2 or self.shape[2] == 1 else self.shape[:3]

    @property
    def spacing(self) -> Float64[np.ndarray, "3"]:
        """Voxel edge lengths along x, y, z in millimetres."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def direction(self) -> Float64[np.ndarray, "9"]:
        """Direction cosines, row by row."""
        return np.asarray((self.affine[:3, :3] / np.maximum(self.spacing, 1e-12)).ravel())

    def differs(self, other: Geometry, tolerance: float = 0.05) -> str | None:
        """How another grid of the same shape lies elsewhere, in words; None if it does not.

        ``tolerance`` is in voxels: how far a corner of one grid may lie from that of the other.
        """
        size = np.array([*self.shape[:3], 1, 1, 1][:3], dtype=float) - 1
        corners = np.array(np.meshgrid(*[(0.0, s) for s in size])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(corners.shape[1])])
        apart = float(np.linalg.norm((self.affine - other.affine)[:3] @ corners, axis=0).max())
        voxel = float(np.linalg.norm(self.affine[:3, :3], axis=0).min())
        if apart <= tolerance * max(voxel, 1e-9):
            return None
        ours, theirs = self.spacing, other.spacing
        if not np.allclose(ours, theirs, rtol=1e-3):
            return f"spacing {_numbers(ours)} mm against {_numbers(theirs)} mm"
        if not np.allclose(self.affine[:3, 3], other.affine[:3, 3], atol=tolerance * voxel):
            return f"origin {_numbers(self.affine[:3, 3])} against {_numbers(other.affine[:3, 3])} mm"
        return f"direction {_numbers(self.direction)} against {_numbers(other.direction)}"


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{v + 0.0:.4g}" for v in values) + ")"  # no -0
