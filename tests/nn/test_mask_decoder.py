"""The mask decoder's arranged arithmetic against the plain form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nexus.nn.layers import affine_of
from nexus.nn.mask_decoder import MaskDecoder, asked_for
from tests.nn.plain_decoder import decode


def _decoder() -> MaskDecoder:
    torch.manual_seed(0)
    return MaskDecoder(dim=32, heads=4, hidden=48, iou_hidden=24).double().eval()


def _inputs(prompts: int, tokens: int, images: int, dense: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(prompts * 10 + tokens)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return (
        draw(images, 32, 6, 5),
        draw(1, 32, 6, 5),
        draw(prompts, tokens, 32),
        draw(dense, 32, 1, 1) if dense == 1 else draw(dense, 32, 6, 5),
    )


@pytest.mark.parametrize(
    ("prompts", "tokens", "images", "dense"),
    [(1, 2, 1, 1), (5, 2, 1, 1), (3, 4, 1, 3), (3, 1, 3, 1), (2, 0, 1, 2), (4, 3, 4, 4)],
)
def test_equals_the_plain_form(prompts: int, tokens: int, images: int, dense: int) -> None:
    """Shared or own images and masks, any number of tokens: equal to the plain form."""
    decoder, inputs = _decoder(), _inputs(prompts, tokens, images, dense)
    expected_masks, expected_scores = decode(decoder, *inputs)

    decoded = decoder.decode_tokens(*inputs)

    torch.testing.assert_close(decoded.iou_scores, expected_scores, rtol=0, atol=1e-12)
    for multimask_output, first, end in ((True, 1, 4), (False, 0, 1)):
        masks = decoder.draw(decoded, asked_for(multimask_output))
        torch.testing.assert_close(masks, expected_masks[:, first:end], rtol=0, atol=1e-12)


def test_gradients_equal_those_of_the_plain_form() -> None:
    """The arranged form trains every parameter as the plain form does."""
    decoder, inputs = _decoder(), _inputs(3, 2, 1, 1)
    decode(decoder, *inputs)[0].square().sum().backward()
    named = decoder.named_parameters()
    expected = {name: p.grad.clone() for name, p in named if p.grad is not None}
    decoder.zero_grad(set_to_none=True)

    decoded = decoder.decode_tokens(*inputs)
    decoder.draw(decoded, slice(None)).square().sum().backward()
    grads = {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}

    # The bias of a key shifts all scores of a query alike: its gradient is zero in exact terms.
    missing = {name for name in expected if name not in grads}
    assert all(name.endswith("k_proj.bias") for name in missing)
    assert max((expected[name].abs().max().item() for name in missing), default=0) < 1e-9
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-9, atol=1e-9)


def test_a_layer_in_place_of_a_linear_one_keeps_its_effect() -> None:
    """A wrapped projection, as LoRA makes it, is evaluated and not read past."""

    class Wrapped(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base, self.extra = base, nn.Linear(base.in_features, base.out_features).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.extra(x)

    decoder, inputs = _decoder(), _inputs(3, 2, 1, 1)
    before = decoder.draw(decoder.decode_tokens(*inputs), slice(1, None))
    attention = decoder.transformer.layers[1].cross_attn_image_to_token
    attention.q_proj = Wrapped(attention.q_proj)  # type: ignore[assignment]

    masks = decoder.draw(decoder.decode_tokens(*inputs), slice(1, None))
    expected = decode(decoder, *inputs)[0][:, 1:]

    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-12)
    assert (masks - before).abs().max() > 1e-6


def test_affine_of_a_linear_layer_without_bias_has_a_zero_bias() -> None:
    """A missing bias reads as zeros."""
    layer = nn.Linear(3, 2, bias=False)
    weight, bias = affine_of(layer, 3)

    assert weight is layer.weight
    assert bias.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("prompts", "masks"), [([0, 0, 2], [1, 3, 2]), ([1], [0]), ([0, 1, 2, 2], [1, 1, 1, 0])]
)
def test_chosen_masks_equal_those_of_all(prompts: list[int], masks: list[int]) -> None:
    """Masks drawn by choice are the ones that drawing everything gives, in the order asked for."""
    decoder, inputs = _decoder(), _inputs(3, 2, 1, 1)
    decoded = decoder.decode_tokens(*inputs)
    every = decoder.draw(decoded, slice(None))

    chosen = decoder.draw_some(decoded, torch.tensor(prompts), torch.tensor(masks))

    torch.testing.assert_close(chosen, every[prompts, masks], rtol=0, atol=1e-12)
