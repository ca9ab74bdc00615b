"""SAM's prompt encoder: points, boxes and masks to embeddings.

Follows "Segment Anything" (arXiv 2304.02643), section 3 and appendix A; the position code is that
of "Fourier Features Let Networks Learn High Frequency Functions" (arXiv 2006.10739). Parameter
names are those of the official checkpoints.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from nexus.nn.layers import LayerNorm2d

PADDING, BACKGROUND, FOREGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3


class PromptEncoder(nn.Module):
    """Encode the prompts of P objects; coordinates are XY in the model frame, pixels."""

    def __init__(self, dim: int = 256, mask_channels: int = 16) -> None:
        super().__init__()
        self.pe_layer = RandomFourierPositions(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def forward(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None, input_side: int
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            point_coords: (P, N, 2) XY in the model frame; box corners are points too. N may be 0.
            point_labels: (P, N) 1 foreground, 0 background, -1 padding, 2 and 3 box corners.
            mask_input: (P, 1, 4 gh, 4 gw) mask logits, or None for none.
            input_side: Side of the model frame, pixels.

        Returns:
            sparse_prompt_embeddings (P, N, C), and dense_prompt_embeddings (P, C, gh, gw), or
            (1, C, 1, 1) for prompts without a mask.
        """
        sparse = self.embed_points(point_coords, point_labels, input_side)
        if mask_input is None:
            return sparse, self.no_mask_embed.weight.view(1, -1, 1, 1)
        return sparse, self.mask_downscaling(mask_input.to(sparse.dtype))

    def embed_points(self, coords: Tensor, labels: Tensor, input_side: int) -> Tensor:
        """Embed (P, N, 2) points with (P, N) labels to (P, N, C)."""
        # A coordinate names the corner of its pixel; the code is taken at the centre.
        code = self.pe_layer((coords + 0.5) / input_side)  # (P, N, C)
        embeddings = (self.not_a_point_embed, *cast(Any, self.point_embeddings))
        kinds = torch.cat([embedding.weight for embedding in embeddings])
        kind = kinds[labels + 1]  # (P, N, C)
        return kind + code * (labels != PADDING).unsqueeze(-1)

    def dense_positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """Return the position code of every cell of a feature grid, (1, C, gh, gw)."""
        gh, gw = grid_hw
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        y = (torch.arange(gh, device=matrix.device, dtype=torch.float32) + 0.5) / gh
        x = (torch.arange(gw, device=matrix.device, dtype=torch.float32) + 0.5) / gw
        xy = torch.stack([x.expand(gh, gw), y[:, None].expand(gh, gw)], -1)  # (gh, gw, 2)
        return self.pe_layer(xy).permute(2, 0, 1).unsqueeze(0)


class RandomFourierPositions(nn.Module):
    """Sine and cosine of random projections of a position."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode (..., 2) positions in [0, 1] to (..., 2 * features)."""
        matrix = self.positional_encoding_gaussian_matrix
        # In float32 whatever the weights are in: in bfloat16 neighbouring cells would coincide.
        angle = 2 * math.pi * ((2 * xy.float() - 1) @ matrix.float())
        return torch.cat([angle.sin(), angle.cos()], dim=-1).to(matrix.dtype)
