"""Cut a map into windows and put it together again."""

from __future__ import annotations

from torch import Tensor


def partition_windows(x: Tensor, window: int, padding: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Cut (B, H, W, C) into (B * n, window * window, C), row by row, window by window.

    The map is filled up to whole windows, right and below, with the (C,) padding; the padded height
    and width are returned as well.
    """
    B, H, W, C = x.shape
    padded_h, padded_w = -(-H // window) * window, -(-W // window) * window
    if (padded_h, padded_w) != (H, W):
        padded = padding.to(x.dtype).expand(B, padded_h, padded_w, C).contiguous()
        padded[:, :H, :W] = x
        x = padded
    rows, columns = padded_h // window, padded_w // window
    x = x.view(B, rows, window, columns, window, C).transpose(2, 3)
    return x.reshape(B * rows * columns, window * window, C), (padded_h, padded_w)


def merge_windows(
    windows: Tensor, window: int, padded_hw: tuple[int, int], size_hw: tuple[int, int]
) -> Tensor:
    """Put (B * n, window * window, C) together to (B, H, W, C) and drop the padding."""
    rows, columns = padded_hw[0] // window, padded_hw[1] // window
    C = windows.shape[-1]
    x = windows.view(-1, rows, columns, window, window, C).transpose(2, 3)
    x = x.reshape(-1, padded_hw[0], padded_hw[1], C)  # (B, padded H, padded W, C)
    return x[:, : size_hw[0], : size_hw[1]].contiguous()
