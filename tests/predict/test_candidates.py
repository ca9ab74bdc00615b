"""Scores before masks, on one image or several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import EmbeddingError, InputError
from nexus.core.types import Prompt
from nexus.models.frame import prompts_to_frame
from nexus.models.promptable import Frontend, PromptableModel
from nexus.predict.candidates import EncodedImages
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (50, 70, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("family", [tiny_sam, tiny_sam2])
@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 2, 0], [1, 1, 1]])
def test_equals_decode(family: Any, several: bool, rows: list[int]) -> None:
    """Prompts on several images get the scores and logits of each image's own decode call."""
    model = family()
    embeddings = model.encode_images(_images(3))
    images = EncodedImages(model, embeddings)
    prompts = [Prompt(points=[[10 + 9 * i, 20]]) for i in range(3)]
    frame = [
        prompts_to_frame([p], embeddings[0].geometry, images.mask_size_hw, model.policy)
        for p in prompts
    ]
    together = prompts_to_frame(prompts, embeddings[0].geometry, images.mask_size_hw, model.policy)
    candidates = images.decode(together, several, rows)
    which = torch.tensor([0, 2, 2]) if several else torch.tensor([0, 2])
    columns = torch.tensor([2, 0, 1]) if several else torch.tensor([0, 0])
    drawn = candidates.draw(which, columns)

    expected = [
        model.decode(embeddings[row], images.image_pe, one, several)
        for row, one in zip(rows, frame, strict=True)
    ]
    for index, (_, scores) in enumerate(expected):
        torch.testing.assert_close(candidates.iou_scores[index], scores[0], rtol=0, atol=1e-5)
    for logits, prompt, column in zip(drawn, which, columns, strict=True):
        torch.testing.assert_close(logits, expected[prompt][0][0, column], rtol=0, atol=1e-4)


def test_images_of_different_sides_do_not_mix() -> None:
    """The message says to encode with one input side."""
    model = tiny_sam()
    one, two = _images(2)
    embeddings = [model.encode_image(one), model.encode_image(two, input_side=128)]
    with pytest.raises(InputError, match="one input side(.|\n)*same input_side"):
        EncodedImages(model, embeddings)


def test_another_models_embedding_is_refused() -> None:
    """As `predict` does."""
    with pytest.raises(EmbeddingError, match="other encoder weights"):
        EncodedImages(tiny_sam(0), [tiny_sam(1).encode_image(_images(1)[0])])


def test_a_model_without_a_known_decoder_is_refused() -> None:
    """The message names the families."""
    sam = tiny_sam()
    bare = PromptableModel(sam.image_encoder, Frontend("bare", sam.policy))
    with pytest.raises(InputError, match="SAM, MedSAM, SAM2 or EdgeTAM, got PromptableModel"):
        EncodedImages(bare, [])
