"""Read what was recorded from the original implementations, and fill models as they were filled."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nexus.core.types import Masks


def manifest(parity: Path, name: str) -> dict[str, list[int]]:
    """Return names and shapes of an official checkpoint."""
    shapes: dict[str, list[int]] = json.loads((parity / "manifests" / f"{name}.json").read_text())
    return shapes


def procedural_state(parity: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the weights the recordings were made with."""
    spec = importlib.util.spec_from_file_location("procedural", parity / "procedural.py")
    if spec is None or spec.loader is None:
        raise ImportError("expected procedural.py beside the recordings")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arrays: dict[str, Any] = module.procedural_state_dict(manifest(parity, name))
    return {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}


def least_iou(masks: Masks, arrays: Any, name: str) -> float:
    """Return the least IoU of our masks with the recorded ones."""
    shape = tuple(arrays[f"{name}_mask_shape"])
    bits = np.unpackbits(arrays[f"{name}_mask"])[: int(np.prod(shape))]
    recorded = bits.reshape(shape).astype(bool)
    return min(
        float((ours & theirs).sum() / max(1, (ours | theirs).sum()))
        for ours, theirs in zip(masks, recorded, strict=True)
    )
