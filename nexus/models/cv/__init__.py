"""Vision models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nexus.models.cv.edgetam import EdgeTAM
from nexus.models.cv.medsam import MedSAM
from nexus.models.cv.sam import SAM
from nexus.models.cv.sam2 import SAM2
from nexus.models.registry import Family, model_spec

if TYPE_CHECKING:
    import torch

    from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator

__all__ = ["SAM", "SAM2", "EdgeTAM", "MedSAM", "SAMAutomaticMaskGenerator", "load_model"]

_CLASSES: dict[Family, type[SAM] | type[SAM2]] = {
    "sam": SAM,
    "medsam": MedSAM,
    "sam2": SAM2,
    "edgetam": EdgeTAM,
}


def load_model(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    input_side: int | None = None,
) -> SAM | SAM2:
    """Load a model by its name alone, in the class that name belongs to.

    Args:
        name: A name of `nexus models`.
        checkpoint: Load this file instead of the published weights.
        device: As in `SAM.from_pretrained`.
        dtype: As in `SAM.from_pretrained`.
        input_side: As in `SAM.from_pretrained`.

    Raises:
        UnknownModelError: No such name.
        WeightsError: The weights cannot be fetched or read.
    """
    cls = _CLASSES[model_spec(name).family]
    if checkpoint is None:
        return cls.from_pretrained(name, device=device, dtype=dtype, input_side=input_side)
    return cls.from_checkpoint(
        checkpoint, variant=name, device=device, dtype=dtype, input_side=input_side
    )


def __getattr__(name: str) -> Any:
    """Load the generator of automatic masks, which works with models, when it is asked for."""
    if name != "SAMAutomaticMaskGenerator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator

    return SAMAutomaticMaskGenerator
