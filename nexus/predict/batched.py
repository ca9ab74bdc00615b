"""Many images, each with prompts of its own: one call of the encoder, one of the decoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from nexus.core.errors import InputError, PromptError, UnknownModelError
from nexus.core.types import ImageEmbedding, Masks, Prompt, PromptLike
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.cv import load_model
from nexus.models.frame import FramePrompts, masks_to_original, prompts_to_frame, token_count
from nexus.models.promptable import PromptableModel, is_ambiguous
from nexus.models.registry import MODELS
from nexus.predict.candidates import EncodedImages

# Prompts decoded together: on a CPU as many as keep their L x C maps in the cache.
_CPU_CHUNK, _ACCELERATOR_CHUNK = 4, 64

_Job = tuple[int, int, Prompt]  # image, place among its prompts, prompt


def predict_images(
    model: PromptableModel,
    images: Sequence[ImageLike],
    prompts: Sequence[Sequence[PromptLike]],
    *,
    multimask_output: bool | None = None,
    image_embeddings: Sequence[ImageEmbedding] | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> list[list[Masks]]:
    """Answer the prompts of several images.

    All images are encoded together; prompts alike in kind and length are decoded together,
    whichever image they belong to. On a CPU the decoder takes a few at a time, as many as its
    cache holds. Results equal those of `predict_batch` on each image.

    Args:
        model: A SAM, MedSAM, SAM 2 or EdgeTAM.
        images: As in `encode_images`. With `image_embeddings`, not looked at; pass [] or the same.
        prompts: For each image a sequence of prompts, each for an object of its own; as in
            `predict`.
        multimask_output: As in `predict`, for each prompt.
        image_embeddings: The images encoded already.
        max_pixels: Refuse larger images before decoding them; None accepts any.

    Returns:
        For each image, its `Masks` in the order of its prompts.

    Raises:
        InputError: Not as many lists of prompts as images.
        ImageError: An image cannot be read or used.
        PromptError: A prompt is malformed or does not fit its image; both are named.
        EmbeddingError: An embedding was made by another model.
    """
    count = len(images) if image_embeddings is None else len(image_embeddings)
    if count != len(prompts):
        raise InputError(f"expected prompts for each of {count} images, got {len(prompts)} lists")
    parsed = [_parsed(index, each) for index, each in enumerate(prompts)]
    if count == 0:
        return []
    if image_embeddings is None:
        image_embeddings = model.encode_images(images, max_pixels=max_pixels)
    encoded = EncodedImages(model, image_embeddings)
    groups: dict[tuple[int, bool, bool], list[_Job]] = {}
    for index, each in enumerate(parsed):
        for place, prompt in enumerate(each):
            _check_within(index, place, prompt, image_embeddings[index])
            several = (
                is_ambiguous(prompt, model.policy) if multimask_output is None else multimask_output
            )
            key = (token_count(prompt, model.policy), prompt.mask is not None, bool(several))
            groups.setdefault(key, []).append((index, place, prompt))
    results: list[list[Any]] = [[None] * len(each) for each in parsed]
    chunk = _CPU_CHUNK if model.device.type == "cpu" else _ACCELERATOR_CHUNK
    for (_, _, several), jobs in groups.items():
        for start in range(0, len(jobs), chunk):
            part = jobs[start : start + chunk]
            for (index, place, _), masks in zip(part, _answer(encoded, part, several), strict=True):
                results[index][place] = masks
    return results


class BatchedSAM:
    """Segment many images, one prompt each.

    Args:
        checkpoint: File with the weights; None takes the published ones.
        model_type: 'vit_h', 'vit_l', 'vit_b', or any name of `nexus models`.
        device: None takes the best device there is.

    Raises:
        UnknownModelError: No such model type.
        WeightsError: The weights cannot be fetched or read.

    Examples:
        results = BatchedSAM("sam_vit_h_4b8939.pth").process_batch(images, prompts)
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str] | None,
        model_type: str = "vit_h",
        device: str | torch.device | None = None,
    ) -> None:
        short = {name.removeprefix("sam_"): name for name in MODELS if name.startswith("sam_vit_")}
        name = short.get(model_type, model_type)
        if name not in MODELS:
            raise UnknownModelError(
                f"expected model_type to be one of {', '.join([*short, *MODELS])}, "
                f"got {model_type!r}"
            )
        self.model: PromptableModel = load_model(name, checkpoint, device=device)

    def process_batch(
        self, images: Sequence[ImageLike], prompts: Sequence[PromptLike]
    ) -> list[dict[str, Any]]:
        """Segment one object in each image.

        Args:
            images: As in `encode_images`.
            prompts: One for each image; a mapping with `point` (one x, y or several) and `label`,
                or `box`, or any other spelling of a prompt.

        Returns:
            For each image `masks` (M, H, W) bool, `scores` (M,) and `best_mask` (H, W). Points
            give three masks, a box gives one.

        Raises:
            InputError: Not as many prompts as images.
            ImageError: An image cannot be read or used.
            PromptError: A prompt is malformed or does not fit its image.
        """
        if len(images) != len(prompts):
            raise InputError(
                f"expected one prompt for each of {len(images)} images, got {len(prompts)}"
            )
        parsed = [_parsed(index, [prompt])[0] for index, prompt in enumerate(prompts)]
        embeddings = self.model.encode_images(images)
        results: list[dict[str, Any]] = [{} for _ in images]
        for several in (True, False):
            chosen = [i for i, prompt in enumerate(parsed) if (prompt.box is None) == several]
            answers = predict_images(
                self.model,
                [],
                [[parsed[index]] for index in chosen],
                multimask_output=several,
                image_embeddings=[embeddings[index] for index in chosen],
            )
            for index, (masks,) in zip(chosen, answers, strict=True):
                results[index] = {
                    "masks": masks.masks,
                    "scores": masks.iou_scores,
                    "best_mask": masks.best,
                }
        return results


def _answer(encoded: EncodedImages, jobs: Sequence[_Job], several: bool) -> list[Masks]:
    """Answer prompts that can share a batch."""
    policy = encoded.model.policy
    frames = [
        prompts_to_frame([prompt], encoded.embeddings[i].geometry, encoded.mask_size_hw, policy)
        for i, _, prompt in jobs
    ]
    given = [frame.mask_input for frame in frames if frame.mask_input is not None]
    together = FramePrompts(
        torch.cat([frame.point_coords for frame in frames]),
        torch.cat([frame.point_labels for frame in frames]),
        torch.cat(given) if given else None,
    )
    candidates = encoded.decode(together, several, [index for index, _, _ in jobs])
    scores = candidates.iou_scores
    rows, columns = torch.ones_like(scores, dtype=torch.bool).nonzero(as_tuple=True)
    drawn = candidates.draw(rows, columns)
    logits = drawn.view(*scores.shape, *drawn.shape[1:])  # (P, M, h, w)
    limit = policy.logit_limit
    shown = logits if limit is None else logits.clamp(-limit, limit)
    return [
        Masks(
            masks_to_original(logits[row], encoded.embeddings[index].geometry, policy),
            scores[row].cpu().numpy(),
            shown[row].cpu().numpy().copy(),
            encoded.model.notes_on(prompt),
        )
        for row, (index, _, prompt) in enumerate(jobs)
    ]


def _parsed(index: int, prompts: Sequence[PromptLike]) -> list[Prompt]:
    if isinstance(prompts, Prompt | Mapping) or not isinstance(prompts, Sequence | np.ndarray):
        raise PromptError(
            f"expected a sequence of prompts for image {index}, got {type(prompts).__name__}",
            hint="for one prompt an image: prompts=[[prompt], [prompt], ...]",
        )
    parsed = []
    for place, prompt in enumerate(prompts):
        try:
            parsed.append(Prompt.of(_spec_spelling(prompt)))
        except PromptError as error:
            raise PromptError(
                f"image {index}, prompt {place}: {error.message}", error.hint
            ) from error
    return parsed


def _spec_spelling(prompt: PromptLike) -> PromptLike:
    """Read `{'point': (N, 2), 'label': (N,)}` as the plural spelling of the same."""
    if isinstance(prompt, Mapping) and np.ndim(prompt.get("point", 0)) == 2:
        plural = {"point": "points", "label": "labels"}
        return {plural.get(name, name): value for name, value in prompt.items()}
    return prompt


def _check_within(index: int, place: int, prompt: Prompt, embedding: ImageEmbedding) -> None:
    try:
        prompt.check_within(embedding.original_size_hw)
    except PromptError as error:
        raise PromptError(f"image {index}, prompt {place}: {error.message}", error.hint) from error
