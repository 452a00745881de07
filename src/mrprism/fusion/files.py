"""Fusing mask files of one case, read and written block by block.

A NIfTI mask is read front to back as often as needed and never held whole, and the results are written
the same way, so a 512 x 512 x 1024 volume of five raters needs tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from mrprism.core.errors import InputError, unknown
from mrprism.core.patterns import PatternTable, Region, paint_blocks
from mrprism.fusion import BY_DISTANCE, FUSIONS
from mrprism.fusion.band import band_rule
from mrprism.fusion.by_pattern import MARGIN, PatternFusion, confusion_counts, survey_region
from mrprism.fusion.dawid_skene import dawid_skene_rule
from mrprism.fusion.jaccard_mean import jaccard_mean_rule
from mrprism.fusion.simple import simple_rule
from mrprism.fusion.staple import staple_rule
from mrprism.fusion.voting import best_rater_rule, majority_rule, soft_vote_rule, weighted_rule
from mrprism.images import NiftiWriter, format_of, read_mask, write_mask, write_probability
from mrprism.images.grids import one_grid
from mrprism.images.streams import NiftiMask, same_order

RULES: dict[str, Callable[..., PatternFusion]] = {  # fusions that need the pattern table alone
    "soft-vote": soft_vote_rule,
    "majority": majority_rule,
    "weighted": weighted_rule,
    "best-rater": best_rater_rule,
    "staple": staple_rule,
    "dawid-skene": dawid_skene_rule,
    "simple": simple_rule,
    "jaccard-mean": jaccard_mean_rule,
    "band": band_rule,
}


@dataclass(frozen=True)
class FusedFiles:
    """What was written, and what was found on the way."""

    mask: Path
    probability: Path
    counts: Float[np.ndarray, "R 2 2"]  # expected pixels by consensus and drawing in the region of interest
    inside: int  # pixels of the consensus
    ties: int | None  # pixels where the vote was even, where the method knows


def fuse_files(
    paths: Sequence[Path], method: str, out: Path, *, margin: int | None = MARGIN, **options: Any
) -> FusedFiles:
    """Fuse the masks several raters drew of one structure of one image, one file each.

    Writes ``consensus`` and ``probability`` into the folder, with the geometry of the first file that has one:
    ``.nii`` where that one is, else ``.nii.gz``; without one PNG (probability 16 bit, 65535 is 1) or, of volumes, TIFF.
    Files that keep the same voxels in another order are turned.

    Raises:
        InputError: Fewer than two files, files that lie on different grids (both files and both values are
            named), more than one value besides 0, a broken file, or an unknown method.
    """
    if method == "auto":
        raise InputError("auto chooses a fusion by many cases, so it cannot fuse one: give a data set")
    if method not in FUSIONS:
        raise unknown("method", method, FUSIONS)
    if len(paths) < 2:
        found = f"one rater only ({paths[0]})" if paths else "no masks at all"
        raise InputError(f"{found}: fusing needs the masks of two or more")
    kinds = {path: format_of(path) for path in paths}
    if packed := next((path for path in paths if path.suffix.lower() in (".dcm", ".dicom")), None):
        raise InputError(
            f"'{packed}' is DICOM, which is not fused file by file; expected other formats, or a folder for "
            "mrprism import dicom-seg, and mrprism fuse of what that writes"
        )
    if all(kind == "nifti" for kind in kinds.values()):
        with ExitStack() as stack:
            streams = [stack.enter_context(closing(NiftiMask(path))) for path in paths]
            if same_order(streams) and method in RULES:
                suffix = ".nii.gz" if paths[0].name.lower().endswith(".gz") else ".nii"
                written = out / f"consensus{suffix}", out / f"probability{suffix}"
                return fuse_streams(streams, lambda table: RULES[method](table, **options), *written, margin)
    return _fuse_arrays(paths, method, out, margin, options)


def fuse_streams(
    streams: Sequence[NiftiMask],
    rule: Callable[[PatternTable], PatternFusion],
    mask_path: Path,
    probability_path: Path,
    margin: int | None,
) -> FusedFiles:
    """Fuse masks of one grid by votes: read once to count them, once more to paint."""
    first = streams[0]
    present = np.ones(len(streams), bool)
    table, region = survey_region(streams, present, margin)
    fused = rule(table) if region is not None else None
    probability = np.zeros(len(table.counts)) if fused is None else fused.probability
    inside = 0
    with ExitStack() as stack:
        mask_file = stack.enter_context(_writer(mask_path, first, np.uint8))
        chance_file = stack.enter_context(_writer(probability_path, first, np.float32))
        for where, block in paint_blocks(table, streams, present, probability.astype(np.float32)):
            clear_outside(block, where, region)
            marked = block > 0.5
            inside += int(marked.sum())
            mask_file.append(marked.T)
            chance_file.append(block.T)
    ties = None if fused is None or fused.ties is None else int(table.counts[fused.ties].sum())
    return FusedFiles(mask_path, probability_path, confusion_counts(table, probability), inside, ties)


def _writer(path: Path, like: NiftiMask, dtype: type[np.generic]) -> NiftiWriter:
    return NiftiWriter(path, like.geometry.shape, np.dtype(dtype), like.geometry)


def clear_outside(block: NDArray[Any], where: Region, region: Region | None) -> None:
    """Set to 0 what lies outside the region of interest."""
    if region is None:
        block[...] = 0
        return
    for axis, (here, keep) in enumerate(zip(where, region, strict=True)):
        at = [slice(None)] * block.ndim
        for gap in (
            slice(0, max(keep.start - here.start, 0)),
            slice(max(keep.stop - here.start, 0), None),
        ):
            at[axis] = gap
            block[tuple(at)] = 0


def _fuse_arrays(
    paths: Sequence[Path], method: str, out: Path, margin: int | None, options: dict[str, Any]
) -> FusedFiles:
    files = one_grid([read_mask(path) for path in paths])
    first = next((file for file in files if file.geometry is not None), files[0])
    masks = np.stack([file.array for file in files])[:, None]
    rated = np.ones((len(files), 1), bool)
    if method in BY_DISTANCE:
        options = {"spacing_mm": first.spacing_mm, **options}
    fused = FUSIONS[method](masks, rated, margin=margin, **options)
    chance = fused.probability[0]
    if first.geometry is not None:
        suffix = ".nii" if first.path.name.lower().endswith(".nii") else ".nii.gz"
    else:
        suffix = ".png" if chance.ndim == 2 else ".tif"
    mask_path, probability_path = out / f"consensus{suffix}", out / f"probability{suffix}"
    write_mask(mask_path, chance > 0.5, like=first)
    write_probability(probability_path, chance, like=first)
    table, region = survey_region(masks[:, 0], rated[:, 0], margin)
    counts = confusion_counts(table, np.zeros(len(table.counts)))
    if region is not None:
        from mrprism.fusion.by_pattern import skill_counts

        counts = skill_counts(masks, rated, fused.probability, margin=margin)[:, 0]
    ties = None if fused.ties is None else int(fused.ties.sum())
    return FusedFiles(mask_path, probability_path, counts, int((chance > 0.5).sum()), ties)
