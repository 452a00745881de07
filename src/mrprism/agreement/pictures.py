"""One case as two small panels: every rater's outline, and where they disagree.

Panels are SVG in pixel coordinates of the shown part of the image, so outlines stay sharp.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mrprism.core.sample import MultiRaterSample
from mrprism.output.colours import BLANK

LARGEST = 480  # pixels along the longer side of an embedded image
HEAT = np.array([(253, 231, 76), (244, 140, 50), (196, 30, 58)], float)  # few disagree ... half against half


@dataclass(frozen=True)
class Outline:
    """What one rater drew, as an SVG path."""

    rater: int
    path: str


@dataclass(frozen=True)
class Panel:
    """A structure of a case: the image, the outlines, and the map of disagreement."""

    structure: str
    width: float  # of the view, in steps of the columns
    height: float  # the same unit, so pixels that are not square look as they are
    columns: int
    rows: int
    image: str  # data URI
    disagreement: str  # data URI, transparent where all agree
    outlines: tuple[Outline, ...]
    empty: tuple[int, ...]  # raters who looked and drew nothing here
    slice: int | None  # which slice of a volume


def panel(sample: MultiRaterSample, structure: int, name: str) -> Panel:
    """Draw one structure, cropped to where anybody drew; of a volume, the slice disputed most."""
    rated = sample.rated[:, structure]
    masks = sample.masks[:, structure] & rated.reshape(-1, *[1] * (sample.masks.ndim - 2))
    image, where = sample.image, None
    if image is None:
        image = np.broadcast_to(np.float32(BLANK), (3, *sample.space))  # three channels: shown as it is
    if masks.ndim == 4:
        where = most_disputed(masks, rated)
        masks, image = masks[:, where], image[:, where]
    rows, columns = _window(masks)
    masks, image = masks[:, rows, columns], image[:, rows, columns]
    spacing = sample.spacing_mm[-2:] if sample.spacing_mm else (1.0, 1.0)
    height, width = masks.shape[1:]
    return Panel(
        structure=name,
        width=float(width),
        height=float(height * spacing[0] / spacing[1]),
        columns=width,
        rows=height,
        image=_picture(_visible(image)),
        disagreement=_picture(_heat(disagreement(masks, rated))),
        outlines=tuple(Outline(int(r), outline(masks[r])) for r in np.flatnonzero(rated) if masks[r].any()),
        empty=tuple(int(r) for r in np.flatnonzero(rated) if not masks[r].any()),
        slice=where,
    )


def most_disputed(masks: Sequence[Any] | Bool[np.ndarray, "R D H W"], rated: Bool[np.ndarray, "R"]) -> int:
    """The slice that raters disagree most about; the first where they nowhere do."""
    there = np.flatnonzero(rated).tolist()
    dispute = []
    for z in range(len(masks[0])):
        votes = np.sum([masks[r][z] for r in there], axis=0, dtype=np.int16)
        dispute.append(int(np.minimum(votes, len(there) - votes).sum()))
    return int(np.argmax(dispute))


def disagreement(masks: Bool[np.ndarray, "R H W"], rated: Bool[np.ndarray, "R"]) -> Float[np.ndarray, "H W"]:
    """0 where all who rated agree, 1 where half stands against half (the most there can be)."""
    raters = max(int(rated.sum()), 1)
    votes = masks[rated].sum(axis=0)
    return np.asarray(np.minimum(votes, raters - votes) / max(raters // 2, 1))


def outline(mask: Bool[np.ndarray, "H W"]) -> str:
    """The border of a mask as an SVG path in pixel coordinates."""
    from contourpy import contour_generator

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return ""
    top, left = int(rows[0]), int(columns[0])  # tracing takes its time for every pixel, drawn or not
    padded = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(float)
    down, across = (
        np.arange(size) - 0.5 + start for size, start in zip(padded.shape, (top, left), strict=True)
    )
    generator = contour_generator(
        x=across, y=down, z=padded, line_type="Separate"
    )  # the first pixel's centre: 0.5
    lines = cast(list[np.ndarray], generator.lines(0.5))
    corners = (_corners(line[:-1]).tolist() for line in lines)
    return "".join("M" + " ".join(f"{x:g},{y:g}" for x, y in line) + "Z" for line in corners)


def _corners(line: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "corner 2"]:
    """The points of a closed line where it turns."""
    before, after = line - np.roll(line, 1, axis=0), np.roll(line, -1, axis=0) - line
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(line[turns])


def _window(masks: np.ndarray) -> tuple[slice, slice]:
    """Where anybody drew, with a margin; a square if the image allows."""
    size = np.array(masks.shape[1:])
    drawn = np.argwhere(masks.any(axis=0))
    if not len(drawn):
        return slice(0, int(size[0])), slice(0, int(size[1]))
    low, high = drawn.min(axis=0), drawn.max(axis=0) + 1
    side = np.minimum(max(int(1.3 * (high - low).max()), 32), size)
    start = np.clip((low + high - side) // 2, 0, size - side)
    return slice(int(start[0]), int(start[0] + side[0])), slice(int(start[1]), int(start[1] + side[1]))


def _visible(image: np.ndarray) -> np.ndarray:
    """(channel, H, W) as bytes; a grey image is stretched between its 1 % and 99 % points."""
    if len(image) == 3:
        return np.asarray(np.clip(image.transpose(1, 2, 0) * 255, 0, 255)).astype(np.uint8)
    grey = image[0].astype(float)
    low, high = np.percentile(grey, [1, 99])
    return np.asarray(np.clip((grey - low) / max(high - low, 1e-6) * 255, 0, 255)).astype(np.uint8)


def _heat(values: np.ndarray) -> np.ndarray:
    place = np.linspace(0, 1, len(HEAT))
    colour = np.stack([np.interp(values, place, HEAT[:, c]) for c in range(3)], axis=-1)
    alpha = np.where(values > 0, 150 + 85 * values, 0)
    return np.concatenate([colour, alpha[..., None]], axis=-1).astype(np.uint8)


def _picture(pixels: np.ndarray) -> str:
    """A data URI: PNG where something is transparent, else JPEG."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST, LARGEST))
    data, kind = io.BytesIO(), "png" if picture.mode == "RGBA" else "jpeg"
    picture.save(data, kind, optimize=True, quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
