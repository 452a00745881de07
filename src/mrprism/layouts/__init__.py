"""Other people's files: a reader for each published layout and tool, and writers that hand data on to others."""

from mrprism.layouts.readers import DATASETS
from mrprism.layouts.source import Source

__all__ = ["DATASETS", "Source"]
