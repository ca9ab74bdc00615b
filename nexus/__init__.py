"""Nexus: promptable segmentation.

Points, boxes, masks and text in; masks, tracks, volumes and datasets out. Importing this package
is cheap: PyTorch is loaded when a model is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus.core.types import FrameMasks, ImageEmbedding, Masks, Prompt
    from nexus.models.cv import SAM, SAM2, EdgeTAM, MedSAM, SAMAutomaticMaskGenerator
    from nexus.predict.oneshot import segment

__version__ = "0.1.0"

__all__ = [
    "SAM",
    "SAM2",
    "EdgeTAM",
    "FrameMasks",
    "ImageEmbedding",
    "Masks",
    "MedSAM",
    "Prompt",
    "SAMAutomaticMaskGenerator",
    "__version__",
    "segment",
]

_LAZY = {
    "EdgeTAM": "nexus.models.cv",
    "FrameMasks": "nexus.core.types",
    "ImageEmbedding": "nexus.core.types",
    "Masks": "nexus.core.types",
    "MedSAM": "nexus.models.cv",
    "Prompt": "nexus.core.types",
    "SAM": "nexus.models.cv",
    "SAM2": "nexus.models.cv",
    "SAMAutomaticMaskGenerator": "nexus.models.cv",
    "segment": "nexus.predict.oneshot",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its room the first time it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'nexus' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
