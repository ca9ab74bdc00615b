"""RepViT-M1, the image trunk of EdgeTAM.

Follows "RepViT: Revisiting Mobile CNN From ViT Perspective" (arXiv 2307.09283). Parameter names
are those of EdgeTAM's checkpoint, where every convolution has its batch normalisation and the
branches of a token mixer are separate; outside training they are folded into one convolution, as
the paper does, but on the fly, so that the weights stay the checkpoint's.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        self.body = Body(config)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.body(x)


class Body(nn.Module):
    """The stem and four stages."""

    def __init__(self, config: RepViTConfig) -> None:
        super().__init__()
        widths = config.widths
        self.stem = Stem(widths[0])
        for stage, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            before = widths[stage - 1] if stage else None
            self.add_module(f"stages_{stage}", Stage(before, width, depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in list(self.children())[1:]:
            x = stage(x)
            maps.append(x)
        return maps


class Stem(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, kernel=3, stride=2)
        self.conv2 = ConvNorm(width // 2, width, kernel=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x)))


class Stage(nn.Module):
    """Blocks at one resolution, after the step down to it."""

    def __init__(self, before: int | None, width: int, depth: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if before is None else Downsample(before, width)
        # Every other block weighs its channels, the first one does.
        self.blocks = nn.Sequential(*(Block(width, index % 2 == 0) for index in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class Downsample(nn.Module):
    """Halve a map and widen it."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.pre_block = Block(before, weighs_channels=False)
        self.spatial_downsample = ConvNorm(before, before, kernel=3, stride=2, groups=before)
        self.channel_downsample = ConvNorm(before, width)
        self.ffn = ChannelMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        return x + self.ffn(x)


class Block(nn.Module):
    """Mix pixels, weigh channels, mix channels."""

    def __init__(self, width: int, weighs_channels: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = SqueezeExcite(width) if weighs_channels else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

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
        if self.training or not (self.conv.is_plain() and self.conv1.is_plain()):
            return self.conv(x) + self.conv1(x) + x
        weight, bias = self.conv.folded()
        centre, shift = self.conv1.folded()
        weight = weight + F.pad(centre + 1, (1, 1, 1, 1))
        return F.conv2d(x, weight, bias + shift, padding=1, groups=x.shape[1])


class ChannelMixer(nn.Module):
    """Two layers on every pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, 2 * width)
        self.conv2 = ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.gelu(self.conv1(x)))


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
