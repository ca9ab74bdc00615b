"""Write safetensors files: the same bytes for the same values, readable to whom the umask says.

The library's own writer orders the words of the header by chance and makes the file for its owner
alone. The layout is that of https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError
from nexus.core.files import replacing

if TYPE_CHECKING:
    import torch

# The library's order: of larger numbers first, so that each tensor is aligned.
_FORMATS = (
    *("uint8", "bool", "int8", "int16", "float16", "bfloat16"),
    *("int32", "float32", "int64", "float64"),
)
_NAMES = {
    **{"uint8": "U8", "bool": "BOOL", "bfloat16": "BF16"},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write tensors to a safetensors file, whole or not at all; return its path.

    Args:
        path: The file.
        tensors: By name, of any strides and on any device.
        metadata: Words for the header, by name.

    Raises:
        InputError: A number format the file cannot hold.
        OSError: The file cannot be written.
    """
    import torch

    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    for name, kind in kinds.items():
        if kind not in _NAMES:
            raise InputError(f"expected numbers that safetensors has, got {name!r} of {kind}")
    order = sorted(tensors, key=lambda name: (-_FORMATS.index(kinds[name]), name))
    header: dict[str, Any] = {}
    if metadata is not None:
        header["__metadata__"] = dict(sorted(metadata.items()))
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": _NAMES[kinds[name]],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            dense = tensors[name].detach().cpu().contiguous()
            file.write(dense.reshape(-1).view(torch.uint8).numpy().data)
    return Path(path)
