"""Small files for made-up trees in published layouts."""

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image as Pillow

from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.dataset import check_sample
from mrprism.layouts import Source


def png(path: Path, array: np.ndarray) -> np.ndarray:
    """Save (H, W) or (H, W, 3) as the name says, and give it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)
    return array


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> np.ndarray:
    """Save an array whose first axis is x."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return array


def picture(seed: int, size: tuple[int, ...] = (12, 10), colour: bool = False) -> np.ndarray:
    shape = (*size, 3) if colour else size
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def blob(seed: int, size: tuple[int, ...] = (12, 10)) -> np.ndarray:
    """A mask that leaves most of the border free."""
    mask = np.random.default_rng(seed).random(size) > 0.4
    mask[0] = mask[-1] = False
    mask[:, 0] = mask[:, -1] = False
    return mask


def cases(source: Source) -> dict[str, MultiRaterSample]:
    """Read everything, and see that it fits what the source says of itself."""
    found = {sample.name: sample for sample in source.samples}
    for sample in found.values():
        check_sample(sample, source.task)
        assert sample.image.dtype == np.float32
        assert not sample.masks[~sample.rated].any()
    return found
