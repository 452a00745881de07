"""Simulated raters of known style, laid over true masks.

A style says how a rater departs from the truth. Lengths are fractions of the structure's
equivalent radius ``sqrt(area / pi)``, so one table fits a cup of 20 pixels and a lung of 300.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mrprism.core.types import Image, Masks, Rated, Reference


@dataclass(frozen=True)
class Style:
    """How one simulated rater draws."""

    bias: float = 0.0  # always draws this much larger (+) or smaller (-)
    jitter: float = 0.0  # standard deviation of that over- or under-drawing, from image to image
    wobble: float = 0.03  # standard deviation of the outline's waviness
    shift: float = 0.0  # standard deviation of the displacement along each axis
    misses: float = 0.0  # chance of overlooking a structure: looked, drew nothing
    absent: float = 0.0  # chance of not doing a structure at all
    scales: tuple[float, ...] = (0.5,)  # how far the waves reach, in radii; several are laid over each other
    side: float = 0.0  # draws this much larger on one side, and smaller on the other
    towards: float = 0.0  # which side that is, in radians from the first axis to the second
    copies: tuple[int, float] | None = None  # whose drawing they start from, and the chance that they do
    # another mechanism altogether: the truth, blurred and with a haze over it, where it is above a level
    level: float | None = None
    haze: float = 0.0  # standard deviation of the haze, which reaches as far as the waves
    between: float = (
        0.0  # of volumes: standard deviation of the margin from each slice to the next, none like another
    )


@dataclass(frozen=True)
class Scenario:
    """A named group of raters."""

    styles: tuple[Style, ...]
    anonymous: bool = False  # the raters change slots from case to case
    each: int | None = None  # so many raters, drawn anew, do an image; None: all
    sites: tuple[int, ...] = ()  # the site of each rater; an image belongs to one, and only its raters do it
    elsewhere: tuple[Style, ...] = ()  # how the same raters draw other images ...
    when: Literal["dark", "half"] = "half"  # ... namely those that are dark, or half of all by chance


DARK = 0.31  # mean intensity; about half of the phantoms are darker
BLUR = 0.35  # of a radius: how far the truth is blurred for raters who draw it where it passes their level


_good = Style(wobble=0.03, jitter=0.02)
_crowd = (
    _good,
    _good,
    Style(bias=0.22, jitter=0.12, wobble=0.12, shift=0.06, misses=0.02),
    Style(bias=0.14, jitter=0.15, wobble=0.15, shift=0.08, misses=0.02),
    Style(bias=0.28, jitter=0.12, wobble=0.10, shift=0.08, misses=0.02),
    Style(bias=-0.18, jitter=0.15, wobble=0.15, shift=0.08, misses=0.05),
    Style(bias=0.08, jitter=0.20, wobble=0.20, shift=0.10, misses=0.05),
)

SCENARIOS = {
    # biases that cancel
    "symmetric": Scenario(
        tuple(
            Style(bias=bias, jitter=0.03, wobble=0.05)
            for bias in (-0.21, -0.14, -0.07, 0.0, 0.07, 0.14, 0.21)
        )
    ),
    # two good raters, five noisy ones who mostly draw too large
    "crowd": Scenario(_crowd),
    # Four of seven share a bias. They are also the less consistent ones: a bias shared by raters as
    # consistent as the rest cannot be told from the truth by any method that has no reference.
    "majority": Scenario((*[_good] * 3, *[Style(bias=0.2, jitter=0.12, wobble=0.12, shift=0.05)] * 4)),
    # the crowd, its members in another order on every case
    "anonymous": Scenario(_crowd, anonymous=True),
    # too few to outvote anybody: one good rater, one noisy
    "two": Scenario(_crowd[1:3]),
    # the crowd at a larger scale: ten good ones among thirty
    "forty": Scenario((*[_good] * 10, *_crowd[2:] * 6)),
    # the crowd, a third of its masks not there
    "missing": Scenario(tuple(Style(**{**vars(style), "absent": 1 / 3}) for style in _crowd)),
}


def _population(good: int, others: int, seed: int) -> tuple[Style, ...]:
    """Raters no two of whom are alike, the good ones first."""
    rng = np.random.default_rng(seed)
    scales = (0.25, 0.5, 1.0)

    def number(value: float) -> float:
        return round(float(value), 3)

    careful = [
        Style(
            bias=number(rng.normal(0, 0.02)),
            jitter=number(rng.uniform(0.01, 0.03)),
            wobble=number(rng.uniform(0.02, 0.05)),
            scales=scales,
        )
        for _ in range(good)
    ]
    careless = [
        Style(
            bias=number(rng.normal(0.12, 0.15)),
            jitter=number(rng.uniform(0.08, 0.2)),
            wobble=number(rng.uniform(0.08, 0.2)),
            shift=number(rng.uniform(0.04, 0.1)),
            misses=number(rng.uniform(0, 0.05)),
            scales=scales,
        )
        for _ in range(others)
    ]
    return (*careful, *careless)


_forty = _population(10, 30, seed=40)
_seven = _population(2, 5, seed=7)
_thin = (0.25, 0.5, 1.0)
_protocol = (0.0, 0.0, 0.05, -0.05, 0.1, -0.1, 0.0)

SCENARIOS |= {
    # few of many draw each image, as most data sets are made
    "sparse-40-3": Scenario(_forty, each=3),
    "sparse-40-1": Scenario(_forty, each=1),
    "sparse-7-1": Scenario(_seven, each=1),
    # who is careful depends on a visible finding: three on dark images, three on bright ones, one never
    "by-image": Scenario(
        (*[_good] * 3, *_crowd[2:5], _crowd[6]),
        elsewhere=(*_crowd[2:5], *[_good] * 3, _crowd[6]),
        when="dark",
    ),
    # everybody draws one side too far out, each their own, the last four by more than their waves
    "regional": Scenario(
        tuple(
            Style(jitter=0.03, wobble=0.05, side=side, towards=0.9 * number, scales=_thin)
            for number, side in enumerate((0.05, 0.05, 0.1, 0.2, 0.25, 0.3, 0.3))
        )
    ),
    # three sites of three raters; those of one site share a bias and see its images alone, two see all
    "site": Scenario(
        (
            *(
                Style(bias=bias + extra, jitter=0.05, wobble=0.06, scales=_thin)
                for bias in (0.18, 0.0, -0.15)
                for extra in (-0.02, 0.0, 0.02)
            ),
            Style(jitter=0.03, wobble=0.05, scales=_thin),
            Style(jitter=0.12, wobble=0.12, scales=_thin),
        ),
        sites=(0, 0, 0, 1, 1, 1, 2, 2, 2, -1, -1),
    ),
    # four who copy from a fifth, biased and unsteady; two draw for themselves, and well
    "correlated": Scenario(
        (
            _good,
            _good,
            Style(bias=0.2, jitter=0.12, wobble=0.12),
            *[Style(bias=0.05, jitter=0.05, wobble=0.05, copies=(2, 0.7))] * 4,
        )
    ),
    # one bias shared by all in half of the images, as under a protocol that changed
    "half": Scenario(
        tuple(Style(bias=b, jitter=0.04, wobble=0.05, scales=_thin) for b in _protocol),
        elsewhere=tuple(Style(bias=b + 0.15, jitter=0.04, wobble=0.05, scales=_thin) for b in _protocol),
    ),
    # another mechanism: each draws where a blurred truth with a haze of their own passes their level
    "threshold": Scenario(
        tuple(
            Style(level=level, haze=haze, scales=_thin)
            for level, haze in (
                (0.5, 0.04),
                (0.5, 0.04),
                (0.25, 0.15),
                (0.3, 0.18),
                (0.2, 0.15),
                (0.75, 0.18),
                (0.6, 0.2),
            )
        )
    ),
}


def by_slices(scenario: Scenario) -> Scenario:
    """The same raters outlining volumes slice by slice: from slice to slice as unsteady as their outlines are wavy."""

    def alike(styles: tuple[Style, ...]) -> tuple[Style, ...]:
        return tuple(replace(style, between=style.wobble) for style in styles)

    return replace(scenario, styles=alike(scenario.styles), elsewhere=alike(scenario.elsewhere))


def draw_raters(
    truth: Reference,
    scenario: Scenario,
    rng: np.random.Generator,
    image: Image | None = None,
    spacing: tuple[float, ...] | None = None,
) -> tuple[Masks, Rated]:
    """Let every rater of a scenario outline the true masks of one case.

    A structure that lies inside another in the truth stays inside it in every drawing. At least one
    rater does every structure.

    Args:
        image: For scenarios in which it matters how dark it is. None: as if it were bright.
        spacing: From pixel to pixel along each axis, in any one unit; styles are then told in lengths. None: in pixels.
    """
    styles = scenario.styles
    if scenario.elsewhere:
        dark = image is not None and float(image.mean()) < DARK
        styles = scenario.elsewhere if (dark if scenario.when == "dark" else rng.random() < 0.5) else styles
    order = rng.permutation(len(styles)) if scenario.anonymous else np.arange(len(styles))
    here = _who_does_it(scenario, rng)
    masks = np.zeros((len(styles), *truth.shape), dtype=bool)
    for slot, rater in enumerate(order):
        if not here[rater]:
            continue
        style, given = styles[rater], truth
        if style.copies is not None and rng.random() < style.copies[1]:
            given = masks[int(np.flatnonzero(order == style.copies[0])[0])]
        for structure, mask in enumerate(given):
            masks[slot, structure] = draw(mask, style, rng, spacing)
    for outer, inner in _nested(truth):
        masks[:, inner] &= masks[:, outer] | ~masks[:, outer].any(
            axis=tuple(range(1, truth.ndim)), keepdims=True
        )
    absent = np.array([styles[rater].absent for rater in order])
    rated = (rng.random((len(styles), len(truth))) >= absent[:, None]) & here[order][:, None]
    for undone in np.flatnonzero(~rated.any(axis=0)):
        rated[rng.integers(len(styles)), undone] = True
    masks[~rated] = False
    return masks, rated


def _who_does_it(scenario: Scenario, rng: np.random.Generator) -> Bool[np.ndarray, " R"]:
    """The raters at hand for one image."""
    here = np.ones(len(scenario.styles), dtype=bool)
    if scenario.sites:
        sites = np.array(scenario.sites)
        here = (sites == rng.integers(sites.max() + 1)) | (sites < 0)
    if scenario.each is not None:
        here[rng.permutation(np.flatnonzero(here))[scenario.each :]] = False
    return here


def draw(
    mask: np.ndarray, style: Style, rng: np.random.Generator, spacing: tuple[float, ...] | None = None
) -> np.ndarray:
    """One rater's drawing of one structure: the truth, moved, grown by a wavy margin, or overlooked.

    Or, for a rater with a level: where the truth, moved, blurred and seen through a haze, passes it.
    """
    missed = rng.random() < style.misses
    margin = style.bias + style.jitter * rng.standard_normal()
    moves = style.shift * rng.standard_normal(mask.ndim)
    noise = rng.standard_normal(mask.shape)
    slices = (
        style.between * rng.standard_normal((len(mask), 1, 1)) if style.between and mask.ndim == 3 else 0.0
    )
    if missed or not mask.any():
        return np.zeros_like(mask)
    pixel = np.ones(mask.ndim) if spacing is None else np.array(spacing)
    content = mask.sum() * pixel.prod()
    radius = (content / np.pi) ** (1 / 2) if mask.ndim == 2 else (content * 3 / (4 * np.pi)) ** (1 / 3)
    outward = _signed_distance(mask, pixel)
    outward = ndimage.shift(outward, moves * radius / pixel, order=1, mode="nearest")
    waves = _waves(noise, radius / pixel, style.scales)
    if style.level is not None:
        blurred = ndimage.gaussian_filter(
            (outward <= 0).astype(float), np.maximum(BLUR * radius / pixel, 0.5)
        )
        passed: np.ndarray = blurred + style.haze * waves > style.level
        return passed
    place = style.side * _sideways(mask, style.towards) if style.side else 0.0
    # the last two terms keep a structure from vanishing: a drawing shrinks to a fifth of the radius at most
    grown = np.maximum(radius * (margin + place + slices + style.wobble * waves), -0.8 * -outward.min())
    drawn: np.ndarray = outward <= grown
    return drawn


def _waves(
    noise: Float[np.ndarray, "*space"], radius: Float[np.ndarray, " axes"], scales: Sequence[float]
) -> Float[np.ndarray, "*space"]:
    """Smooth waves of unit variance that reach as far as the scales, in radii."""
    total = np.zeros(noise.shape)
    for number, scale in enumerate(scales):
        # one field of noise for all: shifted far, it is as good as another one
        field = np.roll(noise, 17 * number, tuple(range(noise.ndim))) if number else noise
        waves = ndimage.gaussian_filter(field, np.maximum(radius * scale, 1.0), mode="wrap")
        total += waves / waves.std()
    waves = total / np.sqrt(len(scales))
    return np.asarray(waves / waves.std())


def _sideways(mask: np.ndarray, towards: float) -> Float[np.ndarray, "*space"]:
    """1 towards one side of the structure, -1 towards the other; along further axes it does not change."""
    centre = [float(place.mean()) for place in np.nonzero(mask)]
    grid = np.ogrid[tuple(slice(0, size) for size in mask.shape)]
    first, second = (grid[axis] - centre[axis] for axis in (-2, -1))
    away = np.maximum(np.hypot(first, second), 1e-9)
    return np.asarray(
        np.broadcast_to((first * np.cos(towards) + second * np.sin(towards)) / away, mask.shape)
    )


def _signed_distance(mask: np.ndarray, pixel: Float[np.ndarray, " axes"]) -> Float[np.ndarray, "*space"]:
    """Distance to the outline, negative inside; the outline runs between pixels, half the smallest step from each."""
    outside = ndimage.distance_transform_edt(~mask, pixel)
    inside = ndimage.distance_transform_edt(mask, pixel)
    half = pixel.min() / 2
    signed: np.ndarray = np.where(mask, half - inside, outside - half)
    return signed


def _nested(truth: Reference) -> list[tuple[int, int]]:
    structures = range(len(truth))
    return [
        (outer, inner)
        for outer in structures
        for inner in structures
        if outer != inner
        and truth[inner].any()
        and truth[inner].sum() < truth[outer].sum()
        and not (truth[inner] & ~truth[outer]).any()
    ]
