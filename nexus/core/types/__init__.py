"""What travels between rooms: prompts, image embeddings, masks and tracks.

Frames: points and boxes are XY in pixels of the original image, x in [0, W], y in [0, H]; a mask
is (H, W) of the original image. Only a model's preprocessing policy knows the model frame.
"""

from nexus.core.types.embedding import Geometry, ImageEmbedding
from nexus.core.types.frame_masks import FrameMasks, PromptedMasks
from nexus.core.types.masks import Masks
from nexus.core.types.prompt import Prompt, PromptLike

__all__ = [
    "FrameMasks",
    "Geometry",
    "ImageEmbedding",
    "Masks",
    "Prompt",
    "PromptLike",
    "PromptedMasks",
]
