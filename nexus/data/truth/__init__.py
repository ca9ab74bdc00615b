"""Readers of datasets with ground truth, each of the layout its authors publish."""

from nexus.data.truth.readers import READERS, Reader, open_images, open_videos

__all__ = ["READERS", "Reader", "open_images", "open_videos"]
