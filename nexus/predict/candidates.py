"""Decode prompts on one or more encoded images up to their scores; draw only the masks wanted.

The score of a mask needs the tokens of the decoder alone, and drawing it costs more than scoring
it. What is thrown away by its score is therefore never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nexus.core.errors import InputError
from nexus.core.types import ImageEmbedding
from nexus.models.cv.sam import SAM
from nexus.models.cv.sam2 import SAM2
from nexus.models.frame import FramePrompts
from nexus.models.promptable import PromptableModel


@dataclass(frozen=True)
class Candidates:
    """The mask candidates of P prompts, scored and not yet drawn.

    Attributes:
        iou_scores: (P, M) float32.
        drawing: What `draw` calls.
    """

    iou_scores: Tensor
    drawing: Callable[[Tensor, Tensor], Tensor]

    @torch.no_grad()
    def draw(self, prompts: Tensor, candidates: Tensor) -> Tensor:
        """Draw the chosen candidates alone.

        Args:
            prompts: (n,) the prompt of each.
            candidates: (n,) which of its M candidates.

        Returns:
            (n, 4 gh, 4 gw) float32 logits in the model frame.
        """
        return self.drawing(prompts, candidates).float()


class EncodedImages:
    """Encoded images of one frame size on the device of their model, ready for prompts.

    Args:
        model: The model that encoded them.
        embeddings: One or more.

    Raises:
        InputError: No embedding, embeddings of different feature grids, or a model of a kind that
            has no decoder known here.
        EmbeddingError: An embedding was made by another model.
    """

    def __init__(self, model: PromptableModel, embeddings: Sequence[ImageEmbedding]) -> None:
        if not isinstance(model, SAM | SAM2):
            raise InputError(f"expected a SAM, MedSAM, SAM2 or EdgeTAM, got {type(model).__name__}")
        for embedding in embeddings:
            model.check_embedding(embedding)
        if len({embedding.features.shape for embedding in embeddings}) != 1:
            raise InputError(
                "expected encoded images of one input side, got feature maps of shapes "
                f"{sorted({tuple(e.features.shape) for e in embeddings})}",
                hint="encode all images with the same input_side",
            )
        dtype = next(model.parameters()).dtype
        self.model = model
        self.embeddings = [embedding.to(model.device) for embedding in embeddings]
        self.features = torch.stack([e.features for e in self.embeddings]).to(dtype)
        gh, gw = self.features.shape[-2:]
        self.mask_size_hw = (4 * gh, 4 * gw)
        with torch.no_grad():
            self.image_pe = model.image_positions((gh, gw))
            if isinstance(model, SAM2):
                fine, middle = (
                    torch.stack(maps).to(dtype)
                    for maps in zip(*(e.high_res_features for e in self.embeddings), strict=True)
                )
                self.fine_pixels = model.sam_mask_decoder.arrange(fine, middle)
                self.features = self.features + model.no_mem_embed.view(1, -1, 1, 1)

    @torch.no_grad()
    def decode(
        self, prompts: FramePrompts, several: bool, images: Sequence[int] | None = None
    ) -> Candidates:
        """Score the candidates of P prompts.

        Args:
            prompts: In the model frame.
            several: Three candidates for each prompt, or one mask.
            images: Which image each prompt is for; None if there is one image.
        """
        device = self.features.device
        encoder = (
            self.model.sam_prompt_encoder
            if isinstance(self.model, SAM2)
            else self.model.prompt_encoder
        )
        mask = prompts.mask_input
        sparse, dense = encoder(
            prompts.point_coords.to(device),
            prompts.point_labels.to(device),
            None if mask is None else mask.to(device),
            self.embeddings[0].geometry.input_side,
        )
        rows = torch.zeros(1, dtype=torch.long)
        if images is not None and len(set(images)) > 1:
            rows = torch.tensor(images, device=device)
        elif images is not None:
            rows = torch.tensor(images[:1], device=device)
        features = self.features if len(self.features) == len(rows) == 1 else self.features[rows]
        if isinstance(self.model, SAM2):
            return self._of_sam2(self.model, rows, features, (sparse, dense), several)
        decoder = self.model.mask_decoder
        decoded = decoder.decode_tokens(features, self.image_pe, sparse, dense)
        first = 1 if several else 0
        return Candidates(
            decoded.iou_scores[:, slice(1, None) if several else slice(0, 1)].float(),
            lambda p, m: decoder.draw_some(decoded, p, m + first),
        )

    def _of_sam2(
        self,
        model: SAM2,
        rows: Tensor,
        features: Tensor,
        embedded: tuple[Tensor, Tensor],
        several: bool,
    ) -> Candidates:
        decoder = model.sam_mask_decoder
        coarse, finest = self.fine_pixels
        fine = (coarse[rows], finest[rows]) if len(coarse) > 1 else (coarse, finest)
        if not several and model.config.stability is not None:
            # Which mask is given hangs on how stable the single mask is: it must be drawn.
            whole = decoder.decode_objects(
                features, self.image_pe, embedded, fine, False, model.config.stability
            )
            logits = whole.low_res_logits
            return Candidates(whole.iou_scores.float(), lambda p, m: logits[p, m])
        decoded = decoder.decode_tokens(features, self.image_pe, *embedded)
        first = 1 if several else 0
        return Candidates(
            decoded.iou_scores[:, slice(1, None) if several else slice(0, 1)].float(),
            lambda p, m: decoder.draw_some_with(decoded, fine, p, m + first),
        )
