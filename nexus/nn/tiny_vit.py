"""TinyViT image encoder of MobileSAM and LiteMedSAM.

Follows "TinyViT: Fast Pretraining Distillation for Small Vision Transformers" (arXiv 2207.10666)
in the form "Faster Segment Anything" (arXiv 2306.14289) gave it: the last stage keeps its
resolution and SAM's neck replaces the classifier. Parameter names are those of the official
checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.encoder import ImageEncoder
from nexus.nn.layers import ConvNorm, neck
from nexus.nn.window import merge_windows, partition_windows


@dataclass(frozen=True)
class TinyViTConfig:
    """Sizes of a TinyViT.

    Attributes:
        widths: Channels of each of the four stages.
        depths: Blocks of each stage.
        heads: Attention heads of each stage; the first stage is convolutional.
        windows: Side of a window in each stage, tokens.
        patch_stride: Stride of each of the two patch convolutions: 2 in MobileSAM (features at
            1/16), 1 in LiteMedSAM (features at 1/4).
        classes: Outputs of the classifier that MobileSAM's checkpoint carries unused; 0 for none.
        out_channels: Channels of the features.
    """

    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)
    patch_stride: int = 2
    classes: int = 1000
    out_channels: int = 256


class TinyViT(ImageEncoder):
    """Encode (B, 3, S, S) to (B, out_channels, S / n, S / n), n = 4 * patch_stride^2."""

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        widths = config.widths
        # Two convolutions, of stride 2 each over 3 x 3 pixels, or over single pixels.
        stride, half = config.patch_stride, widths[0] // 2
        kernel = 3 if stride == 2 else 1
        patches = ConvNorm(3, half, kernel, stride), nn.GELU()
        seq = nn.Sequential(*patches, ConvNorm(half, widths[0], kernel, stride))
        self.patch_embed = nn.Sequential(OrderedDict(seq=seq))
        self.layers = nn.Sequential()
        sizes = zip(widths, config.heads, config.windows, config.depths, strict=True)
        for stage, (width, heads, window, depth) in enumerate(sizes):
            blocks: list[nn.Module] = [
                WindowBlock(width, heads, window) if stage else MBConv(width) for _ in range(depth)
            ]
            layer = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))
            if stage < 3:  # only the step into the last stage keeps the resolution
                step = patch_merging(width, widths[stage + 1], stride=1 if stage == 2 else 2)
                layer.add_module("downsample", step)
            self.layers.append(layer)
        if config.classes:
            self.norm_head = nn.LayerNorm(widths[-1])
            self.head = nn.Linear(widths[-1], config.classes)
        self.neck = neck(widths[-1], config.out_channels)

    def encode(self, x: Tensor) -> Tensor:
        return self.neck(self.layers(self.patch_embed(x))).contiguous()  # (B, C, gh, gw)


class MBConv(nn.Module):
    """Inverted bottleneck: widen by 4, convolve each channel, narrow, add."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, 4 * width)
        self.conv2 = ConvNorm(4 * width, 4 * width, 3, groups=4 * width)
        self.conv3 = ConvNorm(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(y))


def patch_merging(in_width: int, out_width: int, stride: int) -> nn.Sequential:
    """Build what changes the width and, with stride 2, halves the resolution."""
    conv1 = ConvNorm(in_width, out_width)
    conv2 = ConvNorm(out_width, out_width, 3, stride, groups=out_width)
    conv3 = ConvNorm(out_width, out_width)
    modules = OrderedDict(conv1=conv1, act1=nn.GELU(), conv2=conv2, act2=nn.GELU(), conv3=conv3)
    return nn.Sequential(modules)


class WindowBlock(nn.Module):
    """Window attention, a depthwise convolution, and an MLP, on a (B, C, H, W) map."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        fc1, fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(
            OrderedDict(norm=nn.LayerNorm(width), fc1=fc1, act=nn.GELU(), fc2=fc2)
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        tokens = tokens + self.attn(tokens)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        tokens = tokens + self.mlp(tokens)
        return tokens.permute(0, 3, 1, 2)  # (B, C, H, W)


class WindowAttention(nn.Module):
    """Attention within windows, with one learned bias per head and absolute offset."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        qkv = self.qkv(self.norm(x))
        # The original fills windows up with zeros before the norm; a zero projects to this.
        padding = self.qkv(self.norm(x.new_zeros(C)))
        windows = partition_windows(qkv, self.window, padding)
        L = self.window * self.window
        # Each head's q, k and v lie side by side in the checkpoint.
        qkv = windows.view(-1, L, self.heads, 3, C // self.heads).permute(3, 0, 2, 1, 4)
        q, k, v = qkv.unbind(0)  # (B * n, heads, L, head_dim) each
        bias = self.attention_biases[:, _offset_index(self.window, x.device)]  # (heads, L, L)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.transpose(1, 2).reshape(-1, L, C)
        return self.proj(merge_windows(out, (H, W)))


def _offset_index(window: int, device: torch.device) -> Tensor:
    """Number the absolute offsets between the tokens of a window: (L, L) in [0, L)."""
    axis = torch.arange(window, device=device)
    distance = (axis[:, None] - axis[None, :]).abs()  # (window, window)
    index = distance[:, None, :, None] * window + distance[None, :, None, :]
    return index.reshape(window * window, window * window)
