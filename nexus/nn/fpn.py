"""SAM 2's image encoder: a trunk of four stages and the feature pyramid on top of it.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4 and
appendix D.1, and "Feature Pyramid Networks" (arXiv 1612.03144). Parameter names are those of the
official checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from nexus.core.errors import InputError
from nexus.nn.encoder import ImageEncoder

_STRIDE = 32  # of the coarsest stage


class PyramidEncoder(ImageEncoder):
    """Encode (B, 3, S, S) to features at stride 16 and to finer maps at strides 4 and 8.

    The trunk gives one map per stage, at strides 4, 8, 16 and 32; `widths` are the channels of
    those, finest first, and `channels` those of the features.
    """

    def __init__(self, trunk: nn.Module, widths: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = Pyramid(widths, channels)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a preprocessed (B, 3, S, S) batch.

        Returns:
            (B, C, S / 16, S / 16), then (B, C, S / 4, S / 4) and (B, C, S / 8, S / 8).

        Raises:
            InputError: S is not a multiple of 32.
        """
        stages = self.stages(x)
        fine, middle = (self.neck.lateral(level)(stage) for level, stage in enumerate(stages[:2]))
        return self.neck(stages), fine, middle

    def stages(self, x: Tensor) -> list[Tensor]:
        """Return the trunk's maps, finest first; see `encode`."""
        height, width = x.shape[-2:]
        if height % _STRIDE or width % _STRIDE:
            raise InputError(
                f"expected an input side that is a multiple of {_STRIDE}, got {height} x {width}",
                hint="the models were trained at 1024; 512 and 768 are common too",
            )
        return self.trunk(x)


class Pyramid(nn.Module):
    """Bring the maps of a trunk to one width; the two coarsest are added up at stride 16."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        # The checkpoints count from the coarsest map.
        self.convs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=nn.Conv2d(width, channels, kernel_size=1)))
            for width in reversed(widths)
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the features at stride 16 of maps given finest first."""
        coarse = self.lateral(3)(stages[3])
        features = self.lateral(2)(stages[2])
        return features + F.interpolate(coarse.float(), scale_factor=2.0).to(features.dtype)

    def lateral(self, level: int) -> nn.Conv2d:
        """Return the projection of a stage, 0 for the finest."""
        return cast(Any, self.convs[len(self.convs) - 1 - level]).conv


def in_turn(x: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """Apply two 1 x 1 convolutions with nothing between them as the one they amount to."""
    plain = type(first) is nn.Conv2d and type(second) is nn.Conv2d
    if not plain or first.bias is None or second.bias is None:
        return second(first(x))
    inner, outer = first.weight.flatten(1), second.weight.flatten(1)
    weight = (outer @ inner)[:, :, None, None]
    return F.conv2d(x, weight, outer @ first.bias + second.bias)
