"""mrprism: see, fuse, learn from and compare several raters' outlines of the same images."""

__version__ = "0.1.0"
