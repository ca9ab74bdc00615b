"""The mask decoders of SAM and SAM 2: features and prompt embeddings to mask logits and scores.

Follows "Segment Anything" (arXiv 2304.02643), appendix A, and "SAM 2: Segment Anything in Images
and Videos" (arXiv 2408.00714), appendix D.1. Parameter names are those of the official
checkpoints. The transposed convolutions have stride = kernel, so that they are matrix
products on pixels x channels; pixels keep the order of the products until the M masks are put
together at the end (see `to_map`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.layers import MLP, LayerNorm2d
from nexus.nn.two_way import TwoWayTransformer


@dataclass(frozen=True)
class DecodedTokens:
    """What the transformer gives for P prompts, before any mask is drawn.

    Attributes:
        iou_scores: (P, 1 + M) predicted IoU: the single mask first, then the M candidates.
        mask_tokens: (P, 1 + M, C).
        image: (P, L, C) the image as each prompt sees it.
        grid_hw: The feature grid, L = gh * gw.
        extra_tokens: (P, n, C) what stands before the score token; n = 0 in SAM.
    """

    iou_scores: Tensor
    mask_tokens: Tensor
    image: Tensor
    grid_hw: tuple[int, int]
    extra_tokens: Tensor

    def of(self, prompts: Tensor) -> DecodedTokens:
        """Return what belongs to some prompts, (n,) indices without repetition, ascending."""
        if len(prompts) == len(self.image):
            return self
        return DecodedTokens(
            self.iou_scores[prompts],
            self.mask_tokens[prompts],
            self.image[prompts],
            self.grid_hw,
            self.extra_tokens[prompts],
        )


class MaskDecoder(nn.Module):
    """Decode the prompts of P objects to mask logits (P, M, 4 gh, 4 gw) and scores (P, M)."""

    def __init__(
        self,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 2048,
        candidates: int = 3,
        iou_hidden: int = 256,
        mlp: str = "block",
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(2, dim, heads, hidden, mlp)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(1 + candidates, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, dim // 8, 3) for _ in range(1 + candidates)
        )
        self.iou_prediction_head = MLP(dim, iou_hidden, 1 + candidates, 3)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            image_embeddings: (P, C, gh, gw), or (1, C, gh, gw) for one image all prompts share.
            image_pe: (1, C, gh, gw) position code.
            sparse_prompt_embeddings: (P, N, C).
            dense_prompt_embeddings: (P, C, gh, gw), or broadcastable to it.
            multimask_output: The M candidates, or the single mask.

        Returns:
            low_res_logits (P, M, 4 gh, 4 gw) and iou_scores (P, M), M = 1 for the single mask.
        """
        decoded = self.decode_tokens(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        )
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return self.draw(decoded, wanted), decoded.iou_scores[:, wanted]

    def decode_tokens(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> DecodedTokens:
        """Run the transformer and the score head; arguments as in `forward`."""
        P = len(sparse)
        gh, gw = image_embeddings.shape[-2:]
        extra = self.extra_tokens()
        n = len(extra)
        own = torch.cat([extra, self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(P, -1, -1), sparse], dim=1)  # (P, t, C)
        image = (image_embeddings + dense).flatten(2).transpose(1, 2)  # (1 or P, L, C)
        positions = image_pe[0].flatten(1).t()  # (L, C)
        tokens, image = self.transformer(tokens, image.contiguous(), positions.contiguous())
        return DecodedTokens(
            iou_scores=self.iou_prediction_head(tokens[:, n]),
            mask_tokens=tokens[:, n + 1 : len(own)],
            image=image,
            grid_hw=(gh, gw),
            extra_tokens=tokens[:, :n],
        )

    def extra_tokens(self) -> Tensor:
        """Return the (n, C) tokens that stand before the score token; none in SAM."""
        return self.iou_token.weight[:0]

    def draw(self, decoded: DecodedTokens, wanted: slice) -> Tensor:
        """Draw the wanted masks: (P, M, 4 gh, 4 gw) logits."""
        pixels = self._upscale(decoded.image)  # (P, 16 L, C / 8)
        return to_map(self.mask_weights(decoded, wanted) @ pixels.mT, decoded.grid_hw)

    def draw_some(self, decoded: DecodedTokens, prompts: Tensor, masks: Tensor) -> Tensor:
        """Draw chosen masks alone; prompts of which none is chosen are not upscaled.

        Args:
            decoded: What `decode_tokens` gave.
            prompts: (n,) the prompt of each chosen mask.
            masks: (n,) which of its 1 + M masks, the single mask first.

        Returns:
            (n, 4 gh, 4 gw) logits.
        """
        rows, place = torch.unique(prompts, return_inverse=True)
        part = decoded.of(rows)
        return self.pick(part, self._upscale(part.image), place, masks)

    def pick(
        self, decoded: DecodedTokens, pixels: Tensor, prompts: Tensor, masks: Tensor
    ) -> Tensor:
        """Draw chosen masks on upscaled pixels (P, 16 L, C / 8), as in `draw_some`."""
        first = int(masks.min())
        weights = self.mask_weights(decoded, slice(first, int(masks.max()) + 1))
        drawn = (weights @ pixels.mT)[prompts, masks - first]  # (n, 16 L)
        return to_map(drawn.unsqueeze(0), decoded.grid_hw)[0]

    def mask_weights(self, decoded: DecodedTokens, wanted: slice) -> Tensor:
        """Return what each wanted mask multiplies the upscaled pixels with, (P, M, C / 8)."""
        mlps = list(self.output_hypernetworks_mlps)[wanted]
        tokens = decoded.mask_tokens[:, wanted]
        return torch.stack([mlp(tokens[:, m]) for m, mlp in enumerate(mlps)], dim=1)

    def _upscale(self, image: Tensor) -> Tensor:
        """Upscale (P, L, C) pixels by 4: (P, L * 4 * 4, C / 8), sub-pixels innermost."""
        first = cast(nn.ConvTranspose2d, self.output_upscaling[0])
        norm = cast(LayerNorm2d, self.output_upscaling[1])
        second = cast(nn.ConvTranspose2d, self.output_upscaling[3])
        x = F.gelu(norm.over_last(_sub_pixels(first, image)))
        return F.gelu(_sub_pixels(second, x))


def _sub_pixels(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Apply a 2 x 2 transposed convolution of stride 2 to (P, L, C): (P, 4 L, out)."""
    P, L, C = x.shape
    matrix = convolution.weight.permute(0, 2, 3, 1).reshape(C, -1)  # (C, 2 * 2 * out)
    if convolution.bias is None:
        return (x.reshape(P * L, C) @ matrix).view(P, 4 * L, -1)
    return torch.addmm(convolution.bias.repeat(4), x.reshape(P * L, C), matrix).view(P, 4 * L, -1)


def to_map(masks: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Order (P, M, gh * gw * 2 * 2 * 2 * 2) sub-pixels as a (P, M, 4 gh, 4 gw) map."""
    P, M, _ = masks.shape
    gh, gw = grid_hw
    masks = masks.view(P, M, gh, gw, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return masks.reshape(P, M, 4 * gh, 4 * gw)  # rows gh, y1, y2; columns gw, x1, x2
