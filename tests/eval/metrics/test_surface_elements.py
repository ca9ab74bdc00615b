"""Lengths and areas of surface elements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from nexus.eval.metrics.surface_elements import surface_elements

UNIT = np.ones(3)
# Corners of the cube inside the mask -> area at spacing 1, as published with the package's table:
# sqrt(3)/8 is a cut-off corner, sqrt(2)/2 the cut along an edge.
AREAS = {
    ((0, 0, 0),): np.sqrt(3) / 8,
    ((0, 0, 0), (0, 0, 1)): np.sqrt(2) / 2,
    ((0, 0, 0), (0, 1, 1)): np.sqrt(3) / 4,
    ((0, 0, 0), (1, 1, 1)): np.sqrt(3) / 4,
    ((0, 0, 0), (0, 0, 1), (0, 1, 0)): 0.5 + 3 * np.sqrt(3) / 8,
    ((0, 0, 0), (0, 1, 1), (1, 0, 1)): 3 * np.sqrt(3) / 8,
    ((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)): 1.0,
    ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)): 6 * np.sqrt(3) / 8,
    ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 1)): np.sqrt(2) / 2 + 4 * np.sqrt(3) / 8,
    ((0, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)): np.sqrt(2),
    ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)): 4 * np.sqrt(3) / 8,
}


def middle_area(mask: NDArray[np.bool_], steps: NDArray[np.float64]) -> float:
    """Return the area of the element in the middle of a 2 x 2 x 2 mask."""
    points, areas = surface_elements(mask, steps)
    return float(areas[(points == 1).all(1)].sum())


@pytest.mark.parametrize("inside", AREAS, ids=str)
def test_areas_of_all_patterns(inside: tuple[tuple[int, ...], ...]) -> None:
    """A pattern has the same area turned, mirrored, and with inside and outside exchanged."""
    mask = np.zeros((2, 2, 2), bool)
    mask[tuple(np.array(inside).T)] = True
    turned = [
        np.flip(mask.transpose(order), [axis for axis in range(3) if flips[axis]])
        for order in itertools.permutations(range(3))
        for flips in itertools.product((0, 1), repeat=3)
    ]
    areas = [middle_area(variant, UNIT) for variant in turned]

    np.testing.assert_allclose(areas, AREAS[inside])
    if len(inside) < 4:
        np.testing.assert_allclose([middle_area(~variant, UNIT) for variant in turned], areas)


def test_areas_follow_the_spacing() -> None:
    """A cut-off corner is a triangle, a flat face the product of two steps."""
    steps = np.array([3.0, 1.0, 0.5])
    corner, face = np.zeros((2, 2, 2, 2), bool)
    corner[0, 0, 0] = face[0] = True
    legs = steps / 2

    assert middle_area(face, steps) == pytest.approx(0.5)
    assert middle_area(corner, steps) == pytest.approx(
        0.5 * np.sqrt(sum((legs[a] * legs[b]) ** 2 for a, b in ((0, 1), (0, 2), (1, 2))))
    )


def test_a_box_has_the_surface_of_a_box() -> None:
    """Faces, less a little at the rounded edges and corners, wherever in the array it lies."""
    mask = np.zeros((12, 14, 10), bool)
    mask[:10, 4:14, :] = True
    _, areas = surface_elements(mask, UNIT)
    expected = 6 * 9 * 9 + 12 * 9 * np.sqrt(0.5) + 8 * np.sqrt(3) / 8

    assert areas.sum() == pytest.approx(expected)


def test_lengths_in_the_plane() -> None:
    """A rectangle's outline has straight sides and four cut corners; two diagonal pixels four."""
    rectangle = np.zeros((8, 9), bool)
    rectangle[2:6, 3:8] = True
    steps = np.array([2.0, 0.5])
    diagonal = np.hypot(1.0, 0.25)
    _, lengths = surface_elements(rectangle, steps)
    points, cuts = surface_elements(np.eye(2, dtype=bool), steps)

    assert lengths.sum() == pytest.approx(2 * 3 * 2.0 + 2 * 4 * 0.5 + 4 * diagonal)
    assert cuts[(points == 1).all(1)].tolist() == pytest.approx([2 * diagonal])


def test_an_empty_mask_has_no_surface() -> None:
    """And neither points nor areas."""
    points, areas = surface_elements(np.zeros((3, 3, 3), bool), UNIT)

    assert points.shape == (0, 3)
    assert areas.shape == (0,)
