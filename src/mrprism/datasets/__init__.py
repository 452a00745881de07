"""Data sets: a folder with a `dataset.json`, and readers that turn other layouts into one."""

from mrprism.datasets.dataset import Dataset, FileSample, open_dataset
from mrprism.datasets.readers import DATASETS
from mrprism.datasets.source import Source
from mrprism.datasets.write import write_dataset

__all__ = ["DATASETS", "Dataset", "FileSample", "Source", "open_dataset", "write_dataset"]
