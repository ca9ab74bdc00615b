"""Saved video sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from nexus.core.errors import CheckpointError, InputError
from nexus.models.cv.sam2 import SAM2
from nexus.predict.video.session import VideoSession
from tests.models.tiny_sam2 import TINY_EDGETAM, tiny_sam2
from tests.predict.clips import BOX, CLICK, CORRECTION, clip


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    return tiny_sam2()


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return clip(30)


def tracked(model: SAM2, frames: list[np.ndarray]) -> VideoSession:
    session = model.video(frames)
    session.add(0, 7, **CLICK)
    session.add(3, -1, **BOX)
    list(session.propagate())
    session.add(20, 7, **CORRECTION)
    return session


def saved(tmp_path: Path, session: VideoSession) -> Path:
    path = tmp_path / "session.safetensors"
    session.save(path)
    return path


def test_a_loaded_session_goes_on_as_the_saved_one(
    sam2: SAM2, frames: list[np.ndarray], tmp_path: Path
) -> None:
    """Ids, corrections and memories of all frames are there; forward and back give the same."""
    session = tracked(sam2, frames)
    path = saved(tmp_path, session)
    again = sam2.load_session(path, frames)
    runs = [
        [*one.propagate(start=20), *one.propagate(start=9, stop=12), *one.propagate(reverse=True)]
        for one in (session, again)
    ]

    assert again.object_ids == (7, -1)
    assert list(again.tracks()[7].corrected) == [20]
    assert list(again.tracks()[-1].held) == [20]
    for mine, theirs in zip(*runs, strict=True):
        assert mine.index == theirs.index
        np.testing.assert_allclose(mine.low_res_logits, theirs.low_res_logits, rtol=0, atol=1e-4)


def test_the_file_is_plain_safetensors(
    sam2: SAM2, frames: list[np.ndarray], tmp_path: Path
) -> None:
    """Any reader of the format opens it; masks and pointers of every frame are in it."""
    tensors = load_file(saved(tmp_path, tracked(sam2, frames)))

    assert tensors["0.conditioning.low_res_logits"].shape == (1, 16, 16)
    assert tensors["0.corrected.pointers"].shape == (1, 16)
    assert tensors["0.tracked.frames"][:, 0].tolist() == [t for t in range(1, 30) if t != 20]
    assert tensors["1.held.frames"][0, 0] == 20


def test_a_session_without_objects_can_be_saved(
    sam2: SAM2, frames: list[np.ndarray], tmp_path: Path
) -> None:
    """It is loaded without objects."""
    assert sam2.load_session(saved(tmp_path, sam2.video(frames)), frames).object_ids == ()


def test_another_model_or_source_is_refused(
    sam2: SAM2, frames: list[np.ndarray], tmp_path: Path
) -> None:
    """By its weights, its input side, its frames or their number."""
    path = saved(tmp_path, tracked(sam2, frames))
    for other in (tiny_sam2(seed=1), tiny_sam2(config=TINY_EDGETAM)):
        with pytest.raises(InputError, match="expected the model of the saved session, tiny, got"):
            other.load_session(path, frames)
    with pytest.raises(InputError, match="expected input_side=64 as in the saved session, got 128"):
        sam2.load_session(path, frames, input_side=128)
    for source in (clip(30, seed=3), frames[:-1]):
        with pytest.raises(InputError, match=r"expected the source .*\(30 frames of 64 x 48"):
            sam2.load_session(path, source)


def test_a_camera_has_no_session_to_save(
    sam2: SAM2, frames: list[np.ndarray], tmp_path: Path
) -> None:
    """Nothing could go on from it; nothing is written, and the session is still usable."""
    session = sam2.video(iter(frames))
    session.add(0, 1, **CLICK)
    with pytest.raises(InputError, match="expected a source that can be read again, got an iter"):
        session.save(tmp_path / "camera.safetensors")

    assert list(tmp_path.iterdir()) == []
    assert len(list(session.propagate(stop=3))) == 3


def test_other_files_are_refused(sam2: SAM2, frames: list[np.ndarray], tmp_path: Path) -> None:
    """A missing file, another safetensors file and a damaged one."""
    path = saved(tmp_path, tracked(sam2, frames))
    other = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(1)}, other)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(FileNotFoundError, match="video session at .* no such file"):
        sam2.load_session(tmp_path / "nothing", frames)
    with pytest.raises(InputError, match="which is another safetensors file"):
        sam2.load_session(other, frames)
    with pytest.raises(CheckpointError, match="expected a whole video session"):
        sam2.load_session(cut, frames)
