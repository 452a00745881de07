"""What was drawn on a case, without its image and without the empty surround: large volumes need little memory so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.core.types import Image, Rated
from mrprism.datasets.case_files import further_readings, read_pieces, reading_of, spacing_of
from mrprism.datasets.dataset import Dataset
from mrprism.datasets.manifest import Case, Drawn, Manifest, files
from mrprism.datasets.pieces import Bits, Box, Piece, joined, nothing, piece_of
from mrprism.images import ImageFile, Window, format_of, limit_pixels, scale
from mrprism.images.streams import NiftiMask, NiftiStream, same_order

LARGE = 1 << 24  # voxels from which on a volume is not held: 256 × 256 × 256
BLOCK = 1 << 22  # voxels read at a time

Pieces = dict[tuple[int, int], Piece]  # by rater and structure


@dataclass(frozen=True)
class Outlined:
    """What raters drew of one case, each mask cut to where something is drawn."""

    name: str
    group: str | None
    space: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    rated: Rated
    pieces: Pieces  # of those who rated
    readings: tuple[Pieces, ...] = ()  # further ones

    def box(self, structure: int) -> Box:
        """The smallest that holds all that was drawn of a structure; a single pixel where nothing was."""
        drawn = [piece.box for (_, c), piece in self.pieces.items() if c == structure and not piece.empty]
        return joined(drawn) if drawn else tuple(slice(0, 1) for _ in self.space)

    def on_box(self, structure: int) -> tuple[list[Any], int]:
        """The masks of a structure on its box, and how many pixels lie outside; absent raters have an empty mask.

        They are arrays of bool, those of a large box perhaps `Bits`.

        Not to be written into: a mask that fills the box is the piece itself.
        """
        box = self.box(structure)
        nothing_drawn = np.broadcast_to(np.False_, [part.stop - part.start for part in box])
        masks = [nothing_drawn] * len(self.rated)
        for (r, c), piece in self.pieces.items():
            if c == structure and not piece.empty:
                masks[r] = piece.on(box)
        return masks, math.prod(self.space) - nothing_drawn.size


def outlined(sample: MultiRaterSample) -> Outlined:
    """What was drawn on a case that is held."""
    return Outlined(
        sample.name,
        sample.group,
        sample.space,
        sample.spacing_mm,
        sample.rated,
        _cut(sample.masks, sample.rated),
        tuple(_cut(again.masks, again.rated) for again in sample.readings),
    )


def outlined_files(dataset: Dataset, index: int) -> Outlined | None:
    """What was drawn on a large case, read from its files without ever holding its image or a whole mask.

    Label maps, and masks that are not NIfTI or keep their voxels in another order, are held one at a time.

    Returns:
        None where the case is small or in memory, its masks are to be resampled, or its image, or its first mask where
        it has none, is not a NIfTI file of one channel.

    Raises:
        InputError: A file is broken, or lies in another place than its image.
    """
    found = _large(dataset, index)
    if found is None:
        return None
    root, manifest, case, grid = found
    like = _grid_file(grid)
    space = like.array.shape[1:]
    readings = [
        _pieces(root, manifest, case, given, grid, like)
        for given in (case.masks, *(reading_of(case, number) for number in further_readings(case)))
    ]
    rated = np.zeros((len(manifest.rater_names), len(manifest.structures)), bool)
    for place in readings[0]:
        rated[place] = True
    return Outlined(
        case.name, case.group, space, spacing_of(case, like), rated, readings[0], tuple(readings[1:])
    )


def slice_of(dataset: Dataset, index: int, case: Outlined, structure: int, where: int) -> MultiRaterSample:
    """One slice of a large volume and one structure, its image read no further than there.

    Intensities are stretched over the slice and not over the volume, unless a window says how.
    """
    found = _large(dataset, index)
    assert found is not None
    root, manifest, entry, _ = found
    plane = tuple(slice(0, n) for n in case.space[1:])
    box = (slice(where, where + 1), *plane)
    masks = np.zeros((*case.rated.shape, 1, *case.space[1:]), bool)
    for (r, c), piece in case.pieces.items():
        if c == structure and not piece.empty and piece.box[0].start <= where < piece.box[0].stop:
            at = where - piece.box[0].start
            cut = Piece(piece.shape, (box[0], *piece.box[1:]), piece.inside[at : at + 1])
            masks[r, c] = cut.on(box)
    channels = [_slice(root / path, where, entry.window or manifest.window) for path in entry.images]
    image = np.concatenate(channels) if channels else None
    return MultiRaterSample(case.name, image, masks, case.rated, group=case.group, spacing_mm=case.spacing_mm)


def _slice(path: Path, where: int, window: Window | None) -> Image:
    """(1, 1, H, W)"""
    with closing(NiftiStream(path)) as stream:
        width, height, _ = stream.shape
        plane = stream[slice(0, width), slice(0, height), slice(where, where + 1)].T[None]
        return scale(plane.astype(plane.dtype.newbyteorder("=")), path, window)


def _cut(masks: np.ndarray, rated: np.ndarray) -> Pieces:
    return {(r, c): piece_of(masks[r, c]) for r, c in np.argwhere(rated).tolist()}


def _large(dataset: Dataset, index: int) -> tuple[Path, Manifest, Case, NiftiStream] | None:
    """The files of a case that is not to be held, and the one that gives its grid."""
    entry = dataset.on_disk(dataset.names[index])
    if entry is None:
        return None
    root, manifest, case = entry
    paths = [root / path for path in case.images] or [root / file.path for file in list(files(case))[:1]]
    if not paths or (case.images and len(case.images) != len(manifest.channels)):
        return None
    if any(format_of(path) != "nifti" for path in paths):
        return None
    try:
        grids = [NiftiStream(path) for path in paths]
        large = math.prod(grids[0].shape) >= LARGE and same_order(grids)
    except InputError:  # the other way says what is wrong with them
        return None
    if not large or len(grids[0].geometry.space) < 3 or len(case.spacing_mm or "zyx") != 3:
        return None
    limit_pixels(grids[0].path, grids[0].shape)
    return root, manifest, case, grids[0]


def _grid_file(grid: NiftiStream) -> ImageFile:
    """A file of no channels, with which masks are compared."""
    nothing = np.zeros((0, *grid.shape[::-1]), np.float32)
    return ImageFile(nothing, grid.spacing_mm, grid.geometry, "nifti", grid.path)


def _pieces(
    root: Path,
    manifest: Manifest,
    case: Case,
    given: Mapping[str, Drawn],
    grid: NiftiStream,
    like: ImageFile,
) -> Pieces:
    found: Pieces = {}
    for rater, drawn in given.items():
        r = manifest.rater_names.index(rater)
        parts = [drawn] if isinstance(drawn, str) else [{name: path} for name, path in drawn.items()]
        for part in parts:
            piece = None
            if not isinstance(part, str):
                ((structure, path),) = part.items()
                piece = _streamed(root / path, grid)
            if piece is not None:
                found[r, manifest.structures.index(structure)] = piece
            else:
                found.update({(r, c): own for c, own in read_pieces(root, manifest, case, part, like)})
    return found


def _streamed(path: Path, grid: NiftiStream) -> Piece | None:
    """A mask cut to where something is drawn; None where it cannot be read front to back on this grid."""
    if format_of(path) != "nifti":
        return None
    try:
        with closing(NiftiMask(path)) as stream:
            return piece_of_stream(stream) if same_order([grid, stream]) else None
    except InputError:  # the other way says what is wrong with it
        return None


def piece_of_stream(stream: NiftiMask, block: int = BLOCK) -> Piece:
    """`piece_of` the mask in a file; axes z, y, x."""
    *plane, depth = stream.shape
    step, size = max(1, block // math.prod(plane)), math.prod(plane)
    rows = np.zeros((depth, -(-size // 8)), np.uint8)
    boxes = []
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        part = stream[(*(slice(0, n) for n in plane), slice(start, stop))].T
        rows[start:stop] = np.packbits(part.reshape(stop - start, -1), axis=1)
        z, *rest = piece_of(part).box
        if z.stop:
            boxes.append((slice(z.start + start, z.stop + start), *rest))
    shape = stream.shape[::-1]
    if not boxes:
        return nothing(shape)
    box = joined(boxes)
    corner, space = tuple(part.start for part in box), tuple(part.stop - part.start for part in box)
    bits = Bits(rows, shape[1:], corner, space)
    return Piece(shape, box, bits if bits.size > LARGE else bits[:])
