"""Memory attention, against a plain form that takes one object at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nexus.nn.memory_attention import MemoryAttention, MemoryTokens, RotaryAttention
from nexus.nn.position import axial_rotations, rotate, sine_positions

C, M, GRID = 16, 8, (4, 4)
L = GRID[0] * GRID[1]


@pytest.fixture(scope="module")
def attention() -> MemoryAttention:
    torch.manual_seed(0)
    return MemoryAttention(C, M, hidden=32, depth=3).eval()


def memory(frames: int, pointers: int, per_frame: int = L) -> MemoryTokens:
    S = frames * per_frame + pointers
    return MemoryTokens(torch.randn(S, M), torch.randn(S, M), frames, pointers)


def attend(
    layer: RotaryAttention, x: Tensor, keys: Tensor, values: Tensor, turns: Tensor
) -> Tensor:
    """One head, every projection where the paper has it; (L, C)."""
    q = rotate(layer.q_proj(x), turns)
    weights = (q @ keys.t() / C**0.5).softmax(-1)
    return layer.out_proj(weights @ layer.v_proj(values))


def plain(
    attention: MemoryAttention, features: Tensor, positions: Tensor, one: MemoryTokens, side: int
) -> Tensor:
    """Condition (1, C, gh, gw) features on one object's memory; placed tokens lie on side^2."""
    turns, key_turns = axial_rotations(GRID, C), axial_rotations((side, side), C)
    x = (features[0] + 0.1 * positions).flatten(1).t()  # (L, C)
    for layer in attention.layers:
        y = layer.norm1(x)
        own = layer.self_attn
        x = x + attend(own, y, rotate(own.k_proj(y), turns), y, turns)
        cross = layer.cross_attn_image
        keys = cross.k_proj(one.tokens + one.positions)
        per_frame = (len(keys) - one.pointers) // one.frames
        for frame in range(one.frames):
            end = (frame + 1) * per_frame
            keys[end - side * side : end] = rotate(keys[end - side * side : end], key_turns)
        x = x + attend(cross, layer.norm2(x), keys, one.tokens, turns)
        x = x + layer.linear2(F.relu(layer.linear1(layer.norm3(x))))
    return attention.norm(x).t().view(1, C, *GRID)


def test_it_equals_the_plain_form(attention: MemoryAttention) -> None:
    """Sharing the first self-attention and averaging before projecting change nothing."""
    torch.manual_seed(0)
    features, positions = torch.randn(1, C, *GRID), sine_positions(GRID, C)
    memories = [memory(1, 0), memory(3, 4), memory(2, 2), memory(1, 0), memory(3, 4)]
    with torch.no_grad():
        ours = attention(features, positions, memories)
        theirs = torch.cat([plain(attention, features, positions, m, 4) for m in memories])

    assert ours.shape == (5, C, *GRID)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_fused_form_equals_the_blocks(attention: MemoryAttention) -> None:
    """Where gradients are wanted, objects of one length go through the fused kernel together."""
    torch.manual_seed(0)
    features, positions = torch.randn(1, C, *GRID), sine_positions(GRID, C)
    memories = [memory(2, 2), memory(1, 0), memory(2, 2)]
    with torch.no_grad():
        blocks = attention(features, positions, memories)
    fused = attention(features, positions, memories)

    assert fused.requires_grad
    torch.testing.assert_close(fused, blocks, rtol=1e-4, atol=1e-5)


def test_tokens_without_a_place_are_not_turned() -> None:
    """In EdgeTAM a frame's last tokens lie on a grid of their own; the others have no place."""
    torch.manual_seed(0)
    attention = MemoryAttention(C, M, hidden=32, depth=2, tokens_2d=2).eval()
    features, positions = torch.randn(1, C, *GRID), sine_positions(GRID, C)
    one = memory(frames=2, pointers=2, per_frame=7)
    with torch.no_grad():
        torch.testing.assert_close(
            attention(features, positions, [one]),
            plain(attention, features, positions, one, side=2),
            rtol=1e-4,
            atol=1e-5,
        )


def test_half_precision_stays_near(attention: MemoryAttention) -> None:
    """In bfloat16 the scores are still added up in float32."""
    torch.manual_seed(0)
    features, positions = torch.randn(1, C, *GRID), sine_positions(GRID, C)
    one = memory(3, 4)
    half = MemoryAttention(C, M, hidden=32, depth=3).eval()
    half.load_state_dict(attention.state_dict())
    half.bfloat16()
    rounded = MemoryTokens(one.tokens.bfloat16(), one.positions.bfloat16(), 3, 4)
    with torch.no_grad():
        ours = half(features.bfloat16(), positions, [rounded])
        theirs = attention(features, positions, [one])

    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.1)
