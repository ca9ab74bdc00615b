"""Write the weights of a model under their official names, for `from_checkpoint` to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from nexus.core.errors import CheckpointError
from nexus.core.room import bytes_of, room_for
from nexus.core.weights.tensor_file import write_tensors


def save_checkpoint(
    model: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write all weights to a safetensors file, whole or not at all; return its path.

    Args:
        model: A model of `nexus.models.cv`; `from_checkpoint(path, variant=model.variant)` of its
            class reads it.
        path: The file.
        metadata: What to note in the head of the file, texts by name.

    Raises:
        CheckpointError: The model has adapters, whose names `from_checkpoint` would not know.
        NexusError: The disk is full; what `path` held before stays.
        OSError: The file cannot be written.
    """
    state = model.state_dict()
    foreign = [name for name in state if ".lora_" in name or ".base_layer." in name]
    if foreign:
        raise CheckpointError(
            f"expected a model under its official names, got one with adapters: {foreign[0]}",
            hint="nexus.train.lora.merge(model) first, or save_adapter(model, folder)",
        )
    with room_for(Path(path), bytes_of(state)):
        return write_tensors(path, state, metadata)
