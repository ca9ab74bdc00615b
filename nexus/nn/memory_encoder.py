"""SAM 2's memory encoder: a frame and the masks on it to what is remembered of them.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4 and appendix
D.1; the blocks that fuse frame and mask are those of "A ConvNet for the 2020s" (arXiv 2201.03545).
Parameter names are those of the official checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.layers import LayerNorm2d


class MemoryEncoder(nn.Module):
    """Encode masks on a frame to (K, out, gh, gw) memories."""

    def __init__(self, dim: int = 256, out: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.mask_downsampler = mask_downsampler(dim)
        self.pix_feat_proj = nn.Conv2d(dim, dim, kernel_size=1)
        blocks = nn.Sequential(*(ConvNeXtBlock(dim) for _ in range(depth)))
        self.fuser = nn.Sequential(OrderedDict(layers=blocks))
        self.out_proj = nn.Conv2d(dim, out, kernel_size=1)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Encode (K, 1, 16 gh, 16 gw) mask probabilities, scaled and shifted.

        The features are (1 or K, C, gh, gw) of the frame, before any memory entered them.
        """
        x = self.mask_downsampler(masks) + self.pix_feat_proj(features)
        return self.out_proj(self.fuser(x))


def mask_downsampler(dim: int) -> nn.Sequential:
    """Build what brings a mask from stride 1 to stride 16 in four steps that halve it."""
    encoder = nn.Sequential()
    widths = (1, 4, 16, 64, 256)
    for narrow, wide in pairwise(widths):
        encoder.append(nn.Conv2d(narrow, wide, kernel_size=3, stride=2, padding=1))
        encoder.append(LayerNorm2d(wide))
        encoder.append(nn.GELU())
    encoder.append(nn.Conv2d(widths[-1], dim, kernel_size=1))
    return nn.Sequential(OrderedDict(encoder=encoder))


class ConvNeXtBlock(nn.Module):
    """A 7 x 7 depth-wise convolution, then two layers on every pixel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(1e-6 * self.norm.weight.new_ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm.over_last(self.dwconv(x).permute(0, 2, 3, 1))  # (B, h, w, C)
        pixels = self.gamma * self.pwconv2(F.gelu(self.pwconv1(pixels)))
        return x + pixels.permute(0, 3, 1, 2)
