"""SAM 2's mask decoder, against transposed convolutions on maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nexus.nn.mask_decoder import DecodedTokens
from nexus.nn.object_decoder import DecodedObjects, ObjectMaskDecoder

C, GRID = 16, (3, 4)


@pytest.fixture(scope="module")
def decoder() -> ObjectMaskDecoder:
    torch.manual_seed(0)
    model = ObjectMaskDecoder(C, heads=4, hidden=32, iou_hidden=16).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def inputs(P: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    gh, gw = GRID
    prompts = torch.randn(P, 3, C), torch.randn(P, C, gh, gw)
    return torch.randn(1, C, gh, gw), torch.randn(1, C, gh, gw), prompts


def finer(B: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    gh, gw = GRID
    return torch.randn(B, C // 8, 4 * gh, 4 * gw), torch.randn(B, C // 4, 2 * gh, 2 * gw)


def plain_masks(
    decoder: ObjectMaskDecoder, decoded: DecodedTokens, fine: Tensor, middle: Tensor
) -> Tensor:
    """All masks, with the finer maps added to the outputs of the transposed convolutions."""
    first, norm, _, second, _ = decoder.output_upscaling
    image = decoded.image.mT.unflatten(-1, decoded.grid_hw)
    upscaled = F.gelu(second(F.gelu(norm(first(image) + middle))) + fine)
    weights = torch.stack(
        [mlp(decoded.mask_tokens[:, m]) for m, mlp in enumerate(decoder.output_hypernetworks_mlps)],
        dim=1,
    )
    return torch.einsum("pmc,pchw->pmhw", weights, upscaled)


@pytest.mark.parametrize("multimask_output", [False, True])
def test_it_equals_the_plain_form(decoder: ObjectMaskDecoder, multimask_output: bool) -> None:
    """Six prompts, in more than one part: masks, scores, tokens and object scores."""
    features, positions, prompts = inputs(6)
    fine, middle = finer()
    with torch.no_grad():
        ours = decoder.decode_objects(
            features, positions, prompts, decoder.arrange(fine, middle), multimask_output
        )
        tokens = decoder.decode_tokens(features, positions, *prompts)
        masks = plain_masks(decoder, tokens, fine, middle)
        wanted = slice(1, None) if multimask_output else slice(0, 1)

        torch.testing.assert_close(ours.low_res_logits, masks[:, wanted], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.iou_scores, tokens.iou_scores[:, wanted])
        torch.testing.assert_close(ours.tokens, tokens.mask_tokens[:, wanted])
        torch.testing.assert_close(
            ours.object_score_logits, decoder.pred_obj_score_head(tokens.extra_tokens[:, 0])
        )


def test_scores_are_probabilities(decoder: ObjectMaskDecoder) -> None:
    """The score head ends in a sigmoid."""
    features, positions, prompts = inputs(2)
    with torch.no_grad():
        scores = decoder.decode_objects(
            features, positions, prompts, decoder.arrange(*finer()), True
        ).iou_scores

    assert scores.min() > 0
    assert scores.max() < 1


def test_each_object_may_have_an_image_of_its_own(decoder: ObjectMaskDecoder) -> None:
    """Features and finer maps given for each object go with it, across the parts."""
    _, positions, prompts = inputs(6)
    features = torch.randn(6, C, *GRID)
    arranged = decoder.arrange(*finer(6))
    with torch.no_grad():
        together = decoder.decode_objects(features, positions, prompts, arranged, True)
        apart = decoder.decode_objects(
            features[5:],
            positions,
            (prompts[0][5:], prompts[1][5:]),
            (arranged[0][5:], arranged[1][5:]),
            True,
        )

    torch.testing.assert_close(
        together.low_res_logits[5:], apart.low_res_logits, rtol=1e-4, atol=1e-4
    )


def shaky(decoder: ObjectMaskDecoder, margin: float, threshold: float) -> DecodedObjects:
    features, positions, prompts = inputs(6)
    arranged = decoder.arrange(*finer())
    with torch.no_grad():
        return decoder.decode_objects(
            features, positions, prompts, arranged, False, (margin, threshold)
        )


def test_an_unstable_mask_gives_way_to_the_best_candidate(decoder: ObjectMaskDecoder) -> None:
    """A share no mask reaches takes the best candidate; a share all reach, the single mask."""
    features, positions, prompts = inputs(6)
    arranged = decoder.arrange(*finer())
    with torch.no_grad():
        single = decoder.decode_objects(features, positions, prompts, arranged, False)
        candidates = decoder.decode_objects(features, positions, prompts, arranged, True)
    each, best = torch.arange(6), candidates.iou_scores.argmax(-1)
    unstable, stable = shaky(decoder, 0.5, 1.1), shaky(decoder, 0.0, 0.98)

    torch.testing.assert_close(unstable.low_res_logits[:, 0], candidates.low_res_logits[each, best])
    torch.testing.assert_close(unstable.iou_scores[:, 0], candidates.iou_scores[each, best])
    torch.testing.assert_close(stable.low_res_logits, single.low_res_logits)
    # Object pointers keep to the token of the single mask.
    torch.testing.assert_close(unstable.tokens, single.tokens)


def test_stability_is_decided_for_each_object(decoder: ObjectMaskDecoder) -> None:
    """The share is that of the area above the margin in the area above its negative."""
    features, positions, prompts = inputs(6)
    arranged = decoder.arrange(*finer())
    with torch.no_grad():
        single = decoder.decode_objects(features, positions, prompts, arranged, False)
    logits = single.low_res_logits.flatten(1)
    share = (logits > 0.2).sum(1) / (logits > -0.2).sum(1)
    threshold = share.sort().values[2:4].mean().item()
    ours = shaky(decoder, 0.2, threshold).low_res_logits.flatten(1)
    kept = (ours - logits).abs() < 1e-4

    assert kept.all(1).tolist() == (share >= threshold).tolist()
    assert 0 < kept.all(1).sum() < 6


def test_chosen_masks_equal_those_of_all(decoder: ObjectMaskDecoder) -> None:
    """Masks drawn by choice, with finer maps of one image or of each, are those of all."""
    _, positions, prompts = inputs(3)
    for images in (1, 3):
        features, arranged = torch.randn(images, C, *GRID), decoder.arrange(*finer(images))
        with torch.no_grad():
            decoded = decoder.decode_tokens(features, positions, *prompts, arranged)
            every = decoder.draw(decoded, slice(None))
            chosen = decoder.draw_some(decoded, torch.tensor([2, 0]), torch.tensor([3, 1]))

        torch.testing.assert_close(chosen, every[[2, 0], [3, 1]], rtol=1e-4, atol=1e-4)
