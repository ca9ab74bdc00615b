"""SAM's image encoder: a ViT with windowed and global attention and relative positions.

Follows "Segment Anything" (arXiv 2304.02643), appendix A, and "Exploring Plain Vision Transformer
Backbones for Object Detection" (arXiv 2203.16527). Parameter names are those of the official
checkpoints. Three things differ from the original code, none of them in the result: tokens that
only fill up a window are not projected (their projection is one constant), the output projection
runs after they are dropped, and global attention on a CPU goes through blocks of queries that fit
the cache instead of one L x L matrix per head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.encoder import ImageEncoder
from nexus.nn.layers import PatchEmbed, mlp_block, neck
from nexus.nn.window import merge_windows, partition_windows

_BLOCK_BYTES = 8 << 20  # scores of one block of queries; about what a core's caches hold


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a SAM ViT.

    Attributes:
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads.
        global_blocks: Blocks that attend over the whole map; the others attend in windows.
        input_side: Side the positions were trained at, pixels.
        patch: Side of a patch, pixels.
        window: Side of a window, tokens.
        out_channels: Channels of the features.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    input_side: int = 1024
    patch: int = 16
    window: int = 14
    out_channels: int = 256


class ViT(ImageEncoder):
    """Encode (B, 3, S, S) to (B, out_channels, S / patch, S / patch)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        grid = config.input_side // config.patch
        self.patch_embed = PatchEmbed(config.width, config.patch, stride=config.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, config.width))
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                config.heads,
                window=0 if index in config.global_blocks else config.window,
                position_side=grid if index in config.global_blocks else config.window,
            )
            for index in range(config.depth)
        )
        self.neck = neck(config.width, config.out_channels)

    def encode(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)  # (B, gh, gw, C)
        positions: Tensor = self.pos_embed
        if positions.shape[1:3] != x.shape[1:3]:
            table = positions.float().permute(0, 3, 1, 2)
            resized = F.interpolate(table, size=x.shape[1:3], mode="bicubic")
            positions = resized.permute(0, 2, 3, 1).to(positions.dtype)
        x = x + positions
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2)).contiguous()  # (B, C, gh, gw)


class Block(nn.Module):
    """A transformer block; attends in windows of `window` tokens, or globally if that is 0."""

    def __init__(self, width: int, heads: int, window: int, position_side: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.norm1 = norm(width)
        self.attn = Attention(width, heads, position_side)
        self.norm2 = norm(width)
        self.mlp = mlp_block(width, 4 * width, nn.GELU())
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), self.window)
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head attention with decomposed relative positions along rows and columns."""

    def __init__(self, width: int, heads: int, position_side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * position_side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * position_side - 1, width // heads))

    def forward(self, x: Tensor, window: int) -> Tensor:
        B, H, W, C = x.shape
        qkv = self.qkv(x)  # (B, H, W, 3C)
        if not window:
            return self.proj(self._attend(qkv.view(B, H * W, 3 * C), (H, W)).view(B, H, W, C))
        # The original fills windows up with zeros before the projection; a zero projects to this.
        padding = self.qkv(x.new_zeros(C))
        attended = self._attend(partition_windows(qkv, window, padding), (window, window))
        return self.proj(merge_windows(attended, (H, W)))

    def _attend(self, qkv: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Attend within each of B maps: (B, L, 3C) to (B, L, C)."""
        B, L, _ = qkv.shape
        head_dim = qkv.shape[-1] // (3 * self.heads)
        qkv = qkv.view(B, L, 3, self.heads, head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, L, head_dim) each
        height, width = size_hw
        grid = q.reshape(B, self.heads, height, width, head_dim)
        from_rows = torch.einsum("bnhwc,hkc->bnhwk", grid, _relative(self.rel_pos_h, height))
        from_columns = torch.einsum("bnhwc,wkc->bnhwk", grid, _relative(self.rel_pos_w, width))
        from_rows = from_rows.reshape(B, self.heads, L, height)
        from_columns = from_columns.reshape(B, self.heads, L, width)
        if L > 1024 and q.device.type == "cpu" and not torch.is_grad_enabled():
            out = _attend_by_blocks(q, k, v, from_rows, from_columns)
        else:
            bias = from_rows.unsqueeze(-1) + from_columns.unsqueeze(-2)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.flatten(-2))
        return out.transpose(1, 2).reshape(B, L, self.heads * head_dim)


def _attend_by_blocks(
    q: Tensor, k: Tensor, v: Tensor, from_rows: Tensor, from_columns: Tensor
) -> Tensor:
    """Attention with relative positions, one head and one block of queries at a time.

    Queries, keys, values and what comes back are (B, heads, L, head_dim); `from_rows`, (B, heads,
    L, height), is what a query adds to the scores of each row of keys, `from_columns` of each
    column.
    """
    B, heads, L, head_dim = q.shape
    height, width = from_rows.shape[-1], from_columns.shape[-1]
    block = max(1, _BLOCK_BYTES // (L * q.element_size()))
    q = q * head_dim**-0.5
    out = torch.empty(B, heads, L, head_dim, dtype=v.dtype, device=v.device)
    for b, head in product(range(B), range(heads)):
        keys, values = k[b, head].contiguous().t(), v[b, head].contiguous()
        for start in range(0, L, block):
            at = b, head, slice(start, start + block)
            scores = q[at] @ keys  # (block, L)
            grid = scores.view(-1, height, width)
            grid += from_rows[at].unsqueeze(-1)
            grid += from_columns[at].unsqueeze(-2)
            out[at] = scores.softmax(-1) @ values
    return out


def _relative(positions: Tensor, side: int) -> Tensor:
    """Look up a (2 * trained - 1, C) table of distances for a side: (side, side, C)."""
    distances = 2 * side - 1
    if len(positions) != distances:
        table = positions.float().t().unsqueeze(0)
        resized = F.interpolate(table, size=distances, mode="linear")
        positions = resized.squeeze(0).t().to(positions.dtype)
    index = torch.arange(side, device=positions.device)
    return positions[index[:, None] - index[None, :] + side - 1]
