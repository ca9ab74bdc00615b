"""Fixed sine and cosine codes of positions in the image and in time.

The image code is that of "End-to-End Object Detection with Transformers" (arXiv 2005.12872) with
positions normalised to the size of the grid. Codes are made per axis and then spread over the
grid, which is cheap enough not to be kept.
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

    The first half of the channels codes the row, the second half the column.

    Args:
        grid_hw: Height and width of the grid.
        channels: A multiple of 4.
        device: Where to put the code.
        dtype: Number format; the code is computed in float32.
    """
    gh, gw = grid_hw
    rows, columns = (_axis_code(n, channels // 2, device).to(dtype) for n in (gh, gw))
    over_rows = rows.t()[:, :, None].expand(-1, gh, gw)
    over_columns = columns.t()[:, None, :].expand(-1, gh, gw)
    return torch.cat([over_rows, over_columns])  # (channels, gh, gw)


def sine_times(times: Tensor, channels: int) -> Tensor:
    """Return the code of points in time: (n,) float to (n, channels), sines then cosines.

    Args:
        times: Distances in time, as a share of the largest one.
        channels: An even number.
    """
    half = channels // 2
    angle = times.float()[:, None] / _periods(half, times.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


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
