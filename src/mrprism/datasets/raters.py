"""Simulated raters of known style, laid over true masks.

A style says how a rater departs from the truth. Lengths are fractions of the structure's
equivalent radius ``sqrt(area / pi)``, so one table fits a cup of 20 pixels and a lung of 300.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from mrprism.core.types import Masks, Rated, Reference


@dataclass(frozen=True)
class Style:
    """How one simulated rater draws."""

    bias: float = 0.0  # always draws this much larger (+) or smaller (-)
    jitter: float = 0.0  # standard deviation of that over- or under-drawing, from image to image
    wobble: float = 0.03  # standard deviation of the outline's waviness
    shift: float = 0.0  # standard deviation of the displacement along each axis
    misses: float = 0.0  # chance of overlooking a structure: looked, drew nothing
    absent: float = 0.0  # chance of not doing a structure at all


@dataclass(frozen=True)
class Scenario:
    """A named group of raters."""

    styles: tuple[Style, ...]
    anonymous: bool = False  # the raters change slots from case to case


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


def draw_raters(truth: Reference, scenario: Scenario, rng: np.random.Generator) -> tuple[Masks, Rated]:
    """Let every rater of a scenario outline the true masks of one case.

    A structure that lies inside another in the truth stays inside it in every drawing. At least one
    rater does every structure.
    """
    styles = scenario.styles
    order = rng.permutation(len(styles)) if scenario.anonymous else np.arange(len(styles))
    masks = np.zeros((len(styles), *truth.shape), dtype=bool)
    for slot, rater in enumerate(order):
        for structure, mask in enumerate(truth):
            masks[slot, structure] = draw(mask, styles[rater], rng)
    for outer, inner in _nested(truth):
        masks[:, inner] &= masks[:, outer] | ~masks[:, outer].any(
            axis=tuple(range(1, truth.ndim)), keepdims=True
        )
    absent = np.array([styles[rater].absent for rater in order])
    rated = rng.random((len(styles), len(truth))) >= absent[:, None]
    for undone in np.flatnonzero(~rated.any(axis=0)):
        rated[rng.integers(len(styles)), undone] = True
    masks[~rated] = False
    return masks, rated


def draw(mask: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """One rater's drawing of one structure: the truth, moved, grown by a wavy margin, or overlooked."""
    missed = rng.random() < style.misses
    margin = style.bias + style.jitter * rng.standard_normal()
    moves = style.shift * rng.standard_normal(mask.ndim)
    noise = rng.standard_normal(mask.shape)
    if missed or not mask.any():
        return np.zeros_like(mask)
    radius = (mask.sum() / np.pi) ** (1 / 2) if mask.ndim == 2 else (mask.sum() * 3 / (4 * np.pi)) ** (1 / 3)
    outward = _signed_distance(mask)
    outward = ndimage.shift(outward, moves * radius, order=1, mode="nearest")
    waves = ndimage.gaussian_filter(noise, max(radius * 0.5, 1.0), mode="wrap")
    waves /= waves.std()
    # the last two terms keep a structure from vanishing: a drawing shrinks to a fifth of the radius at most
    grown = np.maximum(radius * (margin + style.wobble * waves), -0.8 * -outward.min())
    drawn: np.ndarray = outward <= grown
    return drawn


def _signed_distance(mask: np.ndarray) -> Float[np.ndarray, "*space"]:
    """Distance to the outline in pixels, negative inside; the outline runs between pixels."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    signed: np.ndarray = np.where(mask, 0.5 - inside, outside - 0.5)
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
