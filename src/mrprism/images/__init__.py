"""Read and write images, masks and probabilities; MetaImage, NRRD, JPEG, WebP and NumPy files are only read.

Axes. Arrays are (channel, *space) with ``space`` = (H, W) or (D, H, W). NIfTI, NRRD and MetaImage store x
first; they are turned round on reading and back on writing, so H is their y, W their x and D their z. A third
axis of length one is dropped, and put back on writing.

Intensities become float32 in [0, 1]: unsigned 8 and 16 bit pixels of PNG, JPEG and TIFF, and 8 bit
NIfTI and NRRD, are divided by the largest value of their type; everything else (CT, MR, floats) is
stretched, channel by channel, from its smallest to its largest value. A window (low, high), in the
file's own values, replaces either rule and clips. What was in the file goes along where it is more than a share of
the largest value (`ImageFile.values`), so that Hounsfield units are not lost.

What a viewer shows is what is decoded: orientation, transparency, palettes, white is zero; the rule, the same for
images and masks, stands in `shown`.

Masks keep their exact values (to a thousandth, for those kept as floats). Nothing is resized, thresholded or
guessed, unless `read_mask` is told a threshold or a colour.

Where a file says something twice, such as the size of a voxel in NIfTI, NRRD and `dataset.json`, and both differ by
more than 1 %, it is refused: every volume depends on it. Of NIfTI's positions the sform counts, then the qform.
Whoever lays two files over one another compares their grids first (`grids`).

A file larger than ``MRPRISM_MAX_PIXELS`` pixels (environment; 1e9 unless told), or whose header asks
for more bytes than the file holds, is refused before memory is taken. Everything is written under a
temporary name in the same folder, flushed to the disk and renamed.
"""

from mrprism.images.content import FromFile, ImageFile, LabelFile, MaskFile, ValueFile, Window, scale
from mrprism.images.geometry import Geometry
from mrprism.images.limits import LIMITS, follows_links, limit_archive, limit_pixels, limit_text
from mrprism.images.nifti import NiftiWriter
from mrprism.images.reading import (
    FORMATS,
    Colour,
    format_of,
    parse_colour,
    read_image,
    read_labels,
    read_mask,
    read_values,
)
from mrprism.images.writing import write_image, write_mask, write_probability, write_values

__all__ = [
    "FORMATS",
    "LIMITS",
    "Colour",
    "FromFile",
    "Geometry",
    "ImageFile",
    "LabelFile",
    "MaskFile",
    "NiftiWriter",
    "ValueFile",
    "Window",
    "follows_links",
    "format_of",
    "limit_archive",
    "limit_pixels",
    "limit_text",
    "parse_colour",
    "read_image",
    "read_labels",
    "read_mask",
    "read_values",
    "scale",
    "write_image",
    "write_mask",
    "write_probability",
    "write_values",
]
