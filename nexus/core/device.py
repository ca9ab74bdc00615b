"""Choose the device and the number format a model runs with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus.core.errors import InputError

if TYPE_CHECKING:
    import torch

_DTYPES = ("float32", "bfloat16", "float16")


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return `device`, or the best one present: CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: The device does not exist on this machine.
    """
    import torch

    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"expected a device such as 'cpu', 'cuda', 'cuda:1' or 'mps', got {device!r}"
        ) from error
    absent = {
        "cuda": (resolved.index or 0) >= torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if absent.get(resolved.type):
        raise InputError(
            f"expected a device of this machine, got {str(resolved)!r}, which is not present",
            hint="leave device out to take the best one present, or pass device='cpu'",
        )
    return resolved


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """Return `dtype` as a torch type; None is float32.

    Raises:
        InputError: Not one of float32, bfloat16, float16.
    """
    import torch

    if dtype is None:
        return torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise InputError(f"expected dtype to be one of {', '.join(_DTYPES)}, got {name!r}")
    resolved: torch.dtype = getattr(torch, name)
    return resolved
