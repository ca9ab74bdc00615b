"""Many images, each with prompts of its own: one call of the encoder, one of the decoder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from nexus.core.errors import InputError, UnknownModelError
from nexus.core.steps import ProgressLike
from nexus.core.types import ImageEmbedding, Masks, PromptLike
from nexus.core.words import counted
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.calls import image_list, listed_prompts, read_rows
from nexus.models.cv import load_model
from nexus.models.promptable import PromptableModel
from nexus.models.registry import MODELS


def predict_images(
    model: PromptableModel,
    images: Iterable[ImageLike],
    prompts: Iterable[Iterable[PromptLike]],
    *,
    multimask_output: bool | None = None,
    image_embeddings: Sequence[ImageEmbedding] | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: ProgressLike = False,
) -> list[list[Masks]]:
    """Answer the prompts of several images.

    All images are encoded together; prompts alike in kind and length are decoded together,
    whichever image they belong to, as many at a time as suit the device. Results equal those of
    `predict_batch` on each image.

    Args:
        model: Any model of Nexus.
        images: As in `encode_images`. With `image_embeddings`, not looked at; pass [] or the same.
        prompts: For each image its prompts, each for an object of its own; as in `predict_batch`.
            Lists, generators or arrays.
        multimask_output: As in `predict`, for each prompt.
        image_embeddings: The images encoded already.
        max_pixels: Refuse larger images before decoding them; None accepts any.
        progress: Show images encoded and then prompts answered on stderr; or a function, called
            with what is done and what there is in all, images and prompts together.

    Returns:
        For each image, its `Masks` in the order of its prompts.

    Raises:
        InputError: Not as many lists of prompts as images.
        ImageError: An image cannot be read or used.
        PromptError: A prompt is malformed or does not fit its image; both are named.
        EmbeddingError: An embedding was made by another model.
    """
    shown = image_list(images) if image_embeddings is None else []
    count = len(shown) if image_embeddings is None else len(image_embeddings)
    hint = "for one prompt an image: prompts=[[prompt], [prompt], ...]"
    given = [
        listed_prompts(each, f" for image {image}", hint) for image, each in enumerate(prompts)
    ]
    if count != len(given):
        raise InputError(
            f"expected prompts for each of {counted(count, 'image')}, got "
            f"{counted(len(given), 'list')}"
        )
    rows = read_rows(given, multimask_output)
    encoding, answering = _in_turn(
        progress, 0 if image_embeddings is not None else count, len(rows)
    )
    if image_embeddings is None:
        image_embeddings = model.encode_images(shown, max_pixels=max_pixels, progress=encoding)
    else:
        for embedding in image_embeddings:
            model.check_embedding(embedding)
    answers: list[list[Masks]] = [[] for _ in given]
    results = model.predict_rows(image_embeddings, rows, answering)
    for row, masks in zip(rows, results, strict=True):
        answers[row.image].append(masks)
    return answers


def _in_turn(
    progress: ProgressLike, images: int, prompts: int
) -> tuple[ProgressLike, ProgressLike]:
    """Return the `progress` of two calls one after the other that are told as one."""
    if isinstance(progress, bool) or not callable(progress):
        return progress, progress
    total = images + prompts
    return (
        lambda done, _: progress(done, total),
        lambda done, _: progress(images + done, total),
    )


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
        self,
        images: Iterable[ImageLike],
        prompts: Iterable[PromptLike],
        *,
        progress: ProgressLike = False,
    ) -> list[dict[str, Any]]:
        """Segment one object in each image; images as in `encode_images`.

        There is one prompt for each: a mapping with `point` (one x, y or several) and `label`, or
        `box`, or any other spelling of a prompt. `progress` as in `predict_images`.

        Returns:
            For each image `masks` (M, H, W) bool, `scores` (M,) and `best_mask` (H, W). Points
            give three masks, a box gives one.

        Raises:
            InputError: Not as many prompts as images.
            ImageError: An image cannot be read or used.
            PromptError: A prompt is malformed or does not fit its image.
        """
        shown, given = image_list(images), list(prompts)
        if len(shown) != len(given):
            raise InputError(
                f"expected one prompt for each of {counted(len(shown), 'image')}, got {len(given)}"
            )
        rows = [
            dataclasses.replace(row, multimask_output=row.prompt.box is None)
            for row in read_rows([[prompt] for prompt in given], None)
        ]
        encoding, answering = _in_turn(progress, len(shown), len(rows))
        embeddings = self.model.encode_images(shown, progress=encoding)
        answers = self.model.predict_rows(embeddings, rows, answering)
        return [
            {"masks": masks.masks, "scores": masks.iou_scores, "best_mask": masks.best}
            for masks in answers
        ]
