"""Tracking one frame after the other, and streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import EmbeddingError, InputError, PromptError, VideoError
from nexus.core.types import Masks, Prompt
from nexus.core.types.masks import FrameMasks
from nexus.models.cv.sam2 import SAM2
from nexus.models.memory import TrackMemory
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2
from tests.predict.clips import BOX, CLICK, clip


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    return tiny_sam2()


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return clip(24)


def offline(model: SAM2, frames: list[np.ndarray], prompt: Any) -> list[FrameMasks]:
    session = model.video(frames)
    session.add(0, 1, **prompt)
    return list(session.propagate())


def loop(model: SAM2, frames: list[np.ndarray], prompt: Any, **options: Any) -> list[FrameMasks]:
    """Track as the documents show it."""
    results = []
    prev_mask: Any = model.predict(image=frames[0], prompt=Prompt(**prompt))
    for frame in frames[1:]:
        mask = model.track(image=frame, prev_mask=prev_mask, memory=model.memory, **options)
        prev_mask = mask
        results.append(mask)
    return results


def assert_same(ours: list[FrameMasks], theirs: list[FrameMasks]) -> None:
    assert [frame.index for frame in ours] == [frame.index for frame in theirs]
    for mine, their in zip(ours, theirs, strict=True):
        assert np.array_equal(mine.masks, their.masks)
        assert np.array_equal(mine.low_res_logits, their.low_res_logits)
        assert np.array_equal(mine.iou_scores, their.iou_scores)


@pytest.mark.parametrize("config", [TINY_SAM2, TINY_EDGETAM])
@pytest.mark.parametrize("prompt", [CLICK, BOX])
def test_the_loop_of_single_steps_equals_a_session(
    config: Any, frames: list[np.ndarray], prompt: Any
) -> None:
    """Bit by bit, over more frames than the memory reaches; the model itself stays as it was."""
    model = tiny_sam2(config=config)
    before = {name: id(value) for name, value in vars(model).items()}
    theirs = offline(model, frames, prompt)

    assert_same(loop(model, frames, prompt), theirs[1:])
    assert {name: id(value) for name, value in vars(model).items()} == before


def test_a_stream_equals_a_session(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Bit by bit, from a generator; prompts by id, too."""
    assert_same(list(sam2.stream(iter(frames), Prompt(**CLICK))), offline(sam2, frames, CLICK))
    assert_same(
        list(sam2.stream((frame for frame in frames), {"box": BOX["box"]})),
        offline(sam2, frames, BOX),
    )
    session = sam2.video(frames)
    session.add(0, 5, **CLICK)
    session.add(0, 3, **BOX)
    ours = list(sam2.stream(iter(frames), {5: Prompt(**CLICK), 3: BOX["box"]}))

    assert ours[0].object_ids == (5, 3)
    assert_same(ours, list(session.propagate()))


def test_short_clips_need_their_length(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Told of it, the loop over six frames equals the session."""
    short = frames[:6]

    assert_same(loop(sam2, short, CLICK, frame_count=6), offline(sam2, short, CLICK)[1:])


def test_two_interleaved_videos_do_not_mix(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Two loops in turns through one model give what each gives alone."""
    clips = frames, clip(24, seed=9)
    alone = [loop(sam2, one, CLICK) for one in clips]
    states: list[Any] = [sam2.predict(image=one[0], prompt=Prompt(**CLICK)) for one in clips]
    turns: list[list[FrameMasks]] = [[], []]
    for t in range(1, 24):
        for index, one in enumerate(clips):
            states[index] = sam2.track(one[t], states[index], sam2.memory)
            turns[index].append(states[index])

    assert_same(turns[0], alone[0])
    assert_same(turns[1], alone[1])


def test_a_memory_is_a_value(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """A step may be taken twice from one memory; the memory does not grow with the video."""
    results = loop(sam2, frames, CLICK)
    first = sam2.track(frames[5], memory=results[3].memory)
    second = sam2.track(frames[5], prev_mask=results[3])
    sizes = [
        sum(seen.memory.numel() for seen in result.memory.objects[1].others.values())
        for result in results
    ]

    assert sam2.memory.is_empty
    assert_same([first], [second])
    assert_same([first], [results[4]])
    assert sizes[-1] == sizes[10]
    assert len(results[-1].memory.objects[1].others) == sam2.config.max_pointers


def test_an_embedding_is_a_first_frame_too(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Encoded as an image, so that later frames differ a little from a session's."""
    masks = sam2.predict(image_embedding=sam2.encode_image(frames[0]), prompt=Prompt(**CLICK))
    ours = sam2.track(frames[1], masks)

    assert ours.index == 1
    assert isinstance(masks, Masks)
    assert ours.low_res_logits.shape == (1, 16, 16)


def test_plain_masks_are_redrawn(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """They carry no memory; the frame becomes the first, with an object for each mask."""
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:40] = True
    one = sam2.track(frames[0], mask)
    two = sam2.track(frames[0], torch.from_numpy(np.stack([mask, ~mask])))
    plain = Masks(mask[None], np.ones(1, np.float32), np.zeros((1, 16, 16), np.float32))
    following = sam2.track(frames[1], two)

    assert (one.index, one.object_ids) == (0, (1,))
    assert two.object_ids == (1, 2)
    np.testing.assert_allclose(two.low_res_logits[0], one.low_res_logits[0], atol=1e-5)
    assert_same([sam2.track(frames[0], plain)], [one])
    assert (following.index, following.object_ids) == (1, (1, 2))


def test_wrong_steps_are_told(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Nothing to go on from, another model's memory, other sizes and other types."""
    begun = loop(sam2, frames[:2], CLICK)[0]

    with pytest.raises(InputError, match="expected prev_mask or a memory that is not empty"):
        sam2.track(frames[0])
    with pytest.raises(InputError, match="expected memory of an earlier result, got dict"):
        sam2.track(frames[0], begun, {})
    with pytest.raises(EmbeddingError, match="expected memory made by this tiny, got another"):
        tiny_sam2(seed=1).track(frames[1], begun)
    with pytest.raises(VideoError, match="expected a frame of 64 x 48 pixels .*got 64 x 40"):
        sam2.track(frames[2][:40], begun)
    with pytest.raises(PromptError, match=r"expected prev_mask to be .*got float64 of shape"):
        sam2.track(frames[0], np.zeros((48, 64)))
    with pytest.raises(PromptError, match=r"expected a bool mask of the frame's size \(48, 64\)"):
        sam2.track(frames[0], np.zeros((4, 6), bool))


def test_a_stream_without_frames_is_refused(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """So are ids that are no numbers, and prompts off the frame."""
    with pytest.raises(VideoError, match="expected"):
        sam2.stream(iter([]), (5, 5))
    with pytest.raises(InputError, match="object_id to be a whole number, got 1.5"):
        sam2.stream(frames, {1.5: (5, 5)})
    with pytest.raises(PromptError, match="expected points inside the image"):
        sam2.stream(frames, (500, 5))


def test_an_empty_memory_is_new_each_time(sam2: SAM2) -> None:
    """The model has none of its own."""
    assert isinstance(sam2.memory, TrackMemory)
    assert sam2.memory is not sam2.memory
