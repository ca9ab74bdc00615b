"""Many images with prompts of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nexus.models.cv.sam as sam_module
from nexus.core.errors import EmbeddingError, InputError, PromptError, UnknownModelError
from nexus.core.types import Prompt
from nexus.predict.batched import BatchedSAM, predict_images
from tests.models.tiny import TINY, tiny_sam
from tests.models.tiny_sam2 import tiny_sam2

_RNG = np.random.default_rng(0)
_IMAGES = [
    _RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for height, width in ((50, 70), (90, 40), (64, 64))
]
_LOGITS = _RNG.normal(size=(16, 16)).astype(np.float32)
_PROMPTS: list[list[Any]] = [
    [(10, 20), (5, 5, 40, 40), Prompt([[20, 20], [30, 30]], [1, 0])],
    [],
    [(30, 30), Prompt([[8, 8]], mask=_LOGITS), {"box": [4, 4, 60, 60]}, (1, 2)],
]


@pytest.mark.parametrize("family", [tiny_sam, tiny_sam2])
@pytest.mark.parametrize("multimask_output", [None, True, False])
def test_equals_predict_batch_on_each_image(family: Any, multimask_output: bool | None) -> None:
    """Mixed prompts, none for one image: masks, scores and logits in the callers' order."""
    model = family()
    together = predict_images(model, _IMAGES, _PROMPTS, multimask_output=multimask_output)

    assert [len(each) for each in together] == [3, 0, 4]
    for image, prompts, ours in zip(_IMAGES, _PROMPTS, together, strict=True):
        expected = model.predict_batch(model.encode_image(image), prompts, multimask_output)
        for masks, one in zip(ours, expected, strict=True):
            assert masks.masks.shape == one.masks.shape
            assert (masks.masks != one.masks).mean() < 2e-3
            np.testing.assert_allclose(masks.iou_scores, one.iou_scores, atol=1e-4)
            np.testing.assert_allclose(masks.low_res_logits, one.low_res_logits, atol=1e-3)


def test_the_images_may_be_encoded_already() -> None:
    """Embeddings in place of images give the same, if they are the model's; no image, nothing."""
    model = tiny_sam()
    embeddings = model.encode_images(_IMAGES)
    given = predict_images(model, [], [[(9, 9)]] * 3, image_embeddings=embeddings)
    encoded = predict_images(model, _IMAGES, [[(9, 9)]] * 3)

    assert all((a[0].masks == b[0].masks).all() for a, b in zip(given, encoded, strict=True))
    assert predict_images(model, [], []) == []
    with pytest.raises(EmbeddingError, match="other encoder weights"):
        predict_images(tiny_sam(1), [], [[(9, 9)]] * 3, image_embeddings=embeddings)


def test_encoder_and_decoder_are_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images with one point each: one encoder call, one decoder call."""
    model = tiny_sam()
    calls: list[int] = []
    for module in (model.mask_decoder, model.image_encoder):
        name = "decode_tokens" if module is model.mask_decoder else "encode"
        plain = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, plain=plain: calls.append(len(a[0])) or plain(*a)
        )
    predict_images(model, _IMAGES, [[(9, 9)]] * 3)

    assert calls == [3, 3]


def test_wrong_prompts_say_which() -> None:
    """Image and prompt are named; a bare prompt in place of a list is recognised."""
    model = tiny_sam()
    with pytest.raises(InputError, match="each of 3 images, got 1 list"):
        predict_images(model, _IMAGES, [[(1, 1)]])
    with pytest.raises(PromptError, match="image 2, prompt 1: expected points inside"):
        predict_images(model, _IMAGES, [[], [], [(1, 1), (999, 1)]])
    with pytest.raises(PromptError, match="image 1, prompt 0: expected a Prompt"):
        predict_images(model, _IMAGES, [[], [(1, 1, 1)], []])
    with pytest.raises(PromptError, match=r"image 0, got Prompt\nhint: for one prompt an image"):
        predict_images(model, _IMAGES, [Prompt(box=(1, 1, 9, 9)), [], []])  # type: ignore[list-item]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny file that stands for SAM's."""
    for name in ("sam_vit_h", "lite_medsam"):
        monkeypatch.setitem(sam_module.VARIANTS, name, TINY)
    torch.save(tiny_sam().state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def test_a_batch_gives_dicts(checkpoint: Path) -> None:
    """Points give three masks, boxes one; the best mask has the highest score."""
    batch = BatchedSAM(checkpoint, device="cpu")
    prompts = [
        {"point": np.array([[30, 20]]), "label": np.array([1])},
        {"box": np.array([5, 5, 30, 60])},
        {"point": (10, 10)},
    ]
    results = batch.process_batch(_IMAGES, prompts)

    assert [set(result) for result in results] == [{"masks", "scores", "best_mask"}] * 3
    assert [len(result["masks"]) for result in results] == [3, 1, 3]
    for result, image, prompt in zip(results, _IMAGES, prompts, strict=True):
        one = batch.model.predict(
            image,
            Prompt(points=[prompt["point"]] if np.ndim(prompt["point"]) == 1 else prompt["point"])
            if "point" in prompt
            else Prompt(box=prompt["box"]),
            multimask_output="point" in prompt,
        )
        assert result["masks"].shape[1:] == image.shape[:2]
        assert (result["best_mask"] != one.best).mean() < 2e-3
        assert np.array_equal(result["best_mask"], result["masks"][result["scores"].argmax()])


def test_model_types_are_short_or_whole_names(checkpoint: Path) -> None:
    """'vit_h' is sam_vit_h; any name of the table is taken; others are listed."""
    assert BatchedSAM(checkpoint, device="cpu").model.variant == "sam_vit_h"
    assert BatchedSAM(checkpoint, "lite_medsam", "cpu").model.variant == "lite_medsam"
    with pytest.raises(UnknownModelError, match="vit_b, vit_l, vit_h, .*got 'vit_x'"):
        BatchedSAM(checkpoint, "vit_x")


def test_a_prompt_for_each_image(checkpoint: Path) -> None:
    """Too few prompts are refused before anything is encoded."""
    with pytest.raises(InputError, match="each of 3 images, got 1"):
        BatchedSAM(checkpoint, device="cpu").process_batch(_IMAGES, [(1, 1)])


def test_progress_counts_images_and_prompts() -> None:
    """A function is told of both as one: 3 images to encode, 7 prompts to answer."""
    model, told = tiny_sam(), list[tuple[int, int]]()
    predict_images(model, _IMAGES, _PROMPTS, progress=lambda *seen: told.append(seen))
    embeddings, again = model.encode_images(_IMAGES), list[tuple[int, int]]()
    predict_images(
        model,
        [],
        _PROMPTS,
        image_embeddings=embeddings,
        progress=lambda *seen: again.append(seen),
    )

    assert told[0] == (3, 10)
    assert told[-1] == (10, 10)
    assert again[-1] == (7, 7)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_progress_is_a_line_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """True says on stderr what was done, without a picture of its own on stdout."""
    predict_images(tiny_sam(), _IMAGES[:1], _PROMPTS[:1], progress=True)
    output = capsys.readouterr()

    assert output.out == ""
    assert "encode: 1 image in " in output.err
    assert "predict: 3 prompts in " in output.err
