"""What one frame shows of tracked objects."""

from __future__ import annotations

import numpy as np
import pytest

from nexus.core.types.frame_masks import FrameMasks


@pytest.fixture
def frame() -> FrameMasks:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :2, :3] = True
    low = np.array([[[1, -1], [-1, -1]], [[-1, -1], [-1, -1]]], np.float32)
    zeros = np.zeros(2, np.float32)
    return FrameMasks(3, 0.12, (7, -2), masks, zeros, zeros, low)


def test_it_is_an_array_of_masks(frame: FrameMasks) -> None:
    """One for each object, found by the caller's id."""
    assert np.asarray(frame).shape == (2, 4, 6)
    assert len(frame) == 2
    assert frame.mask(7).sum() == 6
    assert frame.areas.tolist() == [6, 0]
    with pytest.raises(KeyError, match="expected an id among \\[7, -2\\], got 1"):
        frame.mask(1)


def test_an_array_of_another_type_is_a_copy(frame: FrameMasks) -> None:
    """NumPy's rule: what cannot be had without a copy is refused when none is wanted."""
    assert np.asarray(frame, dtype=np.uint8).sum() == 6
    with pytest.raises(ValueError, match="without a copy"):
        frame.__array__(np.uint8, copy=False)


def test_logits_are_those_of_the_frame(frame: FrameMasks) -> None:
    """Bilinear, at the size of the masks, when they are asked for."""
    logits = frame.logits

    assert logits.shape == (2, 4, 6)
    assert logits[0, 0, 0] == 1
    np.testing.assert_allclose(logits[0, 0], [1, 1, 2 / 3, 0, -2 / 3, -1][:6], atol=0.4)
    assert (logits[1] == -1).all()
