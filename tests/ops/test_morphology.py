"""Smoothing against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import InputError
from nexus.ops.morphology import elliptic_kernel, refine_mask


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 5, 7]), st.integers(1, 3))
def test_equals_opencv(seed: int, size: int, iterations: int) -> None:
    """Closing then opening with the same kernel gives OpenCV's mask, up to the image's edge."""
    mask = np.random.default_rng(seed).random((33, 41)) < 0.5
    mask = cv2.blur(mask.astype(np.float32), (5, 5)) > 0.5
    kernel = elliptic_kernel(size).astype(np.uint8)
    expected = mask.astype(np.uint8)
    for operation in (cv2.MORPH_CLOSE, cv2.MORPH_OPEN):
        expected = cv2.morphologyEx(expected, operation, kernel, iterations=iterations)

    assert np.array_equal(refine_mask(mask, size, iterations), expected.astype(bool))


@pytest.mark.parametrize("size", [2, 4, 6])
def test_even_kernels_do_not_shift(size: int) -> None:
    """A mask far larger than the kernel comes back where it was."""
    mask = np.zeros((40, 40), bool)
    mask[10:30, 8:28] = True

    refined = refine_mask(mask, size, 1)

    assert not (refined & ~mask).any()
    assert refined[12:28, 10:26].all()
    assert np.abs(np.argwhere(refined).mean(0) - np.argwhere(mask).mean(0)).max() < 0.2


def test_the_kernel_is_an_ellipse() -> None:
    """The kernel of 5 is the usual one: full rows in the middle, one pixel at either end."""
    assert elliptic_kernel(5).sum(1).tolist() == [1, 5, 5, 5, 1]
    for size in (1, 3, 7, 9):
        theirs = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        assert np.array_equal(elliptic_kernel(size), theirs > 0)


def test_wrong_numbers_are_refused() -> None:
    """A kernel or a count below 1."""
    with pytest.raises(InputError, match="at least 1, got 0 and 2"):
        refine_mask(np.zeros((3, 3), bool), 0)
    with pytest.raises(InputError, match="at least 1, got 3 and 0"):
        refine_mask(np.zeros((3, 3), bool), 3, 0)
