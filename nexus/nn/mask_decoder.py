"""SAM's mask decoder: features and prompt embeddings to mask logits and scores.

Follows "Segment Anything" (arXiv 2304.02643), appendix A. Parameter names are those of the official
checkpoints. The transposed convolutions have stride = kernel, so that they are matrix products on
pixels x channels; pixels keep the order of the products until the M masks are put together at the
end (see `to_map`).

Decoding has two halves, since a score needs the tokens alone and drawing a mask costs more than
scoring it: `decode_tokens` scores, `draw` and `draw_some` draw. `nexus.nn.object_decoder` makes
SAM 2's decoder of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

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
        fine_pixels: The two finer maps that masks are drawn with, (1 or P, ...), the coarser first,
            which carry the biases of the upscaling steps; none in SAM.
    """

    iou_scores: Tensor
    mask_tokens: Tensor
    image: Tensor
    grid_hw: tuple[int, int]
    extra_tokens: Tensor
    fine_pixels: tuple[Tensor, ...] = ()

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
            tuple(pixels if len(pixels) == 1 else pixels[prompts] for pixels in self.fine_pixels),
        )


def asked_for(multimask_output: bool) -> slice:
    """Return which of the 1 + M masks a caller means: the M candidates, or the single mask."""
    return slice(1, None) if multimask_output else slice(0, 1)


class MaskDecoder(nn.Module):
    """Decode the prompts of P objects to mask logits (P, M, 4 gh, 4 gw) and scores (P, M)."""

    def __init__(
        self,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 2048,
        iou_hidden: int = 256,
        mlp: str = "block",
    ) -> None:
        super().__init__()
        masks = 1 + 3  # the single mask and the candidates
        self.transformer = TwoWayTransformer(2, dim, heads, hidden, mlp)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        mlps = (MLP(dim, dim, dim // 8, 3) for _ in range(masks))
        self.output_hypernetworks_mlps = nn.ModuleList(mlps)
        self.iou_prediction_head = MLP(dim, iou_hidden, masks, 3)

    def extra_tokens(self) -> Tensor:
        """Return the (n, C) tokens that stand before the score token; none in SAM."""
        return self.iou_token.weight[:0]

    def decode_tokens(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        fine_pixels: tuple[Tensor, ...] = (),
    ) -> DecodedTokens:
        """Run the transformer and the score head.

        Args:
            image_embeddings: (P, C, gh, gw), or (1, C, gh, gw) for one image all prompts share.
            image_pe: (1, C, gh, gw) position code.
            sparse_prompt_embeddings: (P, N, C).
            dense_prompt_embeddings: (P, C, gh, gw), or broadcastable to it.
            fine_pixels: Finer maps that masks will be drawn with, of a decoder that takes them.
        """
        P = len(sparse_prompt_embeddings)
        gh, gw = image_embeddings.shape[-2:]
        extra = self.extra_tokens()
        n = len(extra)
        own = torch.cat([extra, self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(P, -1, -1), sparse_prompt_embeddings], dim=1)  # (P, t, C)
        image = (image_embeddings + dense_prompt_embeddings).flatten(2)  # (1 or P, C, L)
        image = image.transpose(1, 2).contiguous()  # (1 or P, L, C)
        positions = image_pe[0].flatten(1).t()  # (L, C)
        tokens, image = self.transformer(tokens, image, positions.contiguous())
        scores, mask_tokens = self.iou_prediction_head(tokens[:, n]), tokens[:, n + 1 : len(own)]
        return DecodedTokens(scores, mask_tokens, image, (gh, gw), tokens[:, :n], fine_pixels)

    def draw(self, decoded: DecodedTokens, wanted: slice) -> Tensor:
        """Draw the wanted ones of the 1 + M masks: (P, M, 4 gh, 4 gw) logits."""
        return to_map(self.drawn_pixels(decoded, wanted), decoded.grid_hw)

    def draw_some(self, decoded: DecodedTokens, prompts: Tensor, masks: Tensor) -> Tensor:
        """Draw n chosen masks alone: (n, 4 gh, 4 gw) logits.

        Given are (n,) the prompt of each, and (n,) which of its 1 + M masks it is, the single mask
        first. Prompts of which none is chosen are not upscaled.
        """
        rows, place = torch.unique(prompts, return_inverse=True)
        first = int(masks.min())
        part = self.drawn_pixels(decoded.of(rows), slice(first, int(masks.max()) + 1))
        return to_map(part[place, masks - first].unsqueeze(0), decoded.grid_hw)[0]

    def drawn_pixels(self, decoded: DecodedTokens, wanted: slice) -> Tensor:
        """Draw the wanted masks in the order of the sub-pixels: (P, M, 16 L) logits."""
        mlps = list(self.output_hypernetworks_mlps)[wanted]
        tokens = decoded.mask_tokens[:, wanted]
        weights = torch.stack([mlp(tokens[:, m]) for m, mlp in enumerate(mlps)], dim=1)
        return weights @ self.upscale(decoded).mT  # (P, M, C / 8) @ (P, C / 8, 16 L)

    def upscale(self, decoded: DecodedTokens) -> Tensor:
        """Upscale the image of each prompt by 4: (P, L * 4 * 4, C / 8), sub-pixels innermost."""
        first, norm, _, second, _ = cast(Any, self.output_upscaling)
        coarse, finest = decoded.fine_pixels or (None, None)
        x = F.gelu(norm.over_last(_sub_pixels(first, decoded.image, coarse)))
        return F.gelu(_sub_pixels(second, x, finest))


def _sub_pixels(convolution: Any, x: Tensor, base: Tensor | None) -> Tensor:
    """Apply a 2 x 2 transposed convolution of stride 2 to (P, L, C): (P, 4 L, out).

    What it is added to, (1 or P, L, 4 * out), takes the place of its bias.
    """
    P, L, C = x.shape
    matrix = convolution.weight.permute(0, 2, 3, 1).reshape(C, -1)  # (C, 2 * 2 * out)
    if base is None:
        added = torch.addmm(convolution.bias.repeat(4), x.reshape(P * L, C), matrix)
    else:
        added = torch.baddbmm(base.expand(P, -1, -1), x, matrix.expand(P, -1, -1))
    return added.view(P, 4 * L, -1)


def to_map(masks: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Order (P, M, gh * gw * 2 * 2 * 2 * 2) sub-pixels as a (P, M, 4 gh, 4 gw) map."""
    P, M, _ = masks.shape
    gh, gw = grid_hw
    masks = masks.view(P, M, gh, gw, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return masks.reshape(P, M, 4 * gh, 4 * gw)  # rows gh, y1, y2; columns gw, x1, x2
