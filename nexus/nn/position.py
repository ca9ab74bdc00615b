"""Fixed codes of positions: sines and cosines in the image and in time, and rotations of tokens.

The image code is that of "End-to-End Object Detection with Transformers" (arXiv 2005.12872) with
positions normalised to the size of the grid. Codes are made per axis and then spread over the
grid, which is cheap enough not to be kept. Rotations follow "Rotary Position Embedding for Vision
Transformer" (arXiv 2403.13298): pairs of neighbouring channels are turned by an angle that grows
with the column for the first half of the channels and with the row for the second half, so that
products of queries and keys depend on their distance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10_000.0


def sine_positions(
    grid_hw: tuple[int, int],
    channels: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the position code of every cell of a grid, (channels, gh, gw).

    The first half of the channels, a multiple of 4, codes the row, the second half the column. The
    code is computed in float32, whatever format it is returned in.
    """
    gh, gw = grid_hw
    rows, columns = (_axis_code(n, channels // 2, device).to(dtype) for n in (gh, gw))
    codes = rows.t()[:, :, None], columns.t()[:, None, :]
    return torch.cat([code.expand(-1, gh, gw) for code in codes])  # (channels, gh, gw)


def sine_times(times: Tensor, channels: int) -> Tensor:
    """Return the code of distances in time, as a share of the largest one.

    (n,) float to (n, channels), an even number: sines, then cosines.
    """
    half = channels // 2
    angle = times.float()[:, None] / _periods(half, times.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def axial_rotations(
    grid_hw: tuple[int, int], channels: int, device: torch.device | None = None
) -> Tensor:
    """Return the rotation of every cell of a grid, complex64 (gh * gw, channels / 2), row by row.

    The channels to rotate are a multiple of 4.
    """
    gh, gw = grid_hw
    exponent = torch.arange(0, channels, 4, dtype=torch.float32, device=device) / channels
    frequency = 1.0 / _TEMPERATURE**exponent  # (channels / 4,)
    rows, columns = (
        torch.arange(n, dtype=torch.float32, device=device)[:, None] * frequency for n in (gh, gw)
    )
    angle = torch.cat(
        [columns.expand(gh, gw, -1), rows[:, None].expand(gh, gw, -1)], dim=-1
    )  # (gh, gw, channels / 2)
    return torch.polar(torch.ones_like(angle), angle).flatten(0, 1)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate (..., L, C) tokens by (L, C / 2) complex rotations; the number format is kept."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(x.dtype)


def _axis_code(cells: int, channels: int, device: torch.device | None) -> Tensor:
    """Code the cells 1..n of one axis: (n, channels), sine and cosine in turn."""
    position = torch.arange(1, cells + 1, dtype=torch.float32, device=device)
    position = position / (cells + 1e-6) * (2 * math.pi)
    angle = position[:, None] / _periods(channels, device)
    return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)


def _periods(channels: int, device: torch.device | None) -> Tensor:
    """Return the (channels,) wavelengths, equal in pairs."""
    index = torch.arange(channels, dtype=torch.float32, device=device)
    return _TEMPERATURE ** (2 * (index // 2) / channels)
