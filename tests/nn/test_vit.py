"""The ViT and its relative positions."""

from __future__ import annotations

import pytest
import torch

from nexus.core.errors import InputError
from nexus.nn.encoder import ImageEncoder
from nexus.nn.tiny_vit import TinyViT, TinyViTConfig
from nexus.nn.vit import Attention, ViT, ViTConfig, _relative


def _random(module: torch.nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def _plain_attention(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """Global attention with relative positions, one score at a time."""
    _, H, W, C = x.shape
    d = C // attention.heads
    q, k, v = attention.qkv(x).view(H * W, 3, attention.heads, d).permute(1, 2, 0, 3)
    scores = q @ k.transpose(-1, -2) / d**0.5
    for i in range(H * W):
        for j in range(H * W):
            row = attention.rel_pos_h[i // W - j // W + H - 1]
            column = attention.rel_pos_w[i % W - j % W + W - 1]
            scores[:, i, j] += q[:, i] @ (row + column)
    out = scores.softmax(-1) @ v
    return attention.proj(out.transpose(0, 1).reshape(1, H, W, C))


def test_attention_equals_the_plain_formula() -> None:
    """Decomposed relative positions are added to the scores of unscaled queries."""
    attention = Attention(8, 2, position_side=3)
    _random(attention)
    x = torch.randn(1, 3, 3, 8)

    with torch.no_grad():
        expected = _plain_attention(attention, x)

        torch.testing.assert_close(attention(x, 0), expected)


def test_blocks_of_queries_give_the_same_result() -> None:
    """A map long enough for the blocked form has the result of the other form."""
    attention = Attention(8, 2, position_side=36)
    _random(attention)
    x = torch.randn(2, 36, 36, 8)
    with_gradients = attention(x, 0)

    with torch.no_grad():
        blocked = attention(x, 0)

    torch.testing.assert_close(blocked, with_gradients.detach(), rtol=1e-4, atol=1e-5)


def test_windows_with_padding_see_the_bias_of_the_projection() -> None:
    """Tokens that fill a window up take part as the projection of zeros, as in the original."""
    attention = Attention(8, 2, position_side=2)
    _random(attention)
    x = torch.randn(1, 3, 3, 8)
    filled = torch.zeros(1, 4, 4, 8)
    filled[:, :3, :3] = x
    windows = filled.view(2, 2, 2, 2, 8).transpose(1, 2).reshape(4, 2, 2, 8)
    expected = torch.cat([attention(window[None], 0) for window in windows])
    expected = expected.view(2, 2, 2, 2, 8).transpose(1, 2).reshape(1, 4, 4, 8)[:, :3, :3]

    torch.testing.assert_close(attention(x, 2), expected)


def test_relative_positions_stretch_to_another_side() -> None:
    """A table trained for one side is interpolated linearly to the distances of another."""
    table = torch.arange(5.0)[:, None]

    assert _relative(table, 3)[:, 0, 0].tolist() == [2, 3, 4]
    assert _relative(table, 2)[..., 0].tolist() == [
        [2.0, pytest.approx(1 / 3)],
        [pytest.approx(11 / 3), 2.0],
    ]


@pytest.mark.parametrize("side", [32, 48, 64, 80])
def test_any_multiple_of_sixteen_is_encoded(side: int) -> None:
    """The feature grid follows the input side, below and above the trained one."""
    vit = ViT(ViTConfig(width=16, depth=2, heads=2, global_blocks=(1,), input_side=64, window=3))
    tiny = TinyViT(TinyViTConfig((8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 2, 2), classes=0))
    x = torch.randn(2, 3, side, side)

    assert vit(x).shape == (2, 256, side // 16, side // 16)
    assert tiny(x).shape == (2, 256, side // 16, side // 16)


def test_an_encoder_without_a_model_refuses_raw_images() -> None:
    """The message says where raw images go."""
    with pytest.raises(InputError, match="model.encode_image"):
        ViT(ViTConfig(width=16, depth=1, heads=2, input_side=64))("image.png")
    with pytest.raises(InputError, match="encodes, got ImageEncoder"):
        ImageEncoder()(torch.zeros(1, 3, 16, 16))
