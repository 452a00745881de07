"""Surfaces for looking at: closed, seen from outside, and where the mask is."""

from __future__ import annotations

import numpy as np
import pytest

from mrprism.images.surfaces import LARGEST, surface


def ball(radius: float, shape: tuple[int, int, int], centre: tuple[float, float, float]) -> np.ndarray:
    at = np.indices(shape).reshape(3, -1).T - np.array(centre)
    return np.asarray((np.linalg.norm(at, axis=1) < radius).reshape(shape))


def volume(points: np.ndarray, faces: np.ndarray) -> float:
    """By the divergence theorem; negative where triangles are seen from inside, in x, y, z."""
    a, b, c = (points[faces[:, n]].astype(float)[:, ::-1] for n in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(("radius", "shape"), [(9.0, (30, 32, 34)), (80.0, (200, 180, 190))])
def test_a_ball(radius: float, shape: tuple[int, int, int]) -> None:
    centre = (shape[0] / 2 + 1, shape[1] / 2, shape[2] / 2 - 2)
    mask = ball(radius, shape, centre)
    points, faces = surface(mask)
    assert volume(points, faces) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.06)
    away = np.linalg.norm(points - centre, axis=1)
    assert abs(away - radius).max() < 1.2 * max(1.0, 2 * radius / LARGEST), (
        "about a voxel of the grid it is drawn from"
    )


def test_it_is_closed_also_at_the_border_and_between_pieces() -> None:
    mask = np.zeros((6, 7, 8), bool)
    mask[0, :, :3] = True
    mask[4:, 5:, 6:] = True
    _, faces = surface(mask)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    there = {tuple(edge) for edge in edges.tolist()}
    assert len(there) == len(edges), "no edge twice the same way"
    assert there == {(b, a) for a, b in there}, "each once there and once back"


def test_a_voxel_and_nothing() -> None:
    mask = np.zeros((3, 3, 3), bool)
    assert [len(part) for part in surface(mask)] == [0, 0]
    mask[1, 1, 1] = True
    points, faces = surface(mask)
    assert points.mean(axis=0) == pytest.approx([1, 1, 1]) and len(faces) == 12
