"""Sine and cosine codes of positions and times."""

from __future__ import annotations

import math

import pytest
import torch

from nexus.nn.position import sine_positions, sine_times


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
