"""Datasets of generated masks, from folders of images."""

from nexus.predict.dataset.run import DatasetOptions, DatasetResult, generate_dataset, run_dataset

__all__ = ["DatasetOptions", "DatasetResult", "generate_dataset", "run_dataset"]
