"""SAM's architecture against recorded outputs of the original implementations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.cv.sam import SAM, VARIANTS
from nexus.models.registry import model_spec
from tests.parity.recordings import least_iou, manifest, procedural_state

_NAMES = ("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "lite_medsam")
_RECORDED = ("sam_vit_b", "mobile_sam")


def build(name: str, device: str = "cpu") -> SAM:
    with torch.device(device):
        return SAM(VARIANTS[name], name, model_spec(name).policy)


@pytest.mark.parametrize("name", _NAMES)
def test_checkpoint_entries_are_the_official_ones(shared_parity: Path, name: str) -> None:
    """Names and shapes of the official file agree entirely, so that it loads strictly."""
    ours = {key: list(value.shape) for key, value in build(name, "meta").state_dict().items()}

    assert ours == manifest(shared_parity, name)


@pytest.fixture(scope="module", params=_RECORDED)
def recorded(
    request: pytest.FixtureRequest, shared_parity: Path
) -> tuple[SAM, Any, ImageEmbedding]:
    model = build(request.param)
    model.load_state_dict(procedural_state(shared_parity, request.param), strict=True)
    arrays = np.load(shared_parity / f"{request.param}.npz")
    return model, arrays, model.encode_image(shared_parity / "truck_900x600.png")


@pytest.mark.slow
def test_embedding_equals_the_recorded_one(recorded: tuple[SAM, Any, ImageEmbedding]) -> None:
    """Within 2e-4 at every fourth cell, and in the mean and deviation of every channel."""
    _, arrays, embedding = recorded
    features = embedding.features.numpy()

    for ours, key in (
        (features[:, ::4, ::4], "image_embedding_stride4"),
        (features.mean((1, 2)), "image_embedding_mean"),
        (features.std((1, 2)), "image_embedding_std"),
    ):
        np.testing.assert_allclose(ours, arrays[key], rtol=0, atol=2e-4)


@pytest.mark.slow
def test_masks_equal_the_recorded_ones(recorded: tuple[SAM, Any, ImageEmbedding]) -> None:
    """Points, a mask prompt and boxes: logits 2e-3, scores 1e-3, full-size masks IoU 0.999."""
    model, arrays, embedding = recorded
    first = model.predict(
        image_embedding=embedding, prompt=Prompt([[250, 187]], [1]), multimask_output=True
    )
    box = [212, 300, 350, 437]
    two_points = Prompt([[250, 187], [562, 312]], [1, 0], mask=first.best_low_res_logits)
    results = {
        "p0": first,
        "p1": model.predict_with_embedding(embedding, two_points, False),
        "p2": model.predict_with_embedding(embedding, Prompt(box=box), False),
        "p3": model.predict_with_embedding(embedding, Prompt([[287, 368]], [0], box), True),
    }

    for name, masks in results.items():
        np.testing.assert_allclose(
            masks.low_res_logits, arrays[f"{name}_low_res_logits"], rtol=0, atol=2e-3
        )
        np.testing.assert_allclose(masks.iou_scores, arrays[f"{name}_scores"], rtol=0, atol=1e-3)
        assert least_iou(masks, arrays, name) >= 0.999


@pytest.mark.slow
def test_lite_medsam_with_its_real_weights(shared_parity: Path, lite_medsam_weights: Path) -> None:
    """The original network's embedding, logits and score on a plain image, with real weights."""
    model = SAM.from_checkpoint(lite_medsam_weights, variant="lite_medsam", device="cpu")
    arrays = np.load(shared_parity / "lite_medsam.npz")
    embedding = model.encode_image(arrays["image"])
    masks = model.predict(image_embedding=embedding, prompt=arrays["box_xyxy"])

    np.testing.assert_allclose(
        embedding.features.numpy()[:, ::4, ::4],
        arrays["image_embedding_stride4"],
        rtol=0,
        atol=2e-4,
    )
    np.testing.assert_allclose(masks.low_res_logits, arrays["low_res_logits"], rtol=0, atol=2e-3)
    np.testing.assert_allclose(masks.iou_scores, arrays["scores"].ravel(), rtol=0, atol=1e-3)
