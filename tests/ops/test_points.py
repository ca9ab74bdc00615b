"""Grids of points."""

from __future__ import annotations

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.ops.points import layered_point_grids, point_grid


@pytest.mark.parametrize("side", [1, 3, 32])
def test_points_are_the_centres_of_equal_cells(side: int) -> None:
    """Each of the n x n cells has one point, in its middle, row by row."""
    grid = point_grid(side)
    cells = grid * side - 0.5

    np.testing.assert_allclose(cells, np.round(cells), atol=1e-9)
    assert (np.round(cells) @ (1, side)).tolist() == list(range(side * side))


def test_layers_get_coarser() -> None:
    """Each layer has its side divided once more, rounded down."""
    assert [len(grid) for grid in layered_point_grids(7, 2, 2)] == [49, 9, 1]


def test_wrong_numbers_are_refused() -> None:
    """No point at all, a layer without points, and a factor below 1."""
    with pytest.raises(InputError, match="at least 1 point per side, got 0"):
        point_grid(0)
    with pytest.raises(InputError, match=r"every crop layer, got \[4, 1, 0\]"):
        layered_point_grids(4, 2, 4)
    with pytest.raises(InputError, match="downscale factor of at least 1, got 0"):
        layered_point_grids(4, 1, 0)
