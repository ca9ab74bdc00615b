"""Cut a map into windows and put it together again."""

from __future__ import annotations

import math

from torch import Tensor


def partition_windows(x: Tensor, window: int, padding: Tensor) -> Tensor:
    """Cut (B, H, W, C) into (B * n, window * window, C), row by row, window by window.

    The map is filled up to whole windows, right and below, with the (C,) padding.
    """
    B, H, W, C = x.shape
    rows, columns = -(-H // window), -(-W // window)
    if (rows * window, columns * window) != (H, W):
        padded = padding.to(x.dtype).expand(B, rows * window, columns * window, C).contiguous()
        padded[:, :H, :W] = x
        x = padded
    x = x.view(B, rows, window, columns, window, C).transpose(2, 3)
    return x.reshape(B * rows * columns, window * window, C)


def merge_windows(windows: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Put (B * n, window * window, C) together to (B, H, W, C) and drop the padding."""
    H, W = size_hw
    window, C = math.isqrt(windows.shape[1]), windows.shape[-1]
    rows, columns = -(-H // window), -(-W // window)
    x = windows.view(-1, rows, columns, window, window, C).transpose(2, 3)
    x = x.reshape(-1, rows * window, columns * window, C)  # (B, padded H, padded W, C)
    return x[:, :H, :W].contiguous()
