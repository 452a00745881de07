"""A data set: a folder with a `dataset.json`, opened, checked and written; drawn ones with simulated raters."""

from mrprism.datasets.dataset import Dataset, FileSample, open_dataset
from mrprism.datasets.write import write_dataset

__all__ = ["Dataset", "FileSample", "open_dataset", "write_dataset"]
