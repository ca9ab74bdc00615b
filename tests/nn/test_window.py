"""Cutting maps into windows."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nexus.nn.window import merge_windows, partition_windows


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_merge_undoes_partition(B: int, H: int, W: int, window: int) -> None:
    """Cut and put together, a map is what it was, whatever its size."""
    x = torch.arange(B * H * W * 2, dtype=torch.float32).view(B, H, W, 2)
    windows = partition_windows(x, window, torch.tensor([7.0, -7.0]))

    assert torch.equal(merge_windows(windows, (H, W)), x)


def test_padding_lies_right_and_below() -> None:
    """Tokens outside the map hold the padding value."""
    x = torch.zeros(1, 1, 3, 1)
    windows = partition_windows(x, 2, torch.tensor([5.0]))

    assert windows[..., 0].tolist() == [[0, 0, 5, 5], [0, 5, 5, 5]]
