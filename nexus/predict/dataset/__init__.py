"""Datasets of generated masks, from folders of images."""

from nexus.predict.dataset.run import DatasetOptions, DatasetResult, DatasetRun, generate_dataset

__all__ = ["DatasetOptions", "DatasetResult", "DatasetRun", "generate_dataset"]
