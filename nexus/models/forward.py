"""Masks to learn from: `model(images, prompts)`, and prompts on images of their own in one call.

Numbers are those `predict` gives as `low_res_logits`, with two differences that only prediction
makes: logits are not clipped to the policy's `logit_limit`, since a clipped one learns nothing; and
in training mode SAM 2's single mask stays itself, where prediction may put a candidate in its
place. Gradients reach every weight, not the pixels of an image: preprocessing has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexus.core.errors import InputError, PromptError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.data.images.loading import ImageLike
from nexus.models.frame import FramePrompts, prompts_to_frame, token_count
from nexus.models.promptable import PromptableModel, is_ambiguous, to_device


def forward_images(
    model: PromptableModel,
    images: Sequence[ImageLike] | Sequence[ImageEmbedding] | Tensor,
    prompts: Any,
    multimask_output: bool | None = None,
    return_scores: bool = False,
) -> Any:
    """Draw masks to learn from: float logits at decoder resolution, with gradients.

    Args:
        model: The model, of which this is `forward`.
        images: B images, whatever `encode_image` takes; or a (B, 3, H, W) tensor, uint8 or float
            in [0, 1]; or embeddings made before, which spares a frozen encoder. An embedding of
            an encoder that has learnt since is refused.
        prompts: For each image a list of prompts, each for an object of its own, in original
            pixels, of any kind and mixed; or one bare prompt.
        multimask_output: The M candidates, or one mask. As all prompts of a call share M, None
            means the candidates if every prompt is a single foreground point alone, else one.
        return_scores: Also return the predicted IoU.

    Returns:
        For each image (P, M, h, w) float32 logits of the whole model frame, padding included:
        stacked to (B, P, M, h, w) where all have one shape, else a list. With `return_scores`
        those, then scores (B, P, M) or a list of (P, M).

    Raises:
        InputError: No image, no prompt, or not a list of prompts for each image.
        PromptError: A prompt is malformed or does not fit its image; both are named.
        EmbeddingError: An embedding was made by another model.
    """
    if multimask_output not in (None, True, False):
        raise InputError(
            f"expected multimask_output to be True, False or None, got {multimask_output!r}"
        )
    given = _images(images)
    parsed = _prompts(prompts, len(given))
    embeddings = _embeddings(model, given)
    rows = [
        _Row(embeddings[image], prompt, f"image {image}, prompt {index}")
        for image, ones in enumerate(parsed)
        for index, prompt in enumerate(ones)
    ]
    several = multimask_output
    if several is None:
        several = all(is_ambiguous(row.prompt, model.policy) for row in rows)
    drawn, start = _draw(model, rows, several), 0
    logits, scores = [], []
    for embedding, ones in zip(embeddings, parsed, strict=True):
        mine = drawn[start : start + len(ones)]
        start += len(ones)
        empty = _empty(drawn[0][0], embedding)
        logits.append(torch.stack([one for one, _ in mine]) if mine else empty)
        scores.append(torch.stack([one for _, one in mine]) if mine else empty[..., 0, 0])
    return (_stacked(logits), _stacked(scores)) if return_scores else _stacked(logits)


def decode_alike(
    model: PromptableModel,
    embeddings: Sequence[ImageEmbedding],
    prompts: Sequence[Prompt],
    several: bool,
) -> tuple[Tensor, Tensor]:
    """Decode prompt i on embedding i, all in one call of the decoder, with gradients.

    That the embeddings are this model's is not checked here, since it costs a look at all weights
    of the encoder: see `PromptableModel.check_embedding`.

    Args:
        model: The model.
        embeddings: P encoded images on grids of one size; they may repeat. Where all are one and
            the same object, its features are not copied.
        prompts: P prompts in original pixels, alike in number of points, in having a box and in
            having a mask.
        several: The M candidates, or one mask.

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
    named = zip(embeddings, prompts, range(len(prompts)), strict=True)
    rows = [_Row(embedding, prompt, f"prompt {index}") for embedding, prompt, index in named]
    kinds = {_kind(model, row) for row in rows}
    if len(kinds) > 1:
        found = "; ".join(
            f"{tokens} tokens {'with' if mask else 'without'} a mask on {gh} x {gw} of {side}"
            for (_, gh, gw), side, tokens, mask in sorted(kinds)
        )
        raise InputError(
            f"expected prompts alike in tokens, mask and feature grid, got {found}",
            hint="group them first; model(images, prompts) does so by itself",
        )
    return _decode(model, rows, several)


@dataclass(frozen=True, eq=False)
class _Row:
    """A prompt, the image it is for, and what messages call it."""

    embedding: ImageEmbedding
    prompt: Prompt
    name: str


def _decode(model: PromptableModel, rows: list[_Row], several: bool) -> tuple[Tensor, Tensor]:
    """Decode rows of one kind; results as in `decode_alike`."""
    first = rows[0].embedding
    shared = all(row.embedding is first for row in rows)
    images = [first] if shared else [row.embedding for row in rows]
    layers = zip(*((one.features, *one.high_res_features) for one in images), strict=True)
    maps = [(m[0].unsqueeze(0) if shared else torch.stack(m)).to(model.device) for m in layers]
    gh, gw = first.features.shape[-2:]
    frame = to_device(_frame(model, rows, (4 * gh, 4 * gw)), model.device)
    image_pe = model.image_positions((gh, gw))
    logits, scores = model.decode_maps(maps, first.geometry.input_side, image_pe, frame, several)
    return logits.float(), scores.float()


def _frame(model: PromptableModel, rows: list[_Row], mask_size_hw: tuple[int, int]) -> FramePrompts:
    """Bring prompts, each of an image of its own, to the model frame."""
    parts = []
    for row in rows:
        geometry = row.embedding.geometry
        try:
            row.prompt.check_within(geometry.original_size_hw)
            part = prompts_to_frame([row.prompt], geometry, mask_size_hw, model.policy)
        except PromptError as error:
            raise PromptError(f"{row.name}: {error.message}", error.hint) from error
        parts.append(part)
    masks = [part.mask_input for part in parts if part.mask_input is not None]
    return FramePrompts(
        torch.cat([part.point_coords for part in parts]),
        torch.cat([part.point_labels for part in parts]),
        torch.cat(masks) if masks else None,
    )


_Kind = tuple[tuple[int, ...], int, int, bool]


def _kind(model: PromptableModel, row: _Row) -> _Kind:
    """Return what prompts of one decoder call have in common."""
    return (
        tuple(row.embedding.features.shape),
        row.embedding.geometry.input_side,
        token_count(row.prompt, model.policy),
        row.prompt.mask is not None,
    )


def _draw(model: PromptableModel, rows: list[_Row], several: bool) -> list[tuple[Tensor, Tensor]]:
    """Decode rows of any kinds: (M, h, w) and (M,) of each."""
    groups: dict[_Kind, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(_kind(model, row), []).append(index)
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for members in groups.values():
        logits, scores = _decode(model, [rows[index] for index in members], several)
        drawn.update(zip(members, zip(logits, scores, strict=True), strict=True))
    return [drawn[index] for index in range(len(rows))]


def _images(images: Any) -> list[Any]:
    """Return the images of a call one by one."""
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim != 4:
            raise InputError(
                "expected a batch of images, (B, 3, H, W) or (B, H, W, 3), "
                f"got shape {tuple(images.shape)}",
                hint="for one image pass [image]",
            )
        return list(images)
    if isinstance(images, str | bytes) or not isinstance(images, Sequence):
        raise InputError(
            f"expected a list of images, got {type(images).__name__}",
            hint="for one image pass [image]",
        )
    return list(images)


def _embeddings(model: PromptableModel, images: list[Any]) -> list[ImageEmbedding]:
    """Encode images with gradients, or check the embeddings a caller already has."""
    ready = [image for image in images if isinstance(image, ImageEmbedding)]
    if not ready:
        return model.frontend.embed(model.image_encoder, images)
    if len(ready) < len(images):
        raise InputError(
            f"expected images or embeddings, got {len(ready)} embeddings among {len(images)}"
        )
    # What is checked is who made them, which most of a batch have in common.
    for embedding in {(one.model, one.fingerprint): one for one in ready}.values():
        model.check_embedding(embedding)
    return ready


def _prompts(prompts: Any, images: int) -> list[list[Prompt]]:
    """Read the prompts of each image."""
    if isinstance(prompts, Tensor):
        prompts = prompts.detach().cpu().numpy()
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence | np.ndarray):
        raise InputError(
            f"expected a list of prompts for each image, got {type(prompts).__name__}",
            hint="for one image pass [[prompt, prompt, ...]]",
        )
    if not images or len(prompts) != images:
        raise InputError(
            f"expected prompts for each of 1 or more images, got {len(prompts)} for {images}"
        )
    parsed = []
    for image, ones in enumerate(prompts):
        mine = []
        for index, prompt in enumerate(_listed(ones)):
            try:
                mine.append(Prompt.of(prompt))
            except PromptError as error:
                where = f"image {image}, prompt {index}"
                raise PromptError(f"{where}: {error.message}", error.hint) from error
        parsed.append(mine)
    if not any(parsed):
        raise InputError("expected at least one prompt, got none")
    return parsed


def _listed(prompts: Any) -> Sequence[Any]:
    """Return the prompts of one image; a bare one as a list of it."""
    if isinstance(prompts, Tensor):
        prompts = prompts.detach().cpu().numpy()
    if isinstance(prompts, Prompt | Mapping):
        return [prompts]
    if isinstance(prompts, np.ndarray):
        return [prompts] if prompts.ndim == 1 and prompts.size else list(prompts)
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        raise InputError(f"expected a list of prompts, got {type(prompts).__name__}")
    # Numbers alone are one point or one box.
    bare = bool(prompts) and all(isinstance(one, int | float | np.number) for one in prompts)
    return [prompts] if bare else prompts


def _empty(like: Tensor, embedding: ImageEmbedding) -> Tensor:
    """Return the logits of an image without prompts, (0, M, h, w)."""
    gh, gw = embedding.features.shape[-2:]
    return like.new_zeros(0, len(like), 4 * gh, 4 * gw)


def _stacked(maps: list[Tensor]) -> Tensor | list[Tensor]:
    """Stack what is of one shape."""
    return torch.stack(maps) if len({one.shape for one in maps}) == 1 else maps
