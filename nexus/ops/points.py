"""Grids of points over an image, in fractions of its width and height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError


def point_grid(points_per_side: int) -> NDArray[np.float64]:
    """Return the centres of n x n equal cells: (n * n, 2) x, y in [0, 1], row by row.

    Raises:
        InputError: n, the points per side, is less than 1.

    Examples:
        >>> point_grid(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    if points_per_side < 1:
        raise InputError(f"expected at least 1 point per side, got {points_per_side}")
    offset = 1 / (2 * points_per_side)
    side = np.linspace(offset, 1 - offset, points_per_side)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def layered_point_grids(
    points_per_side: int, layers: int, downscale_factor: int
) -> list[NDArray[np.float64]]:
    """Return the grid of the whole image and one for the crops of each layer, ever coarser.

    Layer i has points_per_side / downscale_factor^i points per side; the image is layer 0.

    Raises:
        InputError: A layer would have no point.

    Examples:
        >>> [len(grid) for grid in layered_point_grids(8, 2, 2)]
        [64, 16, 4]
    """
    if downscale_factor < 1:
        raise InputError(f"expected a downscale factor of at least 1, got {downscale_factor}")
    sides = [int(points_per_side / downscale_factor**layer) for layer in range(layers + 1)]
    if sides[-1] < 1:
        raise InputError(
            f"expected at least 1 point per side in every crop layer, got {sides}",
            hint="raise points_per_side or lower the downscale factor",
        )
    return [point_grid(side) for side in sides]
