"""What goes into a model's decoder and what comes out: images made ready, candidates with scores.

A model scores first and draws what is wanted (`PromptableModel.score`): the score of a mask needs
the tokens of the decoder alone, and drawing it costs more than scoring it. What a caller throws
away by its score is never drawn. Nothing here opens or forbids gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from nexus.core.types import Geometry
from nexus.nn.mask_decoder import DecodedTokens, MaskDecoder, asked_for


@dataclass(frozen=True)
class Candidates:
    """The mask candidates of P prompts, scored and not yet drawn.

    Attributes:
        iou_scores: (P, M).
        draw_all: Draws all of them: logits (P, M, 4 gh, 4 gw) in the model frame.
        draw: Draws chosen ones alone: given the prompt of each, (n,), and which of its M candidates
            it is, (n,), returns logits (n, 4 gh, 4 gw).
    """

    iou_scores: Tensor
    draw_all: Callable[[], Tensor]
    draw: Callable[[Tensor, Tensor], Tensor]

    @classmethod
    def of_tokens(
        cls, decoder: MaskDecoder, decoded: DecodedTokens, multimask_output: bool
    ) -> Candidates:
        """Return candidates that a decoder of tokens draws: all M of them, or the single mask."""
        wanted = asked_for(multimask_output)
        return cls(
            decoded.iou_scores[:, wanted],
            lambda: decoder.draw(decoded, wanted),
            lambda prompts, masks: decoder.draw_some(decoded, prompts, masks + wanted.start),
        )

    @classmethod
    def of_logits(cls, logits: Tensor, iou_scores: Tensor) -> Candidates:
        """Return candidates whose (P, M, 4 gh, 4 gw) logits had to be drawn for their scores."""
        return cls(iou_scores, lambda: logits, lambda prompts, masks: logits[prompts, masks])


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Encoded images of one frame size, made ready for the decoder of their model.

    Attributes:
        maps: What the model's `_prepare_maps` gave, each (B, ...), or (1, ...) for all images.
        geometries: How the B originals lie in the model frame.
        mask_size_hw: (4 gh, 4 gw), the size of mask prompts and of logits.
    """

    maps: tuple[Tensor, ...]
    geometries: tuple[Geometry, ...]
    mask_size_hw: tuple[int, int]

    @property
    def input_side(self) -> int:
        """Side of the model frame, pixels."""
        return self.geometries[0].input_side

    def of(self, images: Sequence[int]) -> EncodedImages:
        """Return what prompts on these images are decoded on; one they share is not copied."""
        first = images[0]
        chosen = [first] if len(set(images)) == 1 else list(images)
        if chosen == list(range(len(self.geometries))):
            return self
        index = slice(first, first + 1) if len(chosen) == 1 else chosen
        return dataclasses.replace(
            self,
            maps=tuple(each if len(each) == 1 else each[index] for each in self.maps),
            geometries=tuple(self.geometries[image] for image in chosen),
        )
