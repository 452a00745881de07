"""Pictures of cases as inline SVG: the image once as pixels, outlines as lines that stay sharp.

Everything is drawn in pixel coordinates of the image; a panel shows a window of it. Line widths
are in CSS pixels whatever the scale.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from mrprism.metrics.examples import Example
from mrprism.output.colours import rater_colour

LARGEST, LARGEST_MAP = 640, 400  # pixels along the longer side that an embedded image or map keeps


@dataclass(frozen=True)
class Flat:
    """An example in the plane: a volume is cut where most of it is drawn."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8
    masks: np.ndarray  # (R, C, H, W)
    rated: np.ndarray  # (R, C)
    probability: np.ndarray  # (C, H, W)
    reference: np.ndarray | None
    raters: np.ndarray | None
    confidence: np.ndarray | None  # (R, C, H, W)
    steps: tuple[np.ndarray, ...]
    cut: int | None  # which slice of a volume; None for an image
    draws: np.ndarray | None = None  # (S, C, H, W)
    modes: np.ndarray | None = None  # (M, 2, C, H, W)

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    @property
    def target_name(self) -> str:
        return "reference" if self.reference is not None else "majority of raters"

    @property
    def target(self) -> np.ndarray:
        """The reference; where there is none, what more than half of those who did a structure marked."""
        if self.reference is not None:
            return self.reference
        return np.stack([self.share(c) > 0.5 for c in range(len(self.probability))])

    def share(self, c: int) -> np.ndarray:
        """Share of those who did the structure that marked each pixel."""
        rated = self.rated[:, c]
        return np.asarray(self.masks[rated, c].mean(axis=0) if rated.any() else np.zeros(self.size))


def flatten(example: Example) -> Flat:
    """An example as pictures show it."""
    cut = None
    if example.image.ndim == 4:
        drawn = example.masks.sum(axis=(0, 1, 3, 4)) + example.probability.sum(axis=(0, 2, 3))
        cut = int(drawn.argmax())

    def plane(array: Any) -> Any:
        return array if array is None or cut is None else array[..., cut, :, :]

    return Flat(
        name=example.name,
        image=_colours(plane(example.image)),
        masks=plane(example.masks),
        rated=example.rated,
        probability=plane(example.probability),
        reference=plane(example.reference),
        raters=plane(example.raters),
        confidence=plane(example.confidence),
        steps=tuple(plane(step) for step in example.steps),
        cut=cut,
        draws=plane(example.draws),
        modes=plane(example.modes),
    )


def _colours(image: np.ndarray) -> np.ndarray:
    """(channel, H, W) in [0, 1] to (H, W, 3) bytes; the first channel alone unless there are three."""
    shown = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    bright = np.clip(np.nan_to_num(shown), 0, 1) * 255 + 0.5
    return np.asarray(bright.astype(np.uint8).transpose(1, 2, 0))


# ---- windows ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """The part of an image that a panel shows, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def view_box(self) -> str:
        return f"{self.left} {self.top} {self.width} {self.height}"

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The part of an (H, W, ...) array that lies in the window."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


def window_of(flat: Flat) -> Window:
    """A square around all that anybody drew, with room about it; the whole image if that is most of it."""
    layers = [flat.masks.any(axis=0), flat.probability > 0.5]
    if flat.reference is not None:
        layers.append(flat.reference)
    height, width = flat.size
    _, rows, columns = np.nonzero(np.concatenate(layers))
    if not len(rows):
        return Window(0, 0, width, height)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    side = max(round(1.35 * int(max(bottom - top, right - left))), 32)
    if side >= 0.85 * min(height, width):
        return Window(0, 0, width, height)
    start = np.clip(
        ((left + right - side) // 2, (top + bottom - side) // 2), 0, (width - side, height - side)
    )
    return Window(int(start[0]), int(start[1]), side, side)


# ---- parts of a panel ---------------------------------------------------------------------------


def embedded(pixels: np.ndarray, *, photograph: bool) -> str:
    """A picture as a data address: JPEG for a coloured photograph, else PNG."""
    picture = Image.fromarray(pixels)
    largest = LARGEST if photograph else LARGEST_MAP
    picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    grey = pixels.ndim == 3 and bool((pixels == pixels[..., :1]).all())
    if photograph and not grey:
        picture.save(content, "JPEG", quality=92, subsampling=0)
        kind = "jpeg"
    else:
        (picture.convert("L") if grey else picture).save(content, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def image_definition(flat: Flat, window: Window, identifier: str) -> Markup:
    """The image in a window, to be put once into the page and used by many panels."""
    return _picture(window.cut(flat.image), window, Markup(' id="{}"').format(identifier), photograph=True)


def heat(values: np.ndarray, window: Window, colours: str, low: float, high: float) -> Markup:
    """A map of numbers as a coloured picture; `colours` is one of matplotlib's colour maps."""
    from matplotlib import colormaps

    scaled = np.clip((np.nan_to_num(window.cut(values).astype(np.float64)) - low) / (high - low), 0, 1)
    return _picture(colormaps[colours](scaled, bytes=True)[..., :3], window, Markup(""), photograph=False)


def tint(masks: np.ndarray, window: Window, colour: str) -> Markup:
    """Masks (n, H, W) as a veil of one colour, the denser the more of them hold a pixel.

    For ragged masks, whose outlines would be long: a draw can be a thousand specks.
    """
    from matplotlib.colors import to_rgb

    share = np.stack([window.cut(mask) for mask in masks]).mean(axis=0)
    pixels = np.zeros((*share.shape, 4), np.uint8)
    pixels[..., :3] = np.round(255 * np.array(to_rgb(colour)))
    pixels[..., 3] = np.where(share > 0, np.round(255 * (0.25 + 0.35 * share)), 0)
    veil = Image.fromarray(pixels).quantize(16)  # few colours, few bytes
    veil.thumbnail((LARGEST_MAP, LARGEST_MAP), Image.Resampling.NEAREST)
    content = io.BytesIO()
    veil.save(content, "PNG", optimize=True)
    return Markup(
        '<image class="veil" x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" href="{}"/>'
    ).format(
        window.left, window.top, window.width, window.height,
        f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}",
    )  # fmt: skip


def _picture(pixels: np.ndarray, window: Window, identity: Markup, *, photograph: bool) -> Markup:
    return Markup(
        '<image{} x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" href="{}"/>'
    ).format(
        identity, window.left, window.top, window.width, window.height,
        embedded(np.ascontiguousarray(pixels), photograph=photograph),
    )  # fmt: skip


def colour_bar(colours: str) -> str:
    """The colours of a map as a CSS gradient from left to right."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = [to_hex(colormaps[colours](x)) for x in np.linspace(0, 1, 9)]
    return f"linear-gradient(to right, {', '.join(stops)})"


def outline(values: np.ndarray, kind: str, colour: str = "", title: str = "") -> Markup:
    """The 0.5 outline of a mask or a probability; `kind` is its class in the style sheet."""
    return _stroke(outline_path(values), kind, colour, title)


def cased(values: np.ndarray, kind: str, title: str = "", colour: str = "") -> Markup:
    """An outline with a lighter or darker edge, so that it shows on any image."""
    path = outline_path(values)
    return _stroke(path, f"{kind}-edge") + _stroke(path, kind, colour, title)


def _stroke(path: str, kind: str, colour: str = "", title: str = "") -> Markup:
    if not path:
        return Markup("")
    return Markup('<path class="line {}" d="{}"{}>{}</path>').format(
        kind,
        path,
        Markup(' style="stroke:{}"').format(colour) if colour else "",
        Markup("<title>{}</title>").format(title) if title else "",
    )


def outline_path(values: np.ndarray) -> str:
    """The 0.5 level of a map as an SVG path; closed at the border of the image."""
    is_mask = values.dtype == bool
    framed = np.pad(values.astype(np.float64), 1)
    if not (framed > 0.5).any():
        return ""
    levels = _canvas().contour(framed, levels=[0.5])
    levels.remove()
    parts = []
    for polygon in levels.get_paths()[0].to_polygons(closed_only=False):
        points = np.asarray(polygon)[:-1] - 0.5  # -1: the frame; +0.5: pixels are squares around centres
        if len(points) >= 3:
            extent = float(np.ptp(points, axis=0).max())
            points = points[:: max(1, round(extent / 220))]  # finer than a screen shows
            for _ in range((2 if extent < 110 else 1) if is_mask else 0):
                points = _round_corners(points)
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(parts)


@cache
def _canvas() -> Any:
    """Axes on which outlines are traced; making them takes longer than tracing."""
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def _round_corners(points: np.ndarray) -> np.ndarray:
    """One round of Chaikin's corner cutting on a closed polygon."""
    after = np.roll(points, -1, axis=0)
    return np.stack([0.75 * points + 0.25 * after, 0.25 * points + 0.75 * after], axis=1).reshape(-1, 2)


# ---- panels -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One small picture with a title above and a line below."""

    title: str
    drawing: Markup
    note: str = ""
    colour: str = ""  # a swatch before the title


def panel(
    title: str, layers: Sequence[Markup], window: Window, *, note: str = "", says: str = "", colour: str = ""
) -> Panel:
    """Layers on top of one another, seen through a window; `says` is for those who cannot see it."""
    drawing = Markup(
        '<svg viewBox="{}" role="img" aria-label="{}" style="aspect-ratio:{:.4g}">{}</svg>'
    ).format(window.view_box, says or title, window.width / window.height, Markup("").join(layers))
    return Panel(title, drawing, note, colour)


def use(identifier: str) -> Markup:
    """The image that `image_definition` put into the page."""
    return Markup('<use href="#{}"/>').format(identifier)


def group(identifier: str, layers: Sequence[Markup]) -> Markup:
    """Layers to be put once into the page and used by many panels."""
    return Markup('<g id="{}">{}</g>').format(identifier, Markup("").join(layers))


def all_raters(flat: Flat, names: Sequence[str]) -> list[Markup]:
    """Every rater's outlines, each in the rater's colour."""
    return [
        outline(flat.masks[r, c], "rater", rater_colour(r), names[r])
        for c in range(flat.masks.shape[1])
        for r in range(len(flat.masks))
        if flat.rated[r, c]
    ]


def target_lines(flat: Flat) -> list[Markup]:
    """The outlines a prediction should have, dashed, one for each structure."""
    return [cased(mask, "target", flat.target_name) for mask in flat.target]


def predicted_lines(probability: np.ndarray, name: str) -> list[Markup]:
    """Where a probability passes one half, for each structure."""
    return [cased(values, "prediction", name) for values in probability]
