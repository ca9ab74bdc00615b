"""Masks with gradients, `model(images, prompts)`, on tiny models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from nexus.core.errors import EmbeddingError, InputError, PromptError
from nexus.core.types import Prompt
from nexus.models.promptable import PromptableModel, decode_alike
from tests.models.tiny import TINY_CONVOLUTIONAL, tiny_sam
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2

MODELS = {
    "sam": tiny_sam,
    "convolutional sam": lambda: tiny_sam(config=TINY_CONVOLUTIONAL),
    "sam2": tiny_sam2,
    "edgetam": lambda: tiny_sam2(config=TINY_EDGETAM),
}
PROMPTS = [
    Prompt([[30, 20]]),
    Prompt(box=[10, 5, 60, 40]),
    Prompt([[30, 20], [50, 30]], [1, 0]),
    Prompt([[30, 20]], box=[10, 5, 60, 40]),
    Prompt([[30, 20]], mask=np.linspace(-9, 9, 256, dtype=np.float32).reshape(16, 16)),
    Prompt(box=[1, 1, 30, 30]),
]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> PromptableModel:
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    values = np.random.default_rng(0)
    return [values.integers(0, 256, size, dtype=np.uint8) for size in ((60, 90, 3), (70, 64, 3))]


def shares(model: nn.Module) -> dict[str, float]:
    """Return, for each part of a model, what part of its weights has a gradient."""
    found = {}
    for name, part in model.named_children():
        weights = list(part.parameters())
        if weights:
            reached = [p for p in weights if p.grad is not None and p.grad.abs().sum() > 0]
            found[name] = len(reached) / len(weights)
    return found


@pytest.mark.parametrize("multimask_output", [False, True])
def test_numbers_are_those_of_predict(
    model: PromptableModel, images: list[np.ndarray], multimask_output: bool
) -> None:
    """Mixed prompts on two images of unlike size, one mask or all candidates."""
    logits, scores = model(
        images, [PROMPTS, PROMPTS[::-1]], multimask_output=multimask_output, return_scores=True
    )

    assert logits.shape == (2, 6, 3 if multimask_output else 1, 16, 16)
    for index, (image, prompts) in enumerate(zip(images, [PROMPTS, PROMPTS[::-1]], strict=True)):
        expected = model.predict_batch(model.encode_image(image), prompts, multimask_output)
        limit = model.policy.logit_limit or np.inf
        for p, masks in enumerate(expected):
            given = logits[index, p].detach().clamp(-limit, limit).numpy()
            np.testing.assert_allclose(given, masks.low_res_logits, atol=1e-4)
            np.testing.assert_allclose(
                scores[index, p].detach().numpy(), masks.iou_scores, atol=1e-4
            )


def test_gradients_reach_every_part(model: PromptableModel, images: list[np.ndarray]) -> None:
    """Image encoder, prompt encoder and mask decoder learn, down to the first layer."""
    model.train()
    logits, scores = model(images, [PROMPTS, PROMPTS], multimask_output=True, return_scores=True)
    (logits.square().mean() + scores.square().mean()).backward()
    found = shares(model)
    first = next(p for p in model.image_encoder.parameters() if p.ndim == 4)

    assert found["image_encoder"] > 0.9
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
    assert all(share > 0.6 for name, share in found.items() if "decoder" in name)
    assert all(share > 0.8 for name, share in found.items() if "prompt_encoder" in name)


def test_gradients_are_those_of_finite_differences(images: list[np.ndarray]) -> None:
    """In float64 a step along the gradient of an encoder's weight changes the sum as it says."""
    model = tiny_sam().double()
    weight = model.image_encoder.blocks[0].attn.qkv.weight
    model(images[:1], [[(30, 20)]]).sum().backward()
    step = 1e-5 * weight.grad / weight.grad.norm()
    with torch.no_grad():
        weight.add_(step)
        high = model(images[:1], [[(30, 20)]]).double().sum()
        weight.sub_(2 * step)
        low = model(images[:1], [[(30, 20)]]).double().sum()

    assert float(high - low) == pytest.approx(float(2e-5 * weight.grad.norm()), rel=0.02)


def test_unequal_numbers_give_a_list(images: list[np.ndarray]) -> None:
    """One tensor for each image; an image without prompts has an empty one."""
    model = tiny_sam()
    logits, scores = model(images, [PROMPTS[:2], []], return_scores=True)

    assert [tuple(each.shape) for each in logits] == [(2, 1, 16, 16), (0, 1, 16, 16)]
    assert [tuple(each.shape) for each in scores] == [(2, 1), (0, 1)]


def test_none_gives_candidates_to_lone_points_alone(images: list[np.ndarray]) -> None:
    """Three masks if every prompt is ambiguous, one for all if any is not."""
    model = tiny_sam()

    assert model(images, [[(9, 9)], [(5, 5)]]).shape == (2, 1, 3, 16, 16)
    assert model(images, [[(9, 9)], [PROMPTS[1]]]).shape == (2, 1, 1, 16, 16)


def test_every_spelling_gives_the_same_masks(images: list[np.ndarray]) -> None:
    """Bare prompts, arrays and tensors; images as a batch of tensors of either type."""
    model = tiny_sam()
    square = torch.from_numpy(images[0][:60, :60]).permute(2, 0, 1)
    batch = torch.stack([square, square.flip(-1)])
    expected = model(list(batch), [[Prompt(box=[1, 2, 30, 40])], [Prompt(box=[3, 4, 30, 40])]])
    boxes = np.array([[1, 2, 30, 40], [3, 4, 30, 40]], np.float32)
    spellings = [
        [[(1, 2, 30, 40)], [(3, 4, 30, 40)]],
        [(1, 2, 30, 40), {"box": [3, 4, 30, 40]}],
        boxes,
        torch.from_numpy(boxes),
        boxes[:, None],
        [torch.from_numpy(boxes[:1]), boxes[1:]],
    ]

    for prompts in spellings:
        torch.testing.assert_close(model(batch, prompts), expected)
    # Floats are not rounded to 8 bits on the way.
    torch.testing.assert_close(model(batch.float() / 255, boxes), expected, atol=0.05, rtol=0.05)


def test_embeddings_spare_the_encoder(model: PromptableModel, images: list[np.ndarray]) -> None:
    """Cached embeddings give the same masks; the decoder learns and the encoder does not."""
    embeddings = model.encode_images(images)
    prompts = [[(10, 10, 40, 40)], [(5, 5, 30, 30)]]
    logits = model(embeddings, prompts)
    logits.sum().backward()
    found = shares(model)

    torch.testing.assert_close(logits, model(images, prompts))
    assert found["image_encoder"] == 0
    assert all(share > 0.3 for name, share in found.items() if "mask_decoder" in name)


def test_an_embedding_of_before_is_refused(images: list[np.ndarray]) -> None:
    """An encoder that has learnt since does not take its old features."""
    model = tiny_sam()
    embeddings = model.encode_images(images)
    with torch.no_grad():
        model.image_encoder.pos_embed.add_(0.1)

    with pytest.raises(EmbeddingError, match="other encoder weights"):
        model(embeddings, [[(9, 9)], [(9, 9)]])


def test_prompts_alike_share_a_call(model: PromptableModel, images: list[np.ndarray]) -> None:
    """Prompt i goes with embedding i, and embeddings may repeat in any order."""
    first, second = model.encode_images(images)
    prompts = [Prompt(box=[5, 5, 40 + i, 40]) for i in range(4)]
    order = [second, first, second, second]
    logits, scores = decode_alike(model, order, prompts, multimask_output=False)

    assert logits.requires_grad
    for row, (embedding, prompt) in enumerate(zip(order, prompts, strict=True)):
        alone, score = decode_alike(model, [embedding], [prompt], multimask_output=False)
        torch.testing.assert_close(logits[row : row + 1], alone, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(scores[row : row + 1], score, atol=1e-5, rtol=1e-4)


def test_one_image_is_not_copied(images: list[np.ndarray]) -> None:
    """Where all prompts are on one embedding its features go to the decoder as they are."""
    model = tiny_sam()
    embedding = model.encode_image(images[0])
    seen = []
    score = model.score
    model.score = lambda on, *rest: (seen.append(on.maps[0]), score(on, *rest))[1]
    decode_alike(
        model, [embedding] * 3, [Prompt([[i, 9]]) for i in (1, 2, 3)], multimask_output=True
    )

    assert seen[0].shape[0] == 1
    assert seen[0].data_ptr() == embedding.features.data_ptr()


def test_in_training_the_single_mask_is_itself(images: list[np.ndarray]) -> None:
    """Prediction may put a candidate in its place, which training must not."""
    stands_in = dataclasses.replace(TINY_SAM2, stability=(0.05, 1.1))
    model, never = tiny_sam2(config=stands_in), tiny_sam2()
    never.config = dataclasses.replace(TINY_SAM2, stability=None)
    prompts = [[PROMPTS[1]]]

    assert not torch.equal(model(images[:1], prompts), never(images[:1], prompts))
    assert torch.equal(model.train()(images[:1], prompts), never(images[:1], prompts))


def test_bfloat16_autocast_runs_forward_and_back(
    model: PromptableModel, images: list[np.ndarray]
) -> None:
    """Logits come in float32 and every gradient is finite."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images, [PROMPTS, PROMPTS])
    logits.square().mean().backward()

    assert logits.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("given", "prompts", "message"),
    [
        ("image.jpg", [[(9, 9)]], "expected a list of images, got str"),
        (np.zeros((60, 90, 3), np.uint8), [[(9, 9)]], r"got shape \(60, 90, 3\)"),
        ([], [], "expected prompts for each of 1 or more images, got 0 for 0"),
        ("images", [[(9, 9)]], "got 1 for 2"),
        ("images", Prompt([[9, 9]]), "expected a list of prompts for each image, got Prompt"),
        ("images", [None, [(9, 9)]], "expected a list of prompts, got NoneType"),
        ("images", [[], []], "expected at least one prompt, got none"),
        ("mixed", [[(9, 9)], [(9, 9)]], "got 1 embedding among 2"),
    ],
)
def test_what_is_not_images_and_prompts_is_refused(
    images: list[np.ndarray], given: object, prompts: object, message: str
) -> None:
    """The message says what came instead."""
    model = tiny_sam()
    if isinstance(given, str) and given == "images":
        given = images
    elif isinstance(given, str) and given == "mixed":
        given = [images[0], model.encode_image(images[1])]

    with pytest.raises(InputError, match=message):
        model(given, prompts)


def test_a_wrong_prompt_is_named(images: list[np.ndarray]) -> None:
    """By its image and its place there."""
    model = tiny_sam()

    with pytest.raises(PromptError, match=r"image 1, prompt 1: expected points inside the image"):
        model(images, [[(9, 9), (8, 8)], [(9, 9), (800, 9)]])
    with pytest.raises(PromptError, match="image 0, prompt 0: expected a Prompt"):
        model(images, [[(9, 9, 9)], [(9, 9)]])
    with pytest.raises(PromptError, match="image 0, prompt 0: expected a bool mask of the image"):
        model(images, [[Prompt(mask=np.ones((9, 9), bool))], [(9, 9)]])
    with pytest.raises(InputError, match="multimask_output to be True, False or None, got 3"):
        model(images, [[(9, 9)], [(9, 9)]], multimask_output=3)


def test_prompts_that_are_not_alike_are_refused(images: list[np.ndarray]) -> None:
    """Together they cannot be one call of the decoder."""
    model = tiny_sam()
    embedding = model.encode_image(images[0])

    with pytest.raises(InputError, match="2 tokens without a mask on 4 x 4 of 64; 3 tokens"):
        decode_alike(model, [embedding] * 2, [PROMPTS[1], PROMPTS[2]], multimask_output=False)
    with pytest.raises(InputError, match="one embedding for each of 1 or more prompts, got 1 and"):
        decode_alike(model, [embedding], PROMPTS[:2], multimask_output=False)
