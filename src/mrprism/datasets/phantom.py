"""Fundus-like images or CT-like volumes with known structures, one in the other, outlined by simulated raters."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from mrprism.core.errors import InputError, unknown
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.core.types import Image, Reference
from mrprism.datasets import body
from mrprism.datasets.raters import SCENARIOS, Scenario, by_slices, draw_raters
from mrprism.images import limit_pixels

STRUCTURES = ("disc", "cup")


def phantom_task(scenario: str = "crowd", dims: int = 2) -> Task:
    """Channels, structures and raters of a phantom data set."""
    group = _scenario(scenario, dims)
    raters = tuple(f"rater{number}" for number in range(1, len(group.styles) + 1))
    channels, structures = (3, STRUCTURES) if dims == 2 else (1, body.STRUCTURES)
    return Task(channels, structures, raters, group.anonymous)


def phantom(
    scenario: str = "crowd", *, size: int = 128, cases: int = 300, seed: int = 0, dims: int = 2
) -> Iterator[MultiRaterSample]:
    """Draw the cases of a phantom data set, the truth as their reference.

    Every case is a function of (seed, its number) alone, so a longer data set begins with a shorter one.

    Args:
        scenario: A key of `SCENARIOS`.
        size: Height and width in pixels, at least 32.
        dims: 2: photographs of a disc and a cup (`fundus`). 3: volumes of an organ and a lesion (`body.body`), which
            the raters outline slice by slice.
    """
    group = _scenario(scenario, dims)
    if size < 32 or cases < 1:
        raise InputError(
            f"a phantom needs at least 32 pixels and 1 case; asked for {size} pixels and {cases} cases"
        )
    if seed < 0:
        raise InputError(f"a phantom needs a seed of 0 or more, not {seed}")
    limit_pixels("phantom", (size, size) if dims == 2 else body.body_shape(size))
    spacing = None if dims == 2 else body.body_spacing(size)
    draw_case = fundus if dims == 2 else body.body
    for number in range(cases):
        image, truth = draw_case(np.random.default_rng((seed, number, 0)), size)
        masks, rated = draw_raters(truth, group, np.random.default_rng((seed, number, 1)), image, spacing)
        yield MultiRaterSample(
            name=f"case{number:04d}",
            image=image,
            masks=masks,
            rated=rated,
            reference=truth,
            spacing_mm=spacing,
        )


def fundus(rng: np.random.Generator, size: int) -> tuple[Image, Reference]:
    """One photograph-like image of the optic nerve head, and its true disc and cup."""
    row, column = np.mgrid[0:size, 0:size] / size - 0.5
    centre = rng.uniform(-0.1, 0.1, 2)
    radius = rng.uniform(0.2, 0.3)
    disc = _blob(row - centre[0], column - centre[1], radius, rng, waves=0.02)
    ratio = rng.uniform(0.4, 0.75)
    offset = rng.uniform(-1, 1, 2) * radius * (1 - ratio) * 0.35
    cup = _blob(row - centre[0] - offset[0], column - centre[1] - offset[1], radius * ratio, rng, waves=0.04)
    cup = np.maximum(cup, disc + 0.02)  # the cup stays inside the disc, with a rim

    rim = _step(disc, rng.uniform(0.006, 0.015))
    hollow = _step(cup, rng.uniform(0.01, 0.03))
    background = np.array([0.55, 0.24, 0.11]) * rng.uniform(0.8, 1.2)
    nerve = np.array([0.85, 0.52, 0.28]) * rng.uniform(0.9, 1.1)
    pallor = np.array([0.96, 0.80, 0.55]) * rng.uniform(0.9, 1.05)
    image = background[:, None, None] * (
        1 + 0.18 * _texture(rng, size, size / 8) + 0.06 * _texture(rng, size, 1.2)
    )
    image = image + rim * (nerve[:, None, None] * (1 + 0.08 * _texture(rng, size, size / 16)) - image)
    image = image + hollow * rng.uniform(0.45, 0.9) * (pallor[:, None, None] - image)
    dark = _vessels(rng, size, centre + offset, radius)
    image = image * (1 - dark * np.array([0.45, 0.75, 0.6])[:, None, None])
    slope = rng.uniform(-0.5, 0.5, 2)
    image = image * (1 + slope[0] * row + slope[1] * column) * (1 - 0.5 * (row**2 + column**2))
    image = image + rng.normal(0, 0.025, image.shape)
    return np.clip(image, 0, 1).astype(np.float32), np.stack([disc <= 0, cup <= 0])


def _scenario(name: str, dims: int) -> Scenario:
    if name not in SCENARIOS:
        raise unknown("scenario", name, SCENARIOS)
    if dims not in (2, 3):
        raise InputError(f"a phantom has 2 or 3 dimensions, not {dims}")
    return SCENARIOS[name] if dims == 2 else by_slices(SCENARIOS[name])


def _blob(
    row: np.ndarray, column: np.ndarray, radius: float, rng: np.random.Generator, waves: float
) -> np.ndarray:
    """How far each pixel lies outside a wavy ellipse, in image widths; negative inside."""
    stretch = 1 + rng.uniform(-0.1, 0.1)
    turn = rng.uniform(0, np.pi)
    along = np.cos(turn) * row + np.sin(turn) * column
    across = np.cos(turn) * column - np.sin(turn) * row
    angle = np.arctan2(across, along)
    ripple = sum(
        rng.normal(0, waves / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)
    )
    outward: np.ndarray = np.hypot(along / stretch, across * stretch) - radius * (1 + ripple)
    return outward


def _step(outward: np.ndarray, width: float) -> np.ndarray:
    edge: np.ndarray = 1 / (1 + np.exp(np.clip(outward / width, -50, 50)))
    return edge


def _texture(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale, mode="wrap")
    texture: np.ndarray = noise / noise.std()
    return texture


def _vessels(rng: np.random.Generator, size: int, centre: np.ndarray, radius: float) -> np.ndarray:
    """Darkness of a vessel tree that enters at the cup and leaves through the rim."""
    canvas = np.zeros((size, size))
    for direction in np.array([-1.9, -1.2, 1.2, 1.9]) + rng.normal(0, 0.25, 4):
        branches = [(centre + rng.normal(0, radius * 0.12, 2), direction, rng.uniform(0.009, 0.016))]
        while branches:
            position, heading, width = branches.pop()
            mark = np.zeros((size, size))
            for _ in range(int(1.2 * size)):
                heading += rng.normal(0, 0.05)
                position = position + np.array([np.sin(heading), np.cos(heading)]) / size
                pixel = np.round((position + 0.5) * size).astype(int)
                if (pixel < 0).any() or (pixel >= size).any():
                    break
                mark[tuple(pixel)] = 1
                if width > 0.006 and rng.random() < 1.2 / size:
                    branches.append((position, heading + rng.choice([-0.6, 0.6]), width * 0.65))
            blurred = ndimage.gaussian_filter(mark, max(width * size * 0.6, 0.5))
            if blurred.max() > 0:
                canvas = np.maximum(canvas, np.minimum(blurred / blurred.max() * 1.2, 1))
    return canvas
