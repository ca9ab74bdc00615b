"""Rotary position codes over the two axes of a feature grid.

Follows "Rotary Position Embedding for Vision Transformer" (arXiv 2403.13298): pairs of neighbouring
channels are turned by an angle that grows with the column for the first half of the channels and
with the row for the second half, so that products of queries and keys depend on their distance.
"""

from __future__ import annotations

import torch
from torch import Tensor

_THETA = 10_000.0


def axial_rotations(
    grid_hw: tuple[int, int], channels: int, device: torch.device | None = None
) -> Tensor:
    """Return the rotation of every cell of a grid, complex64 (gh * gw, channels / 2), row by row.

    Args:
        grid_hw: Height and width of the grid.
        channels: Channels to rotate, a multiple of 4.
        device: Where to put the rotations.
    """
    gh, gw = grid_hw
    exponent = torch.arange(0, channels, 4, dtype=torch.float32, device=device) / channels
    frequency = 1.0 / _THETA**exponent  # (channels / 4,)
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
