"""Hiera, the image trunk of SAM 2: a hierarchical ViT with windowed and global attention.

Follows "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles"
(arXiv 2306.00989) with the absolute window positions of "Window Attention is Bugged"
(arXiv 2311.05613). Parameter names are those of SAM 2's checkpoints. Tokens that only fill up a
window are not projected: their projection is one constant, and they are dropped before the output
projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.layers import MLP, PatchEmbed
from nexus.nn.window import merge_windows, partition_windows


@dataclass(frozen=True)
class HieraConfig:
    """Sizes of a Hiera.

    Attributes:
        width: Channels of a token in the first stage; every later stage doubles them.
        heads: Attention heads in the first stage; every later stage doubles them.
        depths: Blocks of each of the four stages.
        global_blocks: Blocks that attend over the whole map; the others attend in windows.
        position_side: Side of the grid of trained absolute positions.
        windows: Side of a window in each stage, tokens. The first block of a stage still attends
            in windows of the stage before it.
    """

    width: int = 96
    heads: int = 1
    depths: tuple[int, int, int, int] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    position_side: int = 7
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage's output, finest first."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


class Hiera(nn.Module):
    """Encode (B, 3, S, S) to one map per stage, (B, width * 2^i, S / 2^(i + 2), S / 2^(i + 2))."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.width, 7, stride=4, padding=3)
        self.pos_embed = nn.Parameter(
            torch.zeros(1, config.width, config.position_side, config.position_side)
        )
        window = config.windows[0]
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, window, window))
        self.blocks = nn.ModuleList()
        self.stage_ends: list[int] = []
        width, heads = config.width, config.heads
        for stage, depth in enumerate(config.depths):
            for place in range(depth):
                index = len(self.blocks)
                # A stage begins by halving the map within the windows of the stage before it.
                opens = stage > 0 and place == 0
                out, heads = (2 * width, 2 * heads) if opens else (width, heads)
                side = config.windows[stage - 1 if opens else stage]
                window = 0 if index in config.global_blocks else side
                self.blocks.append(Block(width, out, heads, window, halves=opens))
                width = out
            self.stage_ends.append(len(self.blocks) - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.patch_embed(x)  # (B, S / 4, S / 4, C)
        x = x + self._positions((x.shape[1], x.shape[2]))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stage_ends:
                maps.append(x.permute(0, 3, 1, 2))  # (B, C, h, w)
        return maps

    def _positions(self, size_hw: tuple[int, int]) -> Tensor:
        """Return the positions of a map: trained ones interpolated, plus those within a window."""
        resized = F.interpolate(self.pos_embed.float(), size=size_hw, mode="bicubic")
        window = self.pos_embed_window
        repeats = [size // side for size, side in zip(size_hw, window.shape[-2:], strict=True)]
        positions = resized.to(window.dtype) + window.tile(1, 1, *repeats)
        return positions.permute(0, 2, 3, 1)  # (1, h, w, C)


class Block(nn.Module):
    """A transformer block; the one that opens a stage doubles the channels and halves the map."""

    def __init__(self, width: int, out: int, heads: int, window: int, halves: bool) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.norm1 = norm(width)
        self.attn = Attention(width, out, heads, halves)
        self.norm2 = norm(out)
        self.mlp = MLP(out, 4 * out, out, 2, activation=F.gelu)
        if halves:
            self.proj = nn.Linear(width, out)
        self.window, self.halves = window, halves

    def forward(self, x: Tensor) -> Tensor:
        shortcut, x = x, self.norm1(x)
        if self.halves:
            shortcut = _halve(self.proj(x))
        x = shortcut + self.attn(x, self.window)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head attention whose queries may be pooled over 2 x 2 tokens."""

    def __init__(self, width: int, out: int, heads: int, halves: bool) -> None:
        super().__init__()
        self.heads, self.halves = heads, halves
        self.qkv = nn.Linear(width, 3 * out)
        self.proj = nn.Linear(out, out)

    def forward(self, x: Tensor, window: int) -> Tensor:
        B, H, W, C = x.shape
        qkv = self.qkv(x)  # (B, H, W, 3 out)
        if not window:
            return self.proj(self._attend(qkv))
        # The original fills windows up with zeros before the projection; a zero projects to this.
        padding = self.qkv(x.new_zeros(C))
        windows = partition_windows(qkv, window, padding)
        attended = self._attend(windows.view(-1, window, window, windows.shape[-1])).flatten(1, 2)
        size_hw = (H // 2, W // 2) if self.halves else (H, W)
        return self.proj(merge_windows(attended, size_hw))

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within each of n maps: (n, h, w, 3 out) to (n, h, w, out), halved if asked."""
        n, h, w, _ = qkv.shape
        q, k, v = qkv.chunk(3, dim=-1)
        if self.halves:
            q = _halve(q)
            h, w = h // 2, w // 2
        q, k, v = (
            t.reshape(n, -1, self.heads, t.shape[-1] // self.heads).transpose(1, 2)
            for t in (q, k, v)
        )  # (n, heads, L, head_dim)
        out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).reshape(n, h, w, -1)


def _halve(x: Tensor) -> Tensor:
    """Take the maximum over 2 x 2 tokens of a (B, H, W, C) map."""
    rows = torch.maximum(x[:, 0::2], x[:, 1::2])
    return torch.maximum(rows[:, :, 0::2], rows[:, :, 1::2])
