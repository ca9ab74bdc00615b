"""Sine and cosine codes of positions and times, and rotations."""

from __future__ import annotations

import math

import pytest
import torch

from nexus.nn.position import axial_rotations, rotate, sine_positions, sine_times


def test_every_cell_has_the_code_of_the_formula() -> None:
    """Rows fill the first half, columns the second; sine and cosine take turns."""
    gh, gw, C = 3, 5, 8
    code = sine_positions((gh, gw), C)
    expected = torch.empty(C, gh, gw)
    for y in range(gh):
        for x in range(gw):
            for c in range(C):
                place, size = (y, gh) if c < C // 2 else (x, gw)
                index = c % (C // 2)
                period = 10_000 ** (2 * (index // 2) / (C // 2))
                angle = (place + 1) / (size + 1e-6) * 2 * math.pi / period
                expected[c, y, x] = math.cos(angle) if index % 2 else math.sin(angle)

    torch.testing.assert_close(code, expected, rtol=0, atol=1e-5)


def test_the_number_format_is_the_one_asked_for() -> None:
    """The code is rounded to bfloat16 once, at the end."""
    code = sine_positions((4, 4), 8, dtype=torch.bfloat16)

    assert code.dtype == torch.bfloat16
    assert torch.equal(code, sine_positions((4, 4), 8).bfloat16())


def test_times_have_sines_then_cosines() -> None:
    """A time of 0 is all zeros and ones; another follows the formula."""
    code = sine_times(torch.tensor([0.0, -0.4]), 8)

    assert code[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert code[1, 0].item() == pytest.approx(math.sin(-0.4))
    assert code[1, 6].item() == pytest.approx(math.cos(-0.4 / 10_000 ** (2 / 4)))


def test_pairs_turn_with_column_then_row() -> None:
    """Channel pair i of 4 channels a side turns by column, then row, over theta^(4 i / C)."""
    turns = axial_rotations((2, 3), 8)
    row, column = 1, 2

    angle = turns[row * 3 + column].angle()
    assert angle.tolist() == pytest.approx([column, column / 100, row, row / 100], rel=1e-5)


def test_rotation_is_that_of_the_plane() -> None:
    """A pair (a, b) becomes (a cos - b sin, a sin + b cos)."""
    turned = rotate(
        torch.tensor([[3.0, 4.0]]), torch.polar(torch.ones(1, 1), torch.full((1, 1), 0.3))
    )

    expected = [3 * math.cos(0.3) - 4 * math.sin(0.3), 3 * math.sin(0.3) + 4 * math.cos(0.3)]
    assert turned[0].tolist() == pytest.approx(expected)


def test_products_depend_on_the_distance_alone() -> None:
    """The same query and key have the same product wherever the pair of them is."""
    torch.manual_seed(0)
    query, key = torch.randn(1, 16), torch.randn(1, 16)
    turns = axial_rotations((6, 6), 16)
    near, far = 1 * 6 + 1, 3 * 6 + 4  # the same step of (1, 1) from either place
    products = [
        rotate(query, turns[place][None]) @ rotate(key, turns[place + 7][None]).t()
        for place in (near, far)
    ]

    torch.testing.assert_close(*products, rtol=1e-4, atol=1e-4)


def test_the_number_format_is_kept() -> None:
    """Half-precision tokens are rotated in float32 and rounded once."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8)
    turns = axial_rotations((2, 2), 8)

    assert rotate(x.bfloat16(), turns).dtype == torch.bfloat16
    assert torch.equal(rotate(x.bfloat16(), turns), rotate(x.bfloat16().float(), turns).bfloat16())
