"""Many images, each with prompts of its own: one call of the encoder, one of the decoder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch

from nexus.core.errors import InputError, UnknownModelError
from nexus.core.types import ImageEmbedding, Masks, PromptLike
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.calls import check_prompts, read_rows
from nexus.models.cv import load_model
from nexus.models.promptable import PromptableModel
from nexus.models.registry import MODELS


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
    whichever image they belong to, as many at a time as suit the device. Results equal those of
    `predict_batch` on each image.

    Args:
        model: Any model of Nexus.
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
    for image, each in enumerate(prompts):
        hint = "for one prompt an image: prompts=[[prompt], [prompt], ...]"
        check_prompts(each, f" for image {image}", hint)
    rows = read_rows(prompts, multimask_output)
    if image_embeddings is None:
        image_embeddings = model.encode_images(images, max_pixels=max_pixels)
    else:
        for embedding in image_embeddings:
            model.check_embedding(embedding)
    answers: list[list[Masks]] = [[] for _ in prompts]
    for row, masks in zip(rows, model.predict_rows(image_embeddings, rows), strict=True):
        answers[row.image].append(masks)
    return answers


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
        """Segment one object in each image; images as in `encode_images`.

        There is one prompt for each: a mapping with `point` (one x, y or several) and `label`, or
        `box`, or any other spelling of a prompt.

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
        rows = [
            dataclasses.replace(row, multimask_output=row.prompt.box is None)
            for row in read_rows([[prompt] for prompt in prompts], None)
        ]
        answers = self.model.predict_rows(self.model.encode_images(images), rows)
        return [
            {"masks": masks.masks, "scores": masks.iou_scores, "best_mask": masks.best}
            for masks in answers
        ]
