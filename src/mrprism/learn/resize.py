"""Images and masks at another size, by one rule for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample


def resize(maps: Float[Tensor, "N H W"], height: int, width: int) -> Float[Tensor, "N height width"]:
    """Bilinear, antialiased when shrinking, pixel centres kept; unchanged when the size is right."""
    if maps.shape[-2:] == (height, width):
        return maps
    return functional.interpolate(
        maps[None], (height, width), mode="bilinear", align_corners=False, antialias=True
    )[0]


def sized(maps: Any, height: int, width: int) -> Any:
    """Probabilities (*lead, H, W) at another size; a tuple of them map by map, None stays None."""
    if maps is None:
        return None
    if isinstance(maps, tuple):
        return tuple(sized(each, height, width) for each in maps)
    flat = resize(maps.float().reshape(-1, *maps.shape[-2:]), height, width)
    return flat.clamp(0, 1).reshape(*maps.shape[:-2], height, width)


def enlarged(maps: Float[Tensor, "B R C H W"], size: Sequence[int]) -> Float[Tensor, "B R C height width"]:
    """Maps of each rater and structure at another size, by `resize`."""
    flat = resize(maps.flatten(0, 2), size[0], size[1])
    whole: Tensor = flat.unflatten(0, maps.shape[:3])
    return whole


def resize_masks(masks: Bool[Tensor, "N H W"], height: int, width: int) -> Bool[Tensor, "N height width"]:
    """A new pixel is marked where more than half of what it stands for was marked.

    The footprint is that of `resize`, so masks stay on their image, and nested structures stay nested.
    """
    if masks.shape[-2:] == (height, width):
        return masks
    # one at a time: raters times structures of a large image as floats would fill the memory
    rows = [resize(mask[None].float(), height, width) > 0.5 + 1e-5 for mask in masks]
    return torch.cat(rows) if rows else masks.new_zeros((0, height, width))


def resize_volume(
    maps: Float[Tensor, "N D H W"], size: Sequence[int]
) -> Float[Tensor, "N depth height width"]:
    """`resize` along each of the three axes: linear, antialiased when shrinking, voxel centres kept."""
    depth, height, width = size
    if maps.shape[-2:] != (height, width):
        flat = resize(maps.flatten(0, 1), height, width)
        maps = flat.unflatten(0, maps.shape[:2])
    if maps.shape[1] != depth:
        maps = resize(maps.flatten(2), depth, height * width).unflatten(2, (height, width))
    return maps


def resize_volume_mask(
    mask: Bool[Tensor, "D H W"], size: Sequence[int]
) -> Bool[Tensor, "depth height width"]:
    """A new voxel is marked where more than half of what it stands for was marked, as `resize_masks`."""
    if mask.shape == tuple(size):
        return mask
    resized: Tensor = resize_volume(mask[None].float(), size)[0] > 0.5 + 1e-5
    return resized


def shares(before: int, after: int) -> Float[Tensor, "after before"]:
    """What each place along an axis takes from each before, by `resize`; rows sum to 1."""
    return resize(torch.eye(before)[None], after, before)[0]


def resize_image(image: Float[np.ndarray, "channel H W"], size: int) -> Float[np.ndarray, "channel s s"]:
    """An image stretched to `size` × `size` pixels, in [0, 1]."""
    whole = torch.from_numpy(np.ascontiguousarray(image))
    resized: np.ndarray = resize(whole, size, size).clamp(0, 1).numpy()
    return resized


def resize_sample(sample: MultiRaterSample, size: int) -> MultiRaterSample:
    """The sample stretched to `size` × `size` pixels; spacing is forgotten."""
    if len(sample.space) != 2:
        raise InputError(
            f"case '{sample.name}' is a volume of shape {sample.space}, and --size is for images: train on volumes by "
            "--plan auto, or on their slices by --slices axial, coronal or sagittal (or z, y, x)"
        )
    raters, structures, *space = sample.masks.shape
    image = resize_image(sample.picture, size)
    flat = torch.from_numpy(np.ascontiguousarray(sample.masks)).reshape(raters * structures, *space)
    masks = resize_masks(flat, size, size).reshape(raters, structures, size, size)
    reference = None
    if sample.reference is not None:
        reference = resize_masks(torch.from_numpy(np.ascontiguousarray(sample.reference)), size, size).numpy()
    return replace(
        sample, image=image, masks=masks.numpy(), reference=reference, spacing_mm=None, readings=()
    )
