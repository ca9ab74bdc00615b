"""Scores before masks, on one image or several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import InputError, NexusError
from nexus.core.types import Prompt
from nexus.models.decoding import Candidates
from nexus.models.frame import prompts_to_frame
from nexus.models.frontend import Frontend
from nexus.models.promptable import PromptableModel
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (50, 70, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("family", [tiny_sam, tiny_sam2])
@pytest.mark.parametrize("multimask_output", [True, False])
@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 2, 0], [1, 1, 1]])
def test_equals_each_image_alone(family: Any, multimask_output: bool, rows: list[int]) -> None:
    """Prompts on several images get the scores and logits of each image's own call."""
    model = family()
    embeddings = model.encode_images(_images(3))
    prompts = [Prompt(points=[[10 + 9 * i, 20]]) for i in range(3)]
    which = torch.tensor([0, 2, 2]) if multimask_output else torch.tensor([0, 2])
    columns = torch.tensor([2, 0, 1]) if multimask_output else torch.tensor([0, 0])
    with torch.no_grad():
        images = model.prepare(embeddings)
        together = prompts_to_frame(
            prompts, embeddings[0].geometry, images.mask_size_hw, model.policy
        )
        candidates = model.score(images.of(rows), together, multimask_output)
        drawn, every = candidates.draw(which, columns), candidates.draw_all()
        expected = [
            model([embeddings[row]], [[prompt]], multimask_output, return_scores=True)
            for row, prompt in zip(rows, prompts, strict=True)
        ]

    for index, (logits, scores) in enumerate(expected):
        torch.testing.assert_close(candidates.iou_scores[index], scores[0, 0], rtol=0, atol=1e-5)
        torch.testing.assert_close(every[index], logits[0, 0], rtol=0, atol=1e-4)
    for logits, prompt, column in zip(drawn, which, columns, strict=True):
        torch.testing.assert_close(logits, expected[prompt][0][0, 0, column], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", [tiny_sam, tiny_sam2])
def test_gradients_are_neither_opened_nor_forbidden(family: Any) -> None:
    """Scores and masks, some or all, carry a gradient, or none where the caller forbids it."""
    model = family()
    embedding = model.encode_image(_images(1)[0])
    prompts = prompts_to_frame([Prompt([[9, 9]])], embedding.geometry, (16, 16), model.policy)
    some = torch.tensor([0])
    for learns in (True, False):
        with torch.set_grad_enabled(learns):
            candidates = model.score(model.prepare([embedding]), prompts, True)
            given = candidates.iou_scores, candidates.draw_all(), candidates.draw(some, some)

        assert [each.requires_grad for each in given] == [learns] * 3


def test_an_image_that_all_share_is_not_copied() -> None:
    """Prompts on one of several images, and prompts on each in turn, take the maps as they are."""
    model = tiny_sam()
    images = model.prepare(model.encode_images(_images(3)))
    second = images.of([1, 1, 1, 1])

    assert images.of([0, 1, 2]) is images
    assert second.maps[0].shape[0] == 1
    assert second.maps[0].data_ptr() == images.maps[0][1].data_ptr()
    assert [len(each) for each in images.of([2, 0]).maps] == [2, 1]


def test_images_of_different_sides_do_not_mix() -> None:
    """The message says to encode with one input side."""
    model = tiny_sam()
    first, second = _images(2)
    embeddings = [model.encode_image(first), model.encode_image(second, input_side=128)]
    with pytest.raises(InputError, match="one input side(.|\n)*same input_side"):
        model.prepare(embeddings)


def test_drawn_candidates_are_candidates() -> None:
    """A model that must draw to score hands the logits on."""
    logits, scores = torch.arange(24.0).view(2, 3, 2, 2), torch.rand(2, 3)
    candidates = Candidates.of_logits(logits, scores)

    assert candidates.iou_scores is scores
    assert candidates.draw_all() is logits
    assert torch.equal(
        candidates.draw(torch.tensor([1, 0]), torch.tensor([2, 0])), logits[[1, 0], [2, 0]]
    )


def test_a_model_without_a_decoder_is_refused() -> None:
    """The message names the class."""
    sam = tiny_sam()
    bare = PromptableModel(sam.image_encoder, Frontend("bare", sam.policy))
    with pytest.raises(NexusError, match="a model that decodes prompts, got PromptableModel"):
        bare.predict(_images(1)[0], (9, 9))
