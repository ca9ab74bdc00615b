"""The feature pyramid over a trunk."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.core.errors import InputError
from nexus.nn.fpn import PyramidEncoder, in_turn


class Strides(nn.Module):
    """A trunk whose maps are the image averaged over ever larger squares."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(x, 4 * 2**stage) for stage in range(4)]


@pytest.fixture
def encoder() -> PyramidEncoder:
    torch.manual_seed(0)
    return PyramidEncoder(Strides(), (3, 3, 3, 3), channels=5)


def test_the_two_coarsest_maps_are_added(encoder: PyramidEncoder) -> None:
    """Features are the stride-16 map plus the repeated stride-32 one; finer maps stand alone."""
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features, fine, middle = encoder.encode(x)
        # The checkpoints count the projections from the coarsest map.
        lateral = [conv.conv for conv in encoder.neck.convs][::-1]
        stages = Strides()(x)
        coarse = lateral[3](stages[3]).repeat_interleave(2, 2).repeat_interleave(2, 3)

        torch.testing.assert_close(features, lateral[2](stages[2]) + coarse)
        torch.testing.assert_close(fine, lateral[0](stages[0]))
        torch.testing.assert_close(middle, lateral[1](stages[1]))


def test_another_side_is_refused(encoder: PyramidEncoder) -> None:
    """A side that is not a multiple of 32 is named, with a hint."""
    with pytest.raises(InputError, match=r"multiple of 32, got 64 x 48") as error:
        encoder.encode(torch.zeros(1, 3, 64, 48))

    assert "trained at 1024" in str(error.value)


def test_two_projections_are_one() -> None:
    """The product of both weights does what they do in turn."""
    torch.manual_seed(0)
    first, second, x = nn.Conv2d(3, 7, 1), nn.Conv2d(7, 2, 1), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(in_turn(x, first, second), second(first(x)))


def test_what_stands_in_for_a_projection_is_called() -> None:
    """A subclass, such as an adapter, may do more than its weight says and is run as it is."""

    class Doubled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    first, second, x = Doubled(3, 7, 1), nn.Conv2d(7, 2, 1), torch.randn(2, 3, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(in_turn(x, first, second), second(first(x)))
