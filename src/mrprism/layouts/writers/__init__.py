"""Hand masks on to other tools, and a run's network as a portable model."""

from mrprism.layouts.writers.dataset import TARGETS, Exported, export_dataset

__all__ = ["TARGETS", "Exported", "export_dataset"]
