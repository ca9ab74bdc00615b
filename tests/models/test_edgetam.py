"""EdgeTAM: what differs from SAM 2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nexus.core.errors import InputError
from nexus.core.types import Prompt
from nexus.models.cv.edgetam import VARIANTS, EdgeTAM
from nexus.models.cv.sam2 import SAM2
from nexus.models.frame import prompts_to_frame
from nexus.models.memory import Recall
from tests.models.tiny_sam2 import TINY_EDGETAM, tiny_sam2


@pytest.fixture(scope="module")
def edgetam() -> SAM2:
    return tiny_sam2(config=TINY_EDGETAM)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def test_it_is_a_choice_of_sizes(edgetam: SAM2) -> None:
    """Two layers of memory attention, 256 tokens of either kind, nothing that 2.1 added."""
    config = VARIANTS["edgetam"]

    assert type(edgetam) is EdgeTAM
    assert (config.memory_layers, config.latents) == (2, 256)
    assert (config.marks_occlusion, config.times_pointers) == (False, False)


def test_images_are_segmented(edgetam: SAM2, image: np.ndarray) -> None:
    """The image API is that of SAM 2."""
    assert edgetam.predict(image, (30, 20)).masks.shape == (3, 60, 90)


def test_a_memory_is_a_few_tokens(edgetam: SAM2, image: np.ndarray) -> None:
    """Four global and four placed ones here, whatever the grid, and frames look back at them."""
    frame = edgetam.frame_features(edgetam.encode_frames([image], input_side=128)[0])
    prompt = prompts_to_frame([Prompt([[30, 20]], [1])], frame.geometry, (32, 32), edgetam.policy)
    outputs = edgetam.decode_objects(frame, edgetam.without_memory(frame), prompt)
    memory = edgetam.encode_memory(frame, outputs.low_res_logits, outputs.object_score_logits, True)
    recall = Recall((memory[0], memory[0]), (0, 1), (outputs.object_pointer[0],), (1,))
    features = edgetam.condition(frame, [recall])

    assert memory.shape == (1, 8, 8)
    assert features.shape == (1, 16, 8, 8)
    assert torch.isfinite(features).all()


def test_a_grid_that_cannot_be_cut_is_refused(edgetam: SAM2, image: np.ndarray) -> None:
    """Images may have any multiple of 32; memories need a multiple of the perceiver's grid."""
    # A perceiver of 3 x 3 windows on a grid of 4 x 4.
    edgetam.spatial_perceiver.side, side = 3, edgetam.spatial_perceiver.side
    frame = edgetam.frame_features(edgetam.encode_frames([image])[0])
    try:
        with pytest.raises(InputError, match="sides are multiples of 3, got 4 x 4"):
            edgetam.encode_memory(frame, torch.zeros(1, 16, 16), torch.ones(1, 1), True)
    finally:
        edgetam.spatial_perceiver.side = side
