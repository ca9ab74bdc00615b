"""Images in and label maps in and out: every kind of picture a caller has becomes one array."""

from nexus.data.images.loading import (
    DEFAULT_MAX_PIXELS,
    ImageLike,
    load_image,
    read_mask,
    write_mask,
    write_picture,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "ImageLike",
    "load_image",
    "read_mask",
    "write_mask",
    "write_picture",
]
