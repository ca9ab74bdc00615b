"""RepViT-M1, the image trunk of EdgeTAM.

Follows "RepViT: Revisiting Mobile CNN From ViT Perspective" (arXiv 2307.09283). Parameter names
are those of EdgeTAM's checkpoint, where every convolution has its batch normalisation and the
branches of a token mixer are separate; where their statistics are fixed they are folded into one
convolution, as the paper does, but on the fly, so that the weights stay the checkpoint's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.layers import ConvNorm


@dataclass(frozen=True)
class RepViTConfig:
    """Sizes of a RepViT.

    Attributes:
        widths: Channels of each stage.
        depths: Blocks of each stage.
    """

    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    depths: tuple[int, int, int, int] = (2, 2, 14, 2)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage's output, finest first."""
        return self.widths


class RepViT(nn.Module):
    """Encode (B, 3, S, S) to one map per stage, (B, widths[i], S / 2^(i + 2), S / 2^(i + 2))."""

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        widths = config.widths
        conv1 = ConvNorm(3, widths[0] // 2, kernel=3, stride=2)
        conv2 = ConvNorm(widths[0] // 2, widths[0], kernel=3, stride=2)
        stem = nn.Sequential(OrderedDict(conv1=conv1, act=nn.GELU(), conv2=conv2))
        self.body = nn.Sequential(OrderedDict(stem=stem))
        for stage, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            # The step down to the resolution of the stage.
            step = Downsample(widths[stage - 1], width) if stage else nn.Identity()
            # Every other block weighs its channels, the first one does.
            blocks = nn.Sequential(*(Block(width, index % 2 == 0) for index in range(depth)))
            modules = OrderedDict[str, nn.Module](downsample=step, blocks=blocks)
            self.body.add_module(f"stages_{stage}", nn.Sequential(modules))

    def forward(self, x: Tensor) -> list[Tensor]:
        stem, *stages = self.body
        return list(accumulate(stages, lambda x, stage: stage(x), initial=stem(x)))[1:]


class Downsample(nn.Module):
    """Halve a map and widen it."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.pre_block = Block(before, weighs_channels=False)
        self.spatial_downsample = ConvNorm(before, before, kernel=3, stride=2, groups=before)
        self.channel_downsample = ConvNorm(before, width)
        self.ffn = channel_mixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        return x + self.ffn(x)


class Block(nn.Module):
    """Mix pixels, weigh channels, mix channels."""

    def __init__(self, width: int, weighs_channels: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if weighs_channels else nn.Identity()
        self.channel_mixer = channel_mixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.token_mixer(x))
        return x + self.channel_mixer(x)


class TokenMixer(nn.Module):
    """Depth-wise 3 x 3 and 1 x 1 convolutions beside the identity, added up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, kernel=3, groups=width)
        self.conv1 = ConvNorm(width, width, kernel=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.conv.folds and self.conv1.folds):
            return self.conv(x) + self.conv1(x) + x
        weight, bias = self.conv.folded()
        centre, shift = self.conv1.folded()
        weight = weight + F.pad(centre + 1, (1, 1, 1, 1))
        return F.conv2d(x, weight, bias + shift, padding=1, groups=x.shape[1])


def channel_mixer(width: int) -> nn.Sequential:
    """Build two layers on every pixel."""
    conv1, conv2 = ConvNorm(width, 2 * width), ConvNorm(2 * width, width)
    return nn.Sequential(OrderedDict(conv1=conv1, act=nn.GELU(), conv2=conv2))


class SqueezeExcite(nn.Module):
    """Weigh the channels of a map by what they average to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(8, (width // 4 + 4) // 8 * 8)  # a quarter, as a multiple of 8
        self.fc1 = nn.Conv2d(width, hidden, kernel_size=1)
        self.fc2 = nn.Conv2d(hidden, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)
