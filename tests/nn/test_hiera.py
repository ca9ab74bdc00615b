"""Hiera, against a plain form that pads before it projects."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nexus.nn.hiera import Attention, Hiera, HieraConfig

TINY = HieraConfig(
    width=8, heads=2, depths=(1, 2, 2, 1), global_blocks=(4,), position_side=3, windows=(4, 2, 6, 3)
)


@pytest.fixture(scope="module")
def hiera() -> Hiera:
    torch.manual_seed(0)
    model = Hiera(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def plain_window_attention(attention: Attention, x: Tensor, window: int) -> Tensor:
    """Pad with zeros, cut windows, project, pool queries, attend, project, merge, crop."""
    B, H, W, _ = x.shape
    padded = F.pad(x, (0, 0, 0, -W % window, 0, -H % window))
    rows, columns = padded.shape[1] // window, padded.shape[2] // window
    side = window // 2 if attention.halves else window
    out = torch.empty(B, rows * side, columns * side, attention.proj.out_features)
    for row in range(rows):
        for column in range(columns):
            y, x0 = row * window, column * window
            tokens = attention.qkv(padded[:, y : y + window, x0 : x0 + window])
            q, k, v = tokens.chunk(3, -1)
            if attention.halves:
                q = F.max_pool2d(q.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
            q, k, v = (
                t.flatten(1, 2).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                for t in (q, k, v)
            )
            weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            attended = attention.proj((weights @ v).transpose(1, 2).flatten(-2))
            out[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = (
                attended.unflatten(1, (side, side))
            )
    divisor = 2 if attention.halves else 1
    return out[:, : H // divisor, : W // divisor]


@pytest.mark.parametrize("halves", [False, True])
def test_windows_equal_the_plain_form(halves: bool) -> None:
    """Padding after the projection and projecting after the crop change nothing."""
    torch.manual_seed(0)
    attention = Attention(8, 12, heads=3, halves=halves)
    x = torch.randn(2, 6, 8, 8)
    with torch.no_grad():
        expected = plain_window_attention(attention, x, 4)

        torch.testing.assert_close(attention(x, 4), expected)


def test_global_attention_is_one_large_window() -> None:
    """A window as large as the map and no window give the same."""
    torch.manual_seed(0)
    attention = Attention(8, 12, heads=3, halves=True)
    x = torch.randn(1, 6, 6, 8)
    with torch.no_grad():
        torch.testing.assert_close(attention(x, 0), plain_window_attention(attention, x, 6))


def test_each_stage_halves_and_doubles(hiera: Hiera) -> None:
    """Four maps at strides 4 to 32, each twice as wide as the one before."""
    with torch.no_grad():
        maps = hiera(torch.randn(2, 3, 64, 64))

    assert [tuple(m.shape) for m in maps] == [
        (2, 8, 16, 16),
        (2, 16, 8, 8),
        (2, 32, 4, 4),
        (2, 64, 2, 2),
    ]
    assert TINY.stage_widths == (8, 16, 32, 64)
    assert hiera.stage_ends == [0, 2, 4, 5]


def test_windows_lag_one_block(hiera: Hiera) -> None:
    """The block that opens a stage keeps the window of the stage before; 0 is global."""
    assert [block.window for block in hiera.blocks] == [4, 4, 2, 2, 0, 6]
    assert [block.halves for block in hiera.blocks] == [False, True, False, True, False, True]


def test_positions_are_interpolated_and_tiled(hiera: Hiera) -> None:
    """A larger map gets the resized trained positions and more windows."""
    positions = hiera._positions((24, 24))
    resized = F.interpolate(hiera.pos_embed, size=(24, 24), mode="bicubic").permute(0, 2, 3, 1)
    within = hiera.pos_embed_window.permute(0, 2, 3, 1)

    torch.testing.assert_close(positions[:, 8:12, 20:24] - resized[:, 8:12, 20:24], within)


def test_half_precision_runs(hiera: Hiera) -> None:
    """In bfloat16 the maps stay near those of float32."""
    x = torch.randn(1, 3, 64, 64)
    half = Hiera(TINY).eval()
    half.load_state_dict(hiera.state_dict())
    half.bfloat16()
    with torch.no_grad():
        ours, theirs = half(x.bfloat16())[2], hiera(x)[2]

    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs, rtol=0.1, atol=0.1)
