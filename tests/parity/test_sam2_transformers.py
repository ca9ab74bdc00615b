"""SAM 2 on images at full size against transformers' implementation, weights shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nexus.core.types import Prompt
from nexus.models.cv.sam2 import SAM2, VARIANTS
from tests.parity.hugging_face_sam2 import their_image_model


def random_sam2(name: str) -> SAM2:
    torch.manual_seed(0)
    model = SAM2(VARIANTS[name], name).requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_masks_equal_those_of_transformers(size: str) -> None:
    """A point with three masks and a box with one, in original pixels that are the frame's."""
    ours = random_sam2(f"sam2.1_hiera_{size}")
    theirs = their_image_model(ours)
    image = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    embedding = ours.encode_image(image)
    box, point = [200.0, 300.0, 700.0, 900.0], [400.0, 500.0]
    mean, std = (np.array(v, np.float32) for v in (ours.policy.pixel_mean, ours.policy.pixel_std))
    frame = torch.from_numpy((image - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        maps = theirs.get_image_embeddings(frame)
        several = theirs(
            image_embeddings=maps,
            input_points=torch.tensor([[[point]]]),
            input_labels=torch.tensor([[[1]]]),
            multimask_output=True,
        )
        single = theirs(
            image_embeddings=maps, input_boxes=torch.tensor([[box]]), multimask_output=False
        )
    features = embedding.features + ours.no_mem_embed.view(-1, 1, 1)

    for mine, their in zip((*embedding.high_res_features, features), maps, strict=True):
        limit = 2e-4 * max(1.0, their.abs().max().item())
        torch.testing.assert_close(mine[None], their, rtol=0, atol=limit)
    for prompt, result in ((Prompt([point], [1]), several), (Prompt(box=box), single)):
        masks = ours.predict_with_embedding(embedding, prompt)
        logits = result.pred_masks[0, 0].clamp(-32, 32).numpy()
        limit = 2e-3 * max(1.0, np.abs(logits).max() / 10)
        np.testing.assert_allclose(masks.low_res_logits, logits, rtol=0, atol=limit)
        scores = result.iou_scores[0, 0].numpy()
        np.testing.assert_allclose(masks.iou_scores, scores, rtol=0, atol=1e-3)
