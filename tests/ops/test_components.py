"""Connected components against OpenCV and the originals' clean-up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nexus.core.errors import InputError
from nexus.ops.components import clean_mask, components, fill_holes, remove_small_regions
from nexus.ops.rle import as_mask


def _noise(seed: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 40)))) < density


_MASKS = st.builds(_noise, st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.4, 0.7, 1.0]))


@settings(max_examples=60, deadline=None)
@given(_MASKS, st.sampled_from([4, 8]))
def test_components_are_those_of_opencv(mask: np.ndarray, connectivity: int) -> None:
    """The same number of components with the same areas."""
    _, areas = components(mask, connectivity)
    count, _, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=connectivity
    )

    assert len(areas) == count
    assert sorted(areas[1:]) == sorted(stats[1:, cv2.CC_STAT_AREA])


@settings(max_examples=60, deadline=None)
@given(_MASKS)
def test_all_holes_are_filled_as_scipy_fills_them(mask: np.ndarray) -> None:
    """Without a limit, holes are what does not reach the edge of the image."""
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_a_limit_leaves_large_holes() -> None:
    """Holes above max_area stay, and so does a bay that is open to the edge."""
    mask = np.ones((7, 9), bool)
    mask[1, 1] = mask[3:5, 3:5] = mask[6, 7] = False
    filled = fill_holes(mask, max_area=3)

    assert filled[1, 1]
    assert not filled[3:5, 3:5].any()
    assert not filled[6, 7]


@settings(max_examples=60, deadline=None)
@given(_MASKS, st.integers(1, 12))
def test_small_regions_go(mask: np.ndarray, min_area: int) -> None:
    """What stays is what a loop over the components keeps."""
    labels, count = ndimage.label(mask)
    expected = np.zeros_like(mask)
    for label in range(1, count + 1):
        if (labels == label).sum() >= min_area:
            expected |= labels == label

    assert np.array_equal(remove_small_regions(mask, min_area), expected)


def _original_clean(mask: np.ndarray, area: int) -> tuple[np.ndarray, bool]:
    """What the original does in two passes with OpenCV's components, 8-connected."""
    changed = False
    for holes in (True, False):
        count, regions, stats, _ = cv2.connectedComponentsWithStats(
            (mask ^ holes).astype(np.uint8), connectivity=8
        )
        sizes = stats[1:, cv2.CC_STAT_AREA]
        small = [i + 1 for i, size in enumerate(sizes) if size < area]
        if not small:
            continue
        changed = True
        if holes:
            mask = np.isin(regions, [0, *small])
        else:
            keep = [i for i in range(1, count) if i not in small] or [1 + int(np.argmax(sizes))]
            mask = np.isin(regions, keep)
    return mask, changed


@settings(max_examples=100, deadline=None)
@given(_MASKS, st.integers(1, 30))
def test_clean_up_equals_the_originals(mask: np.ndarray, min_area: int) -> None:
    """Mask and flag equal the original's, with the largest speck kept if there are only specks."""
    ours, changed = clean_mask(mask, min_area)
    theirs, theirs_changed = _original_clean(mask, min_area)

    assert changed == theirs_changed
    # Of specks equally large OpenCV's first may be another than ours.
    is_one_of_many = ours.sum() < min_area
    assert np.array_equal(ours, theirs) or (is_one_of_many and ours.sum() == theirs.sum())


def test_wrong_masks_are_refused() -> None:
    """Shape, logits, label maps and connectivity are each named."""
    with pytest.raises(InputError, match=r"shape \(H, W\), got shape \(1, 2, 2\)"):
        fill_holes(np.zeros((1, 2, 2), bool))
    with pytest.raises(InputError, match="got float64\nhint: logits: mask > 0"):
        as_mask(np.zeros((2, 2)))
    with pytest.raises(InputError, match="labels == n"):
        as_mask(np.array([[0, 7]]))
    with pytest.raises(InputError, match="connectivity 4 or 8, got 6"):
        components(np.zeros((2, 2), bool), 6)
