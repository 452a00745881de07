"""CT-like volumes with a known organ and a lesion inside it, in slices thicker than their pixels are wide."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from mrprism.core.types import Image, Reference

STRUCTURES = ("organ", "lesion")
FIELD_MM = 96.0  # the volume is a cube of so many millimetres
THICKNESS = 3  # a slice is as thick as so many pixels are wide


def body_shape(size: int) -> tuple[int, int, int]:
    """Slices, rows and columns of a volume of `size` rows and columns."""
    return (round(size / THICKNESS), size, size)


def body_spacing(size: int) -> tuple[float, float, float]:
    """Millimetres from voxel to voxel along slices, rows and columns."""
    slices, rows, columns = (FIELD_MM / count for count in body_shape(size))
    return (slices, rows, columns)


def body(rng: np.random.Generator, size: int) -> tuple[Image, Reference]:
    """One volume (1, D, H, W), and its true organ and lesion (2, D, H, W).

    A trunk in air; an organ of smooth, uneven surface in it, and in that a lesion; two round things as bright as
    a lesion outside the organ; texture, a slope of brightness and noise. Shapes are functions of millimetres, so
    slices see what lies between them only as far as they are thick.
    """
    shape = body_shape(size)
    grid = [(np.arange(count) + 0.5) / count - 0.5 for count in shape]
    place = np.stack(np.meshgrid(*grid, indexing="ij"))
    centre = rng.uniform(-0.07, 0.07, 3)
    radius = rng.uniform(0.2, 0.26)
    organ = _uneven_ball(place, centre, radius, rng, unevenness=0.09)
    ratio = rng.uniform(0.4, 0.65)
    direction = rng.standard_normal(3)
    inside = centre + direction / np.linalg.norm(direction) * radius * (1 - ratio) * rng.uniform(0, 0.5)
    lesion = _uneven_ball(place, inside, radius * ratio, rng, unevenness=0.12)
    lesion = np.maximum(lesion, organ + 0.02)  # the lesion stays inside the organ, with a rim

    trunk = np.hypot(place[1] / 0.42, place[2] / 0.46) - 1
    image = 0.08 + _step(trunk, 0.03) * (rng.uniform(0.28, 0.4) + 0.05 * _texture(rng, shape, 0.06))
    image = image + _step(organ, 0.012) * (0.16 + 0.03 * _texture(rng, shape, 0.03))
    image = image + _step(lesion, 0.018) * rng.uniform(0.14, 0.26)
    for _ in range(2):
        away = rng.standard_normal(3)
        beside = centre + away / np.linalg.norm(away) * (radius + 0.1)
        distractor = np.maximum(_ball(place, beside, 0.05), 0.03 - organ)
        image = image + _step(distractor, 0.01) * 0.3 * _step(trunk, 0.03)
    image = image * (1 + np.tensordot(rng.uniform(-0.3, 0.3, 3), place, 1))
    image = image + rng.normal(0, 0.03, shape)
    low, high = image.min(), image.max()
    # as a volume is read from a file, from its smallest value to its largest; some scans are darker than others
    shown = ((image - low) / (high - low)) ** rng.uniform(0.9, 1.5)
    return shown.astype(np.float32)[None], np.stack([organ <= 0, lesion <= 0])


def _ball(place: Float[np.ndarray, "3 D H W"], centre: np.ndarray, radius: float) -> np.ndarray:
    """How far each voxel lies outside a ball, in widths of the volume; negative inside."""
    outward: np.ndarray = np.linalg.norm(place - centre[:, None, None, None], axis=0) - radius
    return outward


def _uneven_ball(
    place: Float[np.ndarray, "3 D H W"],
    centre: np.ndarray,
    radius: float,
    rng: np.random.Generator,
    *,
    unevenness: float,
) -> np.ndarray:
    """The same of a stretched ball whose surface goes up and down by a share of its radius."""
    stretch = rng.uniform(0.88, 1.12, 3)[:, None, None, None]
    from_centre = np.linalg.norm((place - centre[:, None, None, None]) / stretch, axis=0)
    surface = radius * (1 + unevenness * _texture(rng, place.shape[1:], 0.6 * radius))
    outward: np.ndarray = from_centre - surface
    return outward


def _step(outward: np.ndarray, width: float) -> np.ndarray:
    edge: np.ndarray = 1 / (1 + np.exp(np.clip(outward / width, -50, 50)))
    return edge


def _texture(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Smooth noise of unit variance that reaches `scale` widths of the volume along every axis."""
    reach = [max(scale * count, 0.5) for count in shape]
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), reach, mode="wrap")
    texture: np.ndarray = noise / noise.std()
    return texture
