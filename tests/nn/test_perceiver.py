"""EdgeTAM's spatial perceiver."""

from __future__ import annotations

import pytest
import torch

from nexus.core.errors import InputError
from nexus.nn.perceiver import SpatialPerceiver
from nexus.nn.position import sine_positions


@pytest.fixture(scope="module")
def perceiver() -> SpatialPerceiver:
    torch.manual_seed(0)
    return SpatialPerceiver(dim=8, latents=3, latents_2d=4).eval()


def test_any_grid_becomes_the_same_number_of_tokens(perceiver: SpatialPerceiver) -> None:
    """Global tokens first, then one for each window."""
    with torch.no_grad():
        assert perceiver(torch.randn(2, 8, 4, 4)).shape == (2, 7, 8)
        assert perceiver(torch.randn(2, 8, 6, 6)).shape == (2, 7, 8)


def test_a_placed_token_sees_its_window_alone(perceiver: SpatialPerceiver) -> None:
    """A change in the upper right window changes its token and the global ones."""
    memory = torch.randn(1, 8, 4, 4)
    other = memory.clone()
    other[:, 2, 1, 3] += 5
    with torch.no_grad():
        change = (perceiver(memory) - perceiver(other)).abs().amax((0, 2))

    assert (change > 1e-4).tolist() == [True, True, True, False, True, False, False]


def test_objects_do_not_see_each_other(perceiver: SpatialPerceiver) -> None:
    """A batch gives what its members give alone."""
    memory = torch.randn(3, 8, 4, 4)
    with torch.no_grad():
        alone = torch.cat([perceiver(one[None]) for one in memory])

        torch.testing.assert_close(perceiver(memory), alone)


def test_positions_of_global_tokens_are_zero(perceiver: SpatialPerceiver) -> None:
    """Placed tokens have the code of a grid of their own."""
    positions = perceiver.positions(torch.float32)

    assert not positions[:3].any()
    torch.testing.assert_close(positions[3:], sine_positions((2, 2), 8).flatten(1).t())


def test_a_grid_that_cannot_be_cut_is_refused(perceiver: SpatialPerceiver) -> None:
    """The message names the grid and the input sides that work."""
    with pytest.raises(InputError, match=r"multiples of 2, got 5 x 5") as error:
        perceiver(torch.randn(1, 8, 5, 5))

    assert "a multiple of 32" in str(error.value)
