"""SAM 2 and EdgeTAM on an image, against recorded outputs of the original implementations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.cv import SAM2, EdgeTAM
from tests.parity.recordings import least_iou, manifest, procedural_state

_SIZES = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
NAMES = {
    f"sam{version}_hiera_{short}": f"sam{version}_hiera_{size}"
    for version in ("2", "2.1")
    for short, size in _SIZES.items()
} | {"edgetam": "edgetam"}
"""Our name for what a recording is called."""

_RECORDED = ("sam2.1_hiera_t", "sam2.1_hiera_b+", "sam2_hiera_s", "edgetam")


def build(recording: str, device: str = "cpu") -> SAM2:
    """Build a model without weights, set as the recordings were made."""
    name = NAMES[recording]
    cls = EdgeTAM if name == "edgetam" else SAM2
    config = dataclasses.replace(
        cls.variants[name], stability=None, binarize_clicks=False, fill_hole_area=0
    )
    with torch.device(device):
        return cls(config, name)


def filled(parity: Path, recording: str) -> SAM2:
    """Build a model with the weights of the recordings."""
    model = build(recording, "meta")
    model.load_state_dict(procedural_state(parity, recording), strict=True, assign=True)
    return model.requires_grad_(False)


def tolerance(base: float, recorded: np.ndarray, share: float = 1.0) -> float:
    """Return `base`, or as much more as the recorded values are larger than 1 / `share`."""
    return base * max(1.0, float(np.abs(recorded).max()) * share)


@pytest.mark.parametrize("recording", NAMES)
def test_checkpoint_entries_are_the_official_ones(shared_parity: Path, recording: str) -> None:
    """Names and shapes of the official file agree entirely, so that it loads strictly."""
    ours = {key: list(value.shape) for key, value in build(recording, "meta").state_dict().items()}

    assert ours == manifest(shared_parity, recording)


@pytest.fixture(scope="module", params=_RECORDED)
def recorded(
    request: pytest.FixtureRequest, shared_parity: Path
) -> tuple[SAM2, Any, ImageEmbedding]:
    model = filled(shared_parity, request.param)
    arrays = np.load(shared_parity / f"{request.param}_image.npz")
    return model, arrays, model.encode_image(shared_parity / "truck_900x600.png")


@pytest.mark.slow
def test_features_equal_the_recorded_ones(recorded: tuple[SAM2, Any, ImageEmbedding]) -> None:
    """Features with the no-memory embedding, and the finer maps, within 2e-4 of the largest."""
    model, arrays, embedding = recorded
    features = embedding.features + model.no_mem_embed.view(-1, 1, 1)
    fine, middle = embedding.high_res_features

    for ours, key in (
        (features[:, ::4, ::4], "image_embed_stride4"),
        (fine[:, ::16, ::16], "high_res_0_stride16"),
        (middle[:, ::8, ::8], "high_res_1_stride8"),
    ):
        limit = tolerance(2e-4, arrays[key])
        np.testing.assert_allclose(ours.numpy(), arrays[key], rtol=0, atol=limit)


@pytest.mark.slow
def test_masks_equal_the_recorded_ones(recorded: tuple[SAM2, Any, ImageEmbedding]) -> None:
    """Points, a mask prompt and boxes: logits 2e-3, scores 1e-3, full-size masks IoU 0.999."""
    model, arrays, embedding = recorded
    first = model.predict_with_embedding(embedding, Prompt([[250, 187]], [1]), True)
    box = [212, 300, 350, 437]
    two_points = Prompt([[250, 187], [562, 312]], [1, 0], mask=first.best_low_res_logits)
    results = {
        "p0": first,
        "p1": model.predict_with_embedding(embedding, two_points, False),
        "p2": model.predict_with_embedding(embedding, Prompt(box=box), False),
        "p3": model.predict_with_embedding(embedding, Prompt([[287, 368]], [0], box), True),
    }

    for name, masks in results.items():
        theirs = arrays[f"{name}_low_res_logits"]
        limit = tolerance(2e-3, theirs, 0.1)
        np.testing.assert_allclose(masks.low_res_logits, theirs, rtol=0, atol=limit)
        np.testing.assert_allclose(masks.iou_scores, arrays[f"{name}_scores"], rtol=0, atol=1e-3)
        assert least_iou(masks, arrays, name) >= 0.999
