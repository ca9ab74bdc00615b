"""One decoder call for prompts on images of their own, with gradients; what training calls."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nexus.core.errors import InputError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.calls import Row, kind_of
from nexus.models.promptable import PromptableModel


def decode_alike(
    model: PromptableModel,
    embeddings: Sequence[ImageEmbedding],
    prompts: Sequence[Prompt],
    multimask_output: bool,
) -> tuple[Tensor, Tensor]:
    """Decode prompt i on embedding i, all in one call of the decoder, with gradients.

    Logits are those of `model(images, prompts)`. That the embeddings are this model's is not
    checked here, since it costs a look at all weights of the encoder: see
    `PromptableModel.check_embedding`.

    Args:
        model: The model.
        embeddings: P encoded images on grids of one size; they may repeat. Where all are one and
            the same object, its features are not copied.
        prompts: P prompts in original pixels, alike in number of points, in having a box and in
            having a mask.
        multimask_output: The M candidates, or one mask.

    Returns:
        Logits (P, M, h, w) of the whole model frame and scores (P, M), float32.

    Raises:
        InputError: No prompt, another number of embeddings, grids of several sizes, or prompts
            that are not alike.
        PromptError: A prompt does not fit its image.
    """
    if not prompts or len(embeddings) != len(prompts):
        raise InputError(
            "expected one embedding for each of 1 or more prompts, "
            f"got {len(embeddings)} and {len(prompts)}"
        )
    images = list(dict.fromkeys(embeddings))
    rows = [
        Row(images.index(embedding), prompt, multimask_output, f"prompt {index}")
        for index, (embedding, prompt) in enumerate(zip(embeddings, prompts, strict=True))
    ]
    kinds = {kind_of(row, images[row.image], model.policy) for row in rows}
    if len(kinds) > 1:
        found = "; ".join(
            f"{tokens} tokens {'with' if has_mask else 'without'} a mask on {gh} x {gw} of {side}"
            for (_, gh, gw), side, tokens, has_mask, _ in sorted(kinds)
        )
        raise InputError(
            f"expected prompts alike in tokens, mask and feature grid, got {found}",
            hint="group them first; model(images, prompts) does so by itself",
        )
    ((_, candidates),) = model.scored(images, rows, at_once=len(rows))
    return candidates.draw_all().float(), candidates.iou_scores.float()
