"""Nexus: promptable segmentation.

Points, boxes and masks in; masks, tracks and datasets out. Importing this package is cheap:
PyTorch is loaded when a model is first touched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nexus.core.errors import CheckpointError as CheckpointError
from nexus.core.errors import DownloadError as DownloadError
from nexus.core.errors import EmbeddingError as EmbeddingError
from nexus.core.errors import EmbeddingNotFoundError as EmbeddingNotFoundError
from nexus.core.errors import ImageError as ImageError
from nexus.core.errors import ImageNotFoundError as ImageNotFoundError
from nexus.core.errors import InputError as InputError
from nexus.core.errors import MissingDependencyError as MissingDependencyError
from nexus.core.errors import NexusError as NexusError
from nexus.core.errors import NexusWarning as NexusWarning
from nexus.core.errors import PromptError as PromptError
from nexus.core.errors import UnknownModelError as UnknownModelError
from nexus.core.errors import VideoError as VideoError
from nexus.core.errors import WeightsError as WeightsError
from nexus.core.errors import WeightsNotFoundError as WeightsNotFoundError
from nexus.core.packages import lazy_names
from nexus.version import __version__ as __version__

if TYPE_CHECKING:
    from nexus.core.types import FrameMasks as FrameMasks
    from nexus.core.types import ImageEmbedding as ImageEmbedding
    from nexus.core.types import Masks as Masks
    from nexus.core.types import Prompt as Prompt
    from nexus.core.types import PromptedMasks as PromptedMasks
    from nexus.data.truth import open_images as open_images
    from nexus.data.truth import open_videos as open_videos
    from nexus.data.video import open_video as open_video
    from nexus.eval.run import evaluate as evaluate
    from nexus.models.cv import SAM as SAM
    from nexus.models.cv import SAM2 as SAM2
    from nexus.models.cv import EdgeTAM as EdgeTAM
    from nexus.models.cv import MedSAM as MedSAM
    from nexus.models.cv import SAMAutomaticMaskGenerator as SAMAutomaticMaskGenerator
    from nexus.models.cv import load_model as load_model
    from nexus.predict.dataset import generate_dataset as generate_dataset
    from nexus.predict.oneshot import segment as segment
    from nexus.predict.tracking import track_video as track_video
    from nexus.predict.video import VideoSession as VideoSession
    from nexus.train.loop import fine_tune as fine_tune

# What is logged is shown where a handler is set; see `nexus.core.log`.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_LAZY = {
    "nexus.core.types": ("FrameMasks", "ImageEmbedding", "Masks", "Prompt", "PromptedMasks"),
    "nexus.data.truth": ("open_images", "open_videos"),
    "nexus.data.video": ("open_video",),
    "nexus.eval.run": ("evaluate",),
    "nexus.models.cv": (
        "SAM",
        "SAM2",
        "EdgeTAM",
        "MedSAM",
        "SAMAutomaticMaskGenerator",
        "load_model",
    ),
    "nexus.predict.dataset": ("generate_dataset",),
    "nexus.predict.oneshot": ("segment",),
    "nexus.predict.tracking": ("track_video",),
    "nexus.predict.video": ("VideoSession",),
    "nexus.train.loop": ("fine_tune",),
}
"""What is public here and loaded when it is asked for, by the module it comes from."""

__all__ = sorted(
    [name for name in globals() if name.endswith(("Error", "Warning", "__version__"))]
    + [name for names in _LAZY.values() for name in names]
)
__getattr__, __dir__ = lazy_names(__name__, _LAZY)
