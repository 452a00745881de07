"""Read and write PNG, JPEG, TIFF, NIfTI and NRRD: images, masks and probabilities.

Axes. Arrays are (channel, *space) with ``space`` = (H, W) or (D, H, W). NIfTI and NRRD store x first;
they are turned round on reading and back on writing, so H is their y, W their x and D their z. A third
axis of length one is dropped, and put back on writing.

Intensities become float32 in [0, 1]: unsigned 8 and 16 bit pixels of PNG, JPEG and TIFF, and 8 bit
NIfTI and NRRD, are divided by the largest value of their type; everything else (CT, MR, floats) is
stretched, channel by channel, from its smallest to its largest value. A window (low, high), in the
file's own values, replaces either rule and clips. Transparency is dropped.

Masks keep their exact values. Nothing is resized, thresholded or guessed.

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
from mrprism.images.writing import write_image, write_mask, write_probability

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
]
