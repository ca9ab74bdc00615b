"""EdgeTAM's spatial perceiver: the memory of a frame in a fixed, small number of tokens.

Follows "EdgeTAM: On-Device Track Anything Model" (arXiv 2501.07256), section 3.2. Global latents
look at the whole memory; each 2D latent looks at one window of it and keeps its place in the image.
Parameter names are those of the official checkpoint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nexus.core.errors import InputError
from nexus.nn.memory_attention import attend
from nexus.nn.position import sine_positions
from nexus.nn.window import partition_windows


class SpatialPerceiver(nn.Module):
    """Compress (K, C, gh, gw) memories to (K, latents + latents_2d, C), global tokens first."""

    def __init__(
        self, dim: int = 64, latents: int = 256, latents_2d: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim))
        self.latents_2d = nn.Parameter(torch.randn(latents_2d, dim))
        self.layers = nn.ModuleList(PerceiverLayer(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.side = math.isqrt(latents_2d)

    def forward(self, memory: Tensor) -> Tensor:
        """Compress.

        Raises:
            InputError: The memory's grid cannot be cut into one window for each 2D latent.
        """
        K, C, gh, gw = memory.shape
        if gh % self.side or gw % self.side:
            raise InputError(
                f"expected a feature grid whose sides are multiples of {self.side}, "
                f"got {gh} x {gw}",
                hint=f"use an input side that is a multiple of {16 * self.side}, such as 1024",
            )
        x = memory.permute(0, 2, 3, 1)  # (K, gh, gw, C)
        positions = sine_positions((gh, gw), C, memory.device, memory.dtype).flatten(1).t()
        overall = self.latents.expand(K, -1, -1)
        pixels = x.flatten(1, 2)
        windows = partition_windows(x, gh // self.side, x.new_zeros(C))
        local = self.latents_2d.unsqueeze(1).repeat(K, 1, 1)  # (K * latents_2d, 1, C)
        for layer in self.layers:
            overall = layer(overall, pixels, positions)
            local = layer(local, windows, None)
        return self.norm(torch.cat([overall, local.view(K, -1, C)], dim=1))

    def positions(self, dtype: torch.dtype) -> Tensor:
        """Return the (latents + latents_2d, C) position code of the tokens; global ones have 0."""
        C, device = self.latents.shape[1], self.latents.device
        placed = sine_positions((self.side, self.side), C, device, dtype).flatten(1).t()
        return torch.cat([placed.new_zeros(len(self.latents), C), placed])


class PerceiverLayer(nn.Module):
    """Latents attend to the memory, then to each other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn = CrossAttention(dim)
        self.ff = _feed_forward(dim)
        self.self_attn = SelfAttention(dim)
        self.self_ff = _feed_forward(dim)

    def forward(self, latents: Tensor, memory: Tensor, positions: Tensor | None) -> Tensor:
        latents = latents + self.attn(latents, memory, positions)
        latents = latents + self.ff(latents)
        latents = latents + self.self_attn(latents)
        return latents + self.self_ff(latents)


class CrossAttention(nn.Module):
    """Attention of one head, from latents to a memory; positions join keys and values."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_x = nn.LayerNorm(dim)
        self.norm_latents = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, latents: Tensor, memory: Tensor, positions: Tensor | None) -> Tensor:
        q = self.to_q(self.norm_latents(latents))
        k, v = self.to_kv(self.norm_x(memory)).chunk(2, dim=-1)
        if positions is not None:
            k, v = k + positions, v + positions
        return self.to_out(attend(q, k, v))


class SelfAttention(nn.Module):
    """Attention of one head among latents."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        k, v = self.to_kv(x).chunk(2, dim=-1)
        return self.to_out(attend(self.to_q(x), k, v))


def _feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, 4 * dim, bias=False),
        nn.GELU(),
        nn.Linear(4 * dim, dim, bias=False),
    )
