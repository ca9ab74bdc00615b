"""What travels between rooms: prompts, image embeddings, masks and tracks.

Frames: points and boxes are XY in pixels of the original image, x in [0, W], y in [0, H]; a mask
is (H, W) of the original image. Only a model's preprocessing policy knows the model frame.
"""

from nexus.core.types.embedding import Geometry as Geometry
from nexus.core.types.embedding import ImageEmbedding as ImageEmbedding
from nexus.core.types.masks import FrameMasks as FrameMasks
from nexus.core.types.masks import Masks as Masks
from nexus.core.types.masks import PromptedMasks as PromptedMasks
from nexus.core.types.prompt import Prompt as Prompt
from nexus.core.types.prompt import PromptLike as PromptLike
