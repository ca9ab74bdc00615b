"""Video sessions against transformers' implementation, weights shared."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.nn.hiera import HieraConfig
from tests.parity.hugging_face_sam2 import their_video_model

SIDE = 128
CONFIG = SAM2Config(
    HieraConfig(
        width=16, depths=(1, 1, 2, 1), global_blocks=(3,), position_side=7, windows=(8, 4, 8, 4)
    ),
    memory_layers=2,
    fill_hole_area=0,
)
# Frame, object, points in pixels, labels. Frame 12 becomes a second conditioning frame of one.
PROMPTS = (
    (0, 4, [[40.0, 50.0]], [1]),
    (0, 9, [[80.0, 90.0], [20.0, 20.0]], [1, 0]),
    (12, 4, [[60.0, 30.0], [100.0, 10.0]], [1, 0]),
)


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    torch.manual_seed(0)
    model = SAM2(CONFIG, "tiny").requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5)
    return model


def clip(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    ground = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return [np.roll(ground, (3 * t, 5 * t), (0, 1)) for t in range(count)]


def theirs(ours: SAM2, frames: list[np.ndarray]) -> dict[int, torch.Tensor]:
    """Run transformers' session: prompts, then forward; return low-resolution logits by frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
    model = their_video_model(ours, SIDE)
    mean, std = (np.array(v, np.float32) for v in (ours.policy.pixel_mean, ours.policy.pixel_std))
    pixels = torch.from_numpy((np.stack(frames) - mean) / std).permute(0, 3, 1, 2)
    session: Any = Sam2VideoInferenceSession(pixels, SIDE, SIDE, dtype=torch.float32)
    with torch.no_grad():
        for t, object_id, points, labels in PROMPTS:
            inputs = {
                "point_coords": torch.tensor([[points]]),
                "point_labels": torch.tensor([[labels]], dtype=torch.int32),
            }
            session.add_point_inputs(session.obj_id_to_idx(object_id), t, inputs)
            session.obj_with_new_inputs = [object_id]
            # Only this object is run on this frame, as their processor's callers do.
            outputs = model._run_single_frame_inference(
                inference_session=session,
                obj_idx=session.obj_id_to_idx(object_id),
                frame_idx=t,
                batch_size=1,
                is_init_cond_frame=True,
                point_inputs=inputs,
                mask_inputs=None,
                reverse=False,
                streaming=False,
            )
            index = session.obj_id_to_idx(object_id)
            session.store_output(index, t, output_value=outputs, is_conditioning_frame=True)
            model._batch_encode_memories(
                inference_session=session,
                frame_idx=t,
                objects_needing_memory_encoding=[index],
                high_res_masks_for_memory=[outputs["high_res_masks"]],
                object_score_logits_for_memory=[outputs["object_score_logits"]],
                is_mask_from_pts_per_obj=[True],
            )
        session.obj_with_new_inputs = []
        return {
            output.frame_idx: output.pred_masks[:, 0].float()
            for output in model.propagate_in_video_iterator(session, start_frame_idx=0)
        }


def test_a_session_equals_that_of_transformers(sam2: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 frames, two conditioning frames: old memories drop and all pointer slots fill."""
    encode = sam2.encode_memory
    # They keep memories in bfloat16 whatever the model runs in.
    monkeypatch.setattr(sam2, "encode_memory", lambda *args: encode(*args).bfloat16().float())
    frames = clip(24)
    expected = theirs(sam2, frames)
    session = sam2.video(frames, input_side=SIDE)
    for t, object_id, points, labels in PROMPTS:
        session.add(t, object_id, points=points, labels=labels)
    results = list(session.propagate())

    assert session.object_ids == (4, 9)
    assert sorted(expected) == [frame.index for frame in results] == list(range(24))
    for frame in results:
        their = expected[frame.index].numpy()
        limit = 2e-3 * max(1.0, np.abs(their).max() / 10)
        np.testing.assert_allclose(frame.low_res_logits, their, rtol=0, atol=limit)
    spread = np.ptp([frame.low_res_logits for frame in results], axis=0).max()
    assert spread > 0.05
