"""Choose the device and the number format a model runs with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nexus.core.errors import InputError, shown

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)
_DTYPES = ("float32", "bfloat16", "float16")


def resolve_device(device: str | torch.device | None) -> torch.device:
    """Return `device`, or the best one present: CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: The device does not exist on this machine.
    """
    import torch

    if device is None or (isinstance(device, str) and device == "auto"):
        has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        best = next((name for name, is_there in has.items() if is_there), "cpu")
        _LOG.debug(
            "device %s: cuda %s, mps %s", best, *("yes" if h else "no" for h in has.values())
        )
        return torch.device(best)
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"expected a device such as 'cpu', 'cuda', 'cuda:1' or 'mps', got {shown(device)}"
        ) from error
    absent = {
        "cuda": (resolved.index or 0) >= torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if absent.get(resolved.type):
        raise InputError(
            f"expected a device of this machine, got {str(resolved)!r}, which is not present",
            hint="leave `device` out to take the best one present, or pass `device='cpu'`",
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
