"""Vision models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexus.core.packages import lazy_names
from nexus.models.cv.edgetam import EdgeTAM
from nexus.models.cv.medsam import MedSAM
from nexus.models.cv.sam import SAM
from nexus.models.cv.sam2 import SAM2
from nexus.models.pretrained import PretrainedModel, class_of

if TYPE_CHECKING:
    import torch

    from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator

__all__ = ["SAM", "SAM2", "EdgeTAM", "MedSAM", "SAMAutomaticMaskGenerator", "load_model"]


def load_model(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    input_side: int | None = None,
) -> PretrainedModel:
    """Load a model by its name in `nexus models` alone, in the class that name belongs to.

    Other arguments are those of `SAM.from_pretrained`; with `checkpoint` that file is loaded
    instead of the published weights.

    Raises:
        UnknownModelError: No such name.
        WeightsError: The weights cannot be fetched or read.
    """
    cls = class_of(name)
    if checkpoint is None:
        return cls.from_pretrained(name, device=device, dtype=dtype, input_side=input_side)
    return cls.from_checkpoint(
        checkpoint, variant=name, device=device, dtype=dtype, input_side=input_side
    )


# The generator works with models, so that it is found from here when it is asked for.
__getattr__, __dir__ = lazy_names(
    __name__, {"nexus.predict.automatic.generator": ["SAMAutomaticMaskGenerator"]}
)
