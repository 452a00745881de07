"""Masks as drawing programs save them: with soft edges, smeared by JPEG, or a colour for each structure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from mrprism.core.errors import InputError
from mrprism.images import Colour, ImageFile, MaskFile, read_image, read_mask
from mrprism.layouts.source import aligned, structures_of

BACKGROUND = "background"
_LISTED = 6  # colours in a sentence


@dataclass(frozen=True)
class Drawn:
    """How masks are told from their files."""

    threshold: float | None = None
    colours: Mapping[str, tuple[Colour, ...]] | None = None  # of each structure; "" of the only one

    def structures(
        self,
        path: Path,
        labels: str | Mapping[str, tuple[int, ...]],
        image: ImageFile,
        *,
        resample: str = "no",
    ) -> dict[str, np.ndarray]:
        """As `structures_of`, by threshold or colour where these were given.

        Raises:
            InputError: It does not fit; where an option would help, the sentence names it.
        """
        if self.colours is not None:
            found = {s or str(labels): mask for s, mask in self._by_colour(path, self.colours).items()}
        elif self.threshold is not None:
            if not isinstance(labels, str):
                raise InputError("-o threshold= makes masks of one structure and does not go with -o labels=")
            return {labels: aligned(read_mask(path, threshold=self.threshold), image, resample=resample)}
        else:
            try:
                return structures_of(path, labels, image, resample=resample)
            except InputError as error:
                raise InputError(f"{error}{_colours_in(path)}") from error
        like = read_image(path)
        return {
            structure: aligned(
                MaskFile(mask, like.spacing_mm, like.geometry, like.format, path), image, resample=resample
            )
            for structure, mask in found.items()
        }

    def _by_colour(self, path: Path, colours: Mapping[str, tuple[Colour, ...]]) -> dict[str, np.ndarray]:
        pixels = _pixels(path)
        named = list(dict.fromkeys(colour for group in colours.values() for colour in group))
        far = np.stack(
            [np.abs(pixels.astype(np.int16) - np.array(colour)).max(axis=-1) for colour in named], axis=-1
        )
        if self.threshold is None:
            other = far.min(axis=-1) > 0
            strange = other & ~_ground(pixels[other], pixels)
            if strange.any():
                raise InputError(
                    f"mask '{path}' has other colours than those named: {_listed(pixels[strange])}; expected "
                    "-o colour= with all of them (background:#808080 for what is none), or with it -o threshold=40 to "
                    "count what is near a named one"
                )
            near = far == 0
        else:
            nearest = far == far.min(axis=-1, keepdims=True)
            near = nearest & (far <= self.threshold)
        return {
            structure: near[..., [named.index(colour) for colour in group]].any(axis=-1)
            for structure, group in colours.items()
            if structure.lower() != BACKGROUND
        }


def parse_colours(text: str) -> dict[str, tuple[Colour, ...]] | None:
    """Read "red", "#ff0000" or "cup:#ff0000,disc:#00ff00+#ff0000"; nothing for an empty text.

    A structure named background is none.
    """
    from PIL import ImageColor

    if not text:
        return None
    found: dict[str, tuple[Colour, ...]] = {}
    for part in text.split(","):
        structure, colon, colours = part.rpartition(":")
        if bool(colon) != bool(structure.strip()) or structure.strip() in found:
            raise InputError(
                f"colour '{text}' is not understood; expected such as red or cup:#ff0000,disc:#00ff00"
            )
        try:
            rgb = [ImageColor.getrgb(colour.strip())[:3] for colour in colours.split("+")]
        except ValueError:
            raise InputError(
                f"'{colours.strip()}' is not a colour; expected a name such as red, or such as #ff0000"
            ) from None
        found[structure.strip()] = tuple((r, g, b) for r, g, b in rgb)
    if "" in found and len(found) > 1:
        raise InputError(
            f"colour '{text}' names no structure for a part; expected such as cup:#ff0000,disc:#00ff00"
        )
    return found


def parse_threshold(text: str) -> float | None:
    """Read a number; nothing for an empty text."""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(f"threshold '{text}' is not understood; expected a value of the files, such as 128")
    return value


def _ground(others: np.ndarray, pixels: np.ndarray) -> Bool[np.ndarray, "H W"]:
    """Where the ground is, black or white, whichever there is more of among the colours that nobody named."""
    black, white = (others == 0).all(axis=-1).sum(), (others == 255).all(axis=-1).sum()
    return np.asarray((pixels == (0 if black >= white else 255)).all(axis=-1))


def _pixels(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    image = read_image(path).array
    if image.ndim != 3:
        raise InputError(f"mask '{path}' is a volume; colours are read from pictures")
    if len(image) not in (1, 3):
        raise InputError(f"mask '{path}' has {len(image)} channels; expected the colours of a picture")
    planes = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    return np.moveaxis(np.round(planes * 255).astype(np.uint8), 0, -1)


def _listed(pixels: np.ndarray) -> str:
    """The colours of some pixels, the most frequent first."""
    values, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    order = np.argsort(-counts)
    some = ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in values[order[:_LISTED]])
    return some + (f" and {len(values) - _LISTED} more" if len(values) > _LISTED else "")


def _colours_in(path: Path) -> str:
    """The colours of a picture that could not be read as a mask, to be said behind that."""
    try:
        pixels = _pixels(path)
    except InputError:
        return ""
    coloured = (pixels != pixels[..., :1]).any(axis=-1)
    return f"; it has {_listed(pixels[coloured])}" if coloured.any() else ""
