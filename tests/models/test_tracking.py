"""What a model that tracks offers callers; the work itself is tested in tests/predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nexus.core.errors import InputError, PromptError
from nexus.core.types import Masks, PromptedMasks
from nexus.models.cv import SAM, SAM2
from nexus.predict.video.session import VideoSession
from tests.models.tiny_sam2 import tiny_sam2

FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    return tiny_sam2()


def test_predict_answers_as_on_any_image(sam2: SAM2) -> None:
    """The masks are those of an embedding, and they carry a memory."""
    embedding = sam2.encode_image(FRAME)
    ours = sam2.predict(image=FRAME, prompt=(20, 20))
    theirs = sam2.predict_batch(embedding, [(20, 20)])[0]

    assert isinstance(ours, PromptedMasks)
    assert isinstance(ours, Masks)
    assert np.array_equal(ours.low_res_logits, theirs.low_res_logits)
    assert not ours.memory.is_empty
    assert ours.notes == ()


def test_video_opens_a_session(sam2: SAM2) -> None:
    """Of the model, with what it was told."""
    session = sam2.video([FRAME, FRAME], rate=10, input_side=128, history_bytes=99)
    session.add(1, 1, box=[5, 5, 40, 40])
    (frame,) = session.propagate()

    assert isinstance(session, VideoSession)
    assert session.model is sam2
    assert (frame.time_s, frame.low_res_logits.shape) == (0.1, (1, 32, 32))
    assert session.settings.history_bytes == 99
    with pytest.raises(InputError, match="expected rate in frames per second above 0"):
        sam2.video([FRAME], rate=0)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_camera_may_reuse_its_buffer(sam2: SAM2, as_tensor: bool) -> None:
    """The first frame is kept as it was when it was prompted."""
    array = FRAME.copy()
    buffer = torch.from_numpy(array).permute(2, 0, 1) if as_tensor else array
    expected = sam2.track(FRAME[::-1], sam2.predict(FRAME, (20, 20)))
    masks = sam2.predict(buffer, (20, 20))
    array[:] = 0

    assert np.array_equal(sam2.track(FRAME[::-1], masks).low_res_logits, expected.low_res_logits)


def test_errors_of_predict_come_first(sam2: SAM2) -> None:
    """As in SAM."""
    with pytest.raises(InputError, match="expected either image or image_embedding, got both"):
        sam2.predict(FRAME, (5, 5), image_embedding=sam2.encode_image(FRAME))
    with pytest.raises(PromptError, match="expected a prompt, got None"):
        sam2.predict(FRAME)


def test_sam_does_not_track() -> None:
    """Only models with a memory offer sessions."""
    assert not hasattr(SAM, "video")
