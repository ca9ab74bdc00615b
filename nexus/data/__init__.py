"""Reading and writing: images, videos, tracks and datasets."""
