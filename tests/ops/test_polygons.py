"""Masks to polygons and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import InputError
from nexus.ops.components import components
from nexus.ops.polygons import (
    mask_to_polygons,
    polygons_to_mask,
    ring_area,
    simplify_ring,
    trace_rings,
)


def _noise(seed: int, density: float, blur: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = rng.random((int(rng.integers(1, 60)), int(rng.integers(1, 60)))) < density
    return cv2.blur(mask.astype(np.float32), (blur, blur)) > 0.5


_MASKS = st.builds(
    _noise,
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    st.sampled_from([1, 5]),
)


@settings(max_examples=100, deadline=None)
@given(_MASKS)
def test_without_simplification_the_mask_comes_back(mask: np.ndarray) -> None:
    """Holes, parts touching at corners, single pixels, the image's edge: all pixels are equal."""
    rings = mask_to_polygons(mask, 0)

    assert np.array_equal(polygons_to_mask(rings, *mask.shape), mask)
    assert sum(ring_area(ring) for ring in rings) == mask.sum()


@settings(max_examples=60, deadline=None)
@given(_MASKS, st.sampled_from([0.005, 0.01, 0.1]))
def test_simplified_polygons_keep_the_mask(mask: np.ndarray, factor: float) -> None:
    """The round trip has an IoU of at least 0.98, whatever the factor."""
    drawn = polygons_to_mask(mask_to_polygons(mask, factor), *mask.shape)
    union = (mask | drawn).sum()

    assert not union or (mask & drawn).sum() >= 0.98 * union


@settings(max_examples=60, deadline=None)
@given(_MASKS)
def test_rings_are_parts_and_holes(mask: np.ndarray) -> None:
    """One outer ring for each 4-connected part, each followed by its holes."""
    rings = trace_rings(mask)
    signs = [ring_area(ring) > 0 for ring in rings]
    background = np.pad(~mask, 1, constant_values=True)

    assert sum(signs) == len(components(mask, 4)[1]) - 1
    # Around all is one background, which is no hole; holes may touch at corners.
    assert len(signs) - sum(signs) == len(components(background, 8)[1]) - 2
    assert signs[:1] in ([], [True])


def test_a_disc_with_a_hole() -> None:
    """Two rings of few corners, the hole after its outline and turned the other way."""
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(mask, (60, 60), 50, 1, -1)
    cv2.circle(mask, (60, 60), 20, 0, -1)
    outer, hole = mask_to_polygons(mask.astype(bool))
    drawn = polygons_to_mask([outer, hole], 120, 120)

    assert len(outer) < 40
    assert ring_area(outer) > 0 > ring_area(hole)
    assert not drawn[60, 60]
    assert (drawn & (mask > 0)).sum() >= 0.98 * (drawn | (mask > 0)).sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_drawing_equals_a_test_of_every_centre(seed: int) -> None:
    """Polygons with corners anywhere, crossing themselves and the image's edge."""
    rng = np.random.default_rng(seed)
    rings = [rng.uniform(-5, 25, (int(rng.integers(3, 8)), 2)) for _ in range(2)]
    drawn = polygons_to_mask(rings, 20, 18)
    expected = np.zeros((20, 18), bool)
    for y, x in np.ndindex(20, 18):
        for ring in rings:
            for (xa, ya), (xb, yb) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (ya > y + 0.5) != (yb > y + 0.5):
                    crossing = xa + (y + 0.5 - ya) / (yb - ya) * (xb - xa)
                    expected[y, x] ^= bool(crossing < x + 0.5)

    assert np.array_equal(drawn, expected)


def test_flat_coordinates_are_read() -> None:
    """A ring as COCO writes it is the same ring."""
    assert np.array_equal(
        polygons_to_mask([[0, 0, 2, 0, 2, 2]], 3, 3),
        polygons_to_mask([[[0, 0], [2, 0], [2, 2]]], 3, 3),
    )


def test_simplification_stays_within_its_tolerance() -> None:
    """Every corner left out is at most epsilon from the lines that remain."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    ring = np.stack([50 * np.cos(angle), 30 * np.sin(angle)], 1)
    simple = simplify_ring(ring, 1.5)
    distances = [cv2.pointPolygonTest(simple.astype(np.float32), p, True) for p in ring.tolist()]

    assert len(simple) < 30
    assert np.abs(distances).max() <= 1.5 + 1e-3


def test_wrong_input_is_refused() -> None:
    """Rings too short, coordinates that are none, factors out of range."""
    with pytest.raises(InputError, match=r"\(n, 2\) with n >= 3, got shape \(2, 2\)"):
        polygons_to_mask([[[0, 0], [1, 1]]], 3, 3)
    with pytest.raises(InputError, match="ring of x, y pairs"):
        ring_area([[0, "a"], [1, 1], [2, 2]])
    with pytest.raises(InputError, match=r"min_iou in \[0, 1\], got 0.01 and 2"):
        mask_to_polygons(np.zeros((2, 2), bool), min_iou=2)
    with pytest.raises(InputError, match="epsilon_factor of 0 or more"):
        mask_to_polygons(np.zeros((2, 2), bool), -1)
