"""SAM 2's mask decoder: SAM's, with finer image maps and a token for whether the object is there.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), appendix D.1. Parameter
names are those of the official checkpoints. Finer maps enter between the upscaling steps, where
they are added in the order of the sub-pixels that `nexus.nn.mask_decoder` keeps; they are brought
into that order once (`arrange`) and then serve any number of prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.layers import MLP, LayerNorm2d
from nexus.nn.mask_decoder import DecodedTokens, MaskDecoder, to_map

_CPU_CHUNK = 4  # prompts whose L x C maps are in the cache together

FinePixels = tuple[Tensor, Tensor]
"""Finer maps in sub-pixel order: (1 or P, L, 4 * C / 4) and (1 or P, 4 L, 4 * C / 8)."""


@dataclass(frozen=True)
class DecodedObjects:
    """What the decoder gives for P prompts.

    Attributes:
        low_res_logits: (P, M, 4 gh, 4 gw).
        iou_scores: (P, M) in [0, 1].
        tokens: (P, M, C) the output token of each mask, for object pointers; (P, 1, C) of the
            single-mask token where one mask was asked for.
        object_score_logits: (P, 1) above 0 where the prompted object is in the image.
    """

    low_res_logits: Tensor
    iou_scores: Tensor
    tokens: Tensor
    object_score_logits: Tensor


class ObjectMaskDecoder(MaskDecoder):
    """Decode the prompts of P objects to masks, scores, tokens and object scores."""

    def __init__(
        self,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 2048,
        candidates: int = 3,
        iou_hidden: int = 256,
    ) -> None:
        super().__init__(dim, heads, hidden, candidates, iou_hidden, mlp="layers")
        self.iou_prediction_head.sigmoid_output = True
        self.obj_score_token = nn.Embedding(1, dim)
        self.conv_s0 = nn.Conv2d(dim, dim // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, kernel_size=1)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)

    def extra_tokens(self) -> Tensor:
        """Return the (1, C) object score token."""
        return self.obj_score_token.weight

    def arrange(self, fine: Tensor, middle: Tensor) -> FinePixels:
        """Bring finer maps, already through `conv_s0` and `conv_s1`, into sub-pixel order.

        The biases of the upscaling steps are the same for every prompt and join them here.

        Args:
            fine: (B, C / 8, 4 gh, 4 gw).
            middle: (B, C / 4, 2 gh, 2 gw).
        """
        first = cast(nn.ConvTranspose2d, self.output_upscaling[0])
        second = cast(nn.ConvTranspose2d, self.output_upscaling[3])
        B, c, height, width = middle.shape
        coarse = middle.view(B, c, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1)
        coarse = coarse.reshape(B, -1, 4, c)  # (B, L, y1 x1, C / 4)
        B, c, height, width = fine.shape
        finest = fine.view(B, c, height // 4, 2, 2, width // 4, 2, 2)
        finest = finest.permute(0, 2, 5, 3, 6, 4, 7, 1)  # (B, gh, gw, y1, x1, y2, x2, C / 8)
        finest = finest.reshape(B, -1, 4, c)  # (B, 4 L, y2 x2, C / 8)
        if first.bias is not None and second.bias is not None:
            coarse, finest = coarse + first.bias, finest + second.bias
        return coarse.flatten(2), finest.flatten(2)

    def decode_objects(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        prompts: tuple[Tensor, Tensor],
        fine_pixels: FinePixels,
        multimask_output: bool,
        stability: tuple[float, float] | None = None,
    ) -> DecodedObjects:
        """Decode.

        Args:
            image_embeddings: (P, C, gh, gw), or (1, C, gh, gw) for features all prompts share.
            image_pe: (1, C, gh, gw) position code.
            prompts: Sparse (P, N, C) and dense (P or 1, C, gh or 1, gw or 1) embeddings.
            fine_pixels: What `arrange` gave, of one image or of each.
            multimask_output: The M candidates, or one mask.
            stability: A margin in logits and a threshold. Where one mask is asked for and the
                area above the margin is a smaller share than the threshold of the area above the
                negative margin, the best candidate stands in. None never does.
        """
        P = len(prompts[0])
        chunk = _CPU_CHUNK if image_pe.device.type == "cpu" else max(1, P)
        parts = []
        for start in range(0, max(1, P), chunk):
            part = slice(start, start + chunk)
            image, sparse, dense, coarse, finest = (
                x if len(x) == 1 else x[part] for x in (image_embeddings, *prompts, *fine_pixels)
            )
            parts.append(
                self._decode_part(
                    self.decode_tokens(image, image_pe, sparse, dense),
                    (coarse, finest),
                    multimask_output,
                    stability,
                )
            )
        if len(parts) == 1:
            return parts[0]
        return DecodedObjects(
            torch.cat([part.low_res_logits for part in parts]),
            torch.cat([part.iou_scores for part in parts]),
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.object_score_logits for part in parts]),
        )

    def _decode_part(
        self,
        decoded: DecodedTokens,
        fine_pixels: FinePixels,
        multimask_output: bool,
        stability: tuple[float, float] | None,
    ) -> DecodedObjects:
        """Draw the masks of as many prompts as fit the cache."""
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        drawn = slice(None) if stability and not multimask_output else wanted
        pixels = self._upscale_with(decoded.image, fine_pixels)  # (P, 16 L, C / 8)
        masks = self.mask_weights(decoded, drawn) @ pixels.mT  # (P, M, 16 L)
        scores = decoded.iou_scores[:, drawn]
        if stability and not multimask_output:
            masks, scores = _stable(masks, scores, *stability)
        return DecodedObjects(
            to_map(masks, decoded.grid_hw),
            scores,
            decoded.mask_tokens[:, wanted],
            self.pred_obj_score_head(decoded.extra_tokens[:, 0]),
        )

    def draw(self, decoded: DecodedTokens, wanted: slice) -> Tensor:
        """Refuse to draw without the finer maps."""
        raise TypeError("SAM 2's masks are drawn with finer maps: use decode_objects")

    def draw_some(self, decoded: DecodedTokens, prompts: Tensor, masks: Tensor) -> Tensor:
        """Refuse to draw without the finer maps."""
        raise TypeError("SAM 2's masks are drawn with finer maps: use draw_some_with")

    def draw_some_with(
        self, decoded: DecodedTokens, fine_pixels: FinePixels, prompts: Tensor, masks: Tensor
    ) -> Tensor:
        """Draw chosen masks alone, (n, 4 gh, 4 gw), as `MaskDecoder.draw_some` does.

        Args:
            decoded: What `decode_tokens` gave for P prompts.
            fine_pixels: What `arrange` gave, of one image or of each of the P.
            prompts: (n,) the prompt of each chosen mask.
            masks: (n,) which of its 1 + M masks, the single mask first.
        """
        rows, place = torch.unique(prompts, return_inverse=True)
        part = decoded.of(rows)
        coarse, finest = (x if len(x) == 1 else x[rows] for x in fine_pixels)
        return self.pick(part, self._upscale_with(part.image, (coarse, finest)), place, masks)

    def _upscale_with(self, image: Tensor, fine_pixels: FinePixels) -> Tensor:
        """Upscale (P, L, C) pixels by 4, adding the finer maps: (P, 16 L, C / 8)."""
        first = cast(nn.ConvTranspose2d, self.output_upscaling[0])
        norm = cast(LayerNorm2d, self.output_upscaling[1])
        second = cast(nn.ConvTranspose2d, self.output_upscaling[3])
        coarse, finest = fine_pixels
        P, L, _ = image.shape
        x = _sub_pixels_onto(coarse, first, image).view(P, 4 * L, -1)
        x = F.gelu(norm.over_last(x))
        return F.gelu(_sub_pixels_onto(finest, second, x).view(P, 16 * L, -1))


def _sub_pixels_onto(base: Tensor, convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Add a 2 x 2 transposed convolution of stride 2 of (P, L, C) to (1 or P, L, 4 * out)."""
    P, L, C = x.shape
    matrix = convolution.weight.permute(0, 2, 3, 1).reshape(C, -1)  # (C, 2 * 2 * out)
    return torch.baddbmm(base.expand(P, -1, -1), x, matrix.expand(P, -1, -1))


def _stable(
    masks: Tensor, scores: Tensor, margin: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """Take the single mask where it is stable and the best candidate elsewhere.

    Args:
        masks: (P, 1 + M, L) logits, the single mask first.
        scores: (P, 1 + M).
        margin: Logits.
        threshold: Least share of the area above -margin that must be above margin.

    Returns:
        Masks (P, 1, L) and scores (P, 1).
    """
    single = masks[:, 0]
    surely = (single > margin).sum(-1)
    perhaps = (single > -margin).sum(-1)
    is_stable = (surely >= threshold * perhaps) | (perhaps == 0)
    best = scores[:, 1:].argmax(-1) + 1
    index = torch.where(is_stable, torch.zeros_like(best), best)
    each = torch.arange(len(masks), device=masks.device)
    return masks[each, index].unsqueeze(1), scores[each, index].unsqueeze(1)
