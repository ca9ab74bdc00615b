"""Images in and label maps in and out: every kind of picture a caller has becomes one array."""

from nexus.data.images.loading import DEFAULT_MAX_PIXELS as DEFAULT_MAX_PIXELS
from nexus.data.images.loading import ImageLike as ImageLike
from nexus.data.images.loading import load_image as load_image
from nexus.data.images.loading import read_mask as read_mask
from nexus.data.images.loading import write_mask as write_mask
from nexus.data.images.loading import write_picture as write_picture
from nexus.data.images.masks import read_label_map as read_label_map
