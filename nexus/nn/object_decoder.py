"""SAM 2's mask decoder: SAM's, with finer image maps and a token for whether the object is there.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), appendix D.1. Parameter
names are those of the official checkpoints. Finer maps enter between the upscaling steps, where
they are added in the order of the sub-pixels that `nexus.nn.mask_decoder` keeps; they are brought
into that order once (`arrange`) and then serve any number of prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nexus.nn.batching import prompts_at_once
from nexus.nn.layers import MLP
from nexus.nn.mask_decoder import DecodedTokens, MaskDecoder, asked_for, to_map

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

    def __init__(self, dim: int = 256, **sizes: int) -> None:
        super().__init__(dim, **sizes, mlp="layers")
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

        They are (B, C / 8, 4 gh, 4 gw) and (B, C / 4, 2 gh, 2 gw).
        """
        first, _, _, second, _ = cast(Any, self.output_upscaling)
        B, c, height, width = middle.shape
        coarse = middle.view(B, c, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1)
        coarse = coarse.reshape(B, -1, 4, c)  # (B, L, y1 x1, C / 4)
        B, c, height, width = fine.shape
        finest = fine.view(B, c, height // 4, 2, 2, width // 4, 2, 2)
        finest = finest.permute(0, 2, 5, 3, 6, 4, 7, 1)  # (B, gh, gw, y1, x1, y2, x2, C / 8)
        finest = finest.reshape(B, -1, 4, c)  # (B, 4 L, y2 x2, C / 8)
        return (coarse + first.bias).flatten(2), (finest + second.bias).flatten(2)

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
        at_once = prompts_at_once(image_pe.device)
        parts = []
        for start in range(0, max(1, P), at_once):
            part = slice(start, start + at_once)
            image, sparse, dense, *fine = (
                x if len(x) == 1 else x[part] for x in (image_embeddings, *prompts, *fine_pixels)
            )
            decoded = self.decode_tokens(image, image_pe, sparse, dense, tuple(fine))
            wanted = asked_for(multimask_output)
            if stability is None or multimask_output:
                logits, scores = self.draw(decoded, wanted), decoded.iou_scores[:, wanted]
            else:
                logits, scores = self.draw_stable(decoded, *stability)
            tokens = decoded.mask_tokens[:, wanted]
            present = self.pred_obj_score_head(decoded.extra_tokens[:, 0])
            parts.append((logits, scores, tokens, present))
        if len(parts) == 1:
            return DecodedObjects(*parts[0])
        return DecodedObjects(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def draw_stable(
        self, decoded: DecodedTokens, margin: float, threshold: float
    ) -> tuple[Tensor, Tensor]:
        """Draw the single mask where it is stable, and the best candidate elsewhere.

        Returns logits (P, 1, 4 gh, 4 gw) and scores (P, 1). For margin and threshold see
        `decode_objects`.
        """
        masks, scores = self.drawn_pixels(decoded, slice(None)), decoded.iou_scores
        single = masks[:, 0]
        surely = (single > margin).sum(-1)
        perhaps = (single > -margin).sum(-1)
        is_stable = (surely >= threshold * perhaps) | (perhaps == 0)
        index = torch.where(is_stable, 0, scores[:, 1:].argmax(-1) + 1)
        each = torch.arange(len(masks), device=masks.device)
        return to_map(masks[each, index].unsqueeze(1), decoded.grid_hw), scores[each, index, None]
