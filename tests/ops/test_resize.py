"""Resizing against Pillow and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nexus.ops.resize import longest_side_size, resize_image, resize_logits

_SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60))


def _picture(size_hw: tuple[int, int], dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(size_hw[0] * 100 + size_hw[1])
    return rng.integers(0, 256, (*size_hw, 3)).astype(dtype)


@settings(deadline=None)
@given(source=_SIZES, scale=st.floats(0.05, 1))
def test_shrinking_by_area_equals_opencv(source: tuple[int, int], scale: float) -> None:
    """8-bit results differ by rounding at most; the common pipelines shrink with INTER_AREA."""
    target = max(1, int(source[0] * scale)), max(1, int(source[1] * scale))
    image = _picture(source)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_AREA)
    ours = resize_image(image, target, "area")

    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - expected.reshape(ours.shape)).max() <= 1


@settings(deadline=None)
@given(source=_SIZES, scale=st.floats(1, 4))
def test_growing_by_area_equals_opencv(source: tuple[int, int], scale: float) -> None:
    """Where both axes grow, OpenCV's area interpolation mixes neighbours linearly."""
    target = int(source[0] * scale), int(source[1] * scale)
    image = _picture(source)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_AREA)
    ours = resize_image(image, target, "area")

    assert np.abs(ours.astype(int) - expected.reshape(ours.shape)).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("target", [(17, 40), (90, 70)])
def test_eight_bits_are_pillows(interpolation: str, target: tuple[int, int]) -> None:
    """The original preprocessing's rounding, bit for bit; wider types agree within it."""
    image = _picture((50, 60))
    resample = getattr(Image.Resampling, interpolation.upper())
    expected = np.asarray(Image.fromarray(image).resize(target[::-1], resample))
    ours = resize_image(image, target, interpolation)  # type: ignore[arg-type]
    wide = resize_image(image.astype(np.float32), target, interpolation)  # type: ignore[arg-type]

    assert np.array_equal(ours, expected)
    assert np.abs(np.clip(wide, 0, 255) - expected).mean() < 1


def test_the_same_size_is_left_alone() -> None:
    """Nothing is computed when there is nothing to do, but wide types become float32."""
    image = _picture((5, 6))

    assert resize_image(image, (5, 6), "area") is image
    assert resize_image(image.astype(np.uint16), (5, 6), "bilinear").dtype == np.float32


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(32, 1024))
def test_the_longest_side_is_met(height: int, width: int, side: int) -> None:
    """One axis is the side, the other at most that and at least a pixel."""
    resized = longest_side_size((height, width), side)

    assert max(resized) == side
    assert min(resized) >= 1


def test_logits_keep_their_leading_axes() -> None:
    """Any number of leading axes; values at the new pixels' centres."""
    logits = torch.randn(2, 3, 4, 5)

    assert resize_logits(logits, (8, 9)).shape == (2, 3, 8, 9)
    assert torch.equal(resize_logits(logits, (4, 5)), logits)
