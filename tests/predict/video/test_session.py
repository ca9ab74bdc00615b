"""Video sessions on a tiny model."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from nexus.core.errors import InputError, NexusWarning, PromptError, VideoError
from nexus.core.types.masks import FrameMasks
from nexus.models.cv.sam2 import SAM2
from nexus.models.memory import NO_OBJECT_LOGIT
from nexus.predict.video.memory_bank import Seen
from nexus.predict.video.session import VideoSession
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2
from tests.predict.clips import BOX, CLICK, CORRECTION, Counted, clip, unpruned


@pytest.fixture(scope="module")
def sam2() -> SAM2:
    return tiny_sam2()


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return clip(20)


def same(ours: list[FrameMasks], theirs: list[FrameMasks], atol: float = 0.0) -> None:
    """Compare frame by frame; without a tolerance bit by bit."""
    assert [frame.index for frame in ours] == [frame.index for frame in theirs]
    assert [frame.object_ids for frame in ours] == [frame.object_ids for frame in theirs]
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.low_res_logits, their.low_res_logits, rtol=0, atol=atol)
        if not atol:
            assert np.array_equal(mine.masks, their.masks)


def test_a_prompt_is_answered_at_once(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """`add` gives the masks of all objects on that frame, in original pixels, by their ids."""
    session = sam2.video(frames)
    first = session.add(0, 7, **CLICK)
    second = session.add(frame_index=3, object_id=-2, **BOX)

    assert first.object_ids == (7,)
    assert first.masks.shape == (1, 48, 64)
    assert first.masks.dtype == np.bool_
    assert (second.index, second.time_s, second.object_ids) == (3, 3 / 25, (7, -2))
    assert not second.mask(7).any()
    assert second.iou_scores[0] == 0
    assert second.object_score_logits[0] == NO_OBJECT_LOGIT
    assert session.object_ids == (7, -2)


def test_propagation_visits_what_it_says(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """From the first conditioning frame to the end, or from the last back; stop is exclusive."""
    session = sam2.video(frames)
    session.add(12, 1, **CLICK)
    session.add(5, 2, **BOX)

    def indices(**options: Any) -> list[int]:
        return [frame.index for frame in session.propagate(**options)]

    assert indices() == list(range(5, 20))
    assert indices(reverse=True) == list(range(12, -1, -1))
    assert indices(start=2, stop=4) == [2, 3]
    assert indices(start=4, stop=1, reverse=True) == [4, 3, 2]
    assert indices(start=4, stop=4) == []
    assert indices(start=18, stop=99) == [18, 19]


def test_late_objects_are_tracked_on_earlier_frames(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """An object prompted on frame 12 has an answer on frame 5, as in the original."""
    session = sam2.video(frames)
    session.add(5, 1, **CLICK)
    session.add(12, 2, **BOX)
    first = next(session.propagate())

    assert first.index == 5
    assert first.object_ids == (1, 2)
    assert first.object_score_logits[1] != NO_OBJECT_LOGIT
    assert first.masks[1].any()


@pytest.mark.parametrize("config", [TINY_SAM2, TINY_EDGETAM])
@pytest.mark.parametrize("reverse", [False, True])
def test_forgetting_changes_nothing(config: Any, reverse: bool) -> None:
    """60 frames, a correction at 30 after a full pass: as if every memory had been kept."""
    model = tiny_sam2(config=config)
    clip60 = clip(60)
    results = []
    for session in (model.video(clip60), unpruned(model, clip60)):
        session.add(0, 1, **CLICK)
        session.add(4, 2, **BOX)
        out = list(session.propagate())
        out.append(session.add(30, 1, **CORRECTION))
        out += session.propagate(start=30, reverse=reverse)
        out += session.propagate(start=17, stop=30)
        results.append(out)
    ours, theirs = results

    assert len(ours) > 60 + 1 + 30
    same(ours, theirs, atol=1e-4)


def test_little_stays_in_memory(sam2: SAM2) -> None:
    """RAM holds the live window and what was prompted, whatever the length of the video."""
    there = [one for one in gc.get_objects() if type(one) is Seen]
    others = {id(one) for one in there}
    session = sam2.video(clip(60))
    session.add(0, 1, **CLICK)
    for _ in session.propagate():
        pass
    (track,) = session.tracks().values()
    kept = [one for one in gc.get_objects() if type(one) is Seen and id(one) not in others]
    heavy = [one for one in kept if one.memory is not None]

    assert len(kept) <= sam2.config.max_pointers + 3
    assert len(heavy) <= sam2.config.max_memories + 3
    assert len(session._frames) == 4
    assert len(track.frames_of("tracked")) == 59


def test_memory_does_not_grow(sam2: SAM2) -> None:
    """Eight objects, two of them late: tensors take the same bytes at frame 60 and frame 160."""

    def tensor_bytes() -> int:
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor]
        storages = {one.data_ptr(): one.untyped_storage().nbytes() for one in tensors}
        return sum(storages.values())

    session = sam2.video(clip(164))
    for k in range(6):
        session.add(0, k, points=[[8 * k + 2, 20]])
    sizes = {}
    tracemalloc.start()
    for frame in session.propagate():
        if frame.index in (10, 20):
            session.add(frame.index, frame.index, **BOX)
        if frame.index in (60, 160):
            del frame
            sizes[len(sizes)] = (tensor_bytes(), tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert sizes[1][0] <= sizes[0][0]
    assert sizes[1][1] - sizes[0][1] < 100 * 1024


@pytest.mark.parametrize("config", [TINY_SAM2, TINY_EDGETAM])
def test_a_correction_changes_what_comes_after(config: Any, frames: list[np.ndarray]) -> None:
    """A corrected frame keeps its mask when propagated over, and later frames heed it."""
    session = tiny_sam2(config=config).video(frames)
    session.add(0, 1, **CLICK)
    session.add(0, 2, **BOX)
    before = list(session.propagate())
    corrected = session.add(8, 1, **CORRECTION)
    after = list(session.propagate())
    track = session.tracks()[1]

    assert 8 in track.corrected
    assert 8 not in track.conditioning
    assert np.array_equal(after[8].low_res_logits, corrected.low_res_logits)
    assert np.abs(corrected.low_res_logits[0] - before[8].low_res_logits[0]).max() > 1e-3
    for t in range(9, 20):
        assert np.abs(after[t].low_res_logits[0] - before[t].low_res_logits[0]).max() > 1e-6
        np.testing.assert_allclose(
            after[t].low_res_logits[1], before[t].low_res_logits[1], rtol=0, atol=1e-5
        )


def test_other_objects_are_tracked_over_a_corrected_frame_once_prompted(
    sam2: SAM2, frames: list[np.ndarray]
) -> None:
    """Object 2 stays as it was on the frame where 1 was corrected, until 2 itself is prompted."""
    session = sam2.video(frames)
    session.add(0, 1, **CLICK)
    session.add(0, 2, **BOX)
    list(session.propagate())
    session.add(8, 1, **CORRECTION)
    held = list(session.tracks()[2].held)
    session.add(3, 2, **CORRECTION)

    assert held == [8]
    assert session.tracks()[2].held == {}
    assert session.tracks()[2].get(8) is not None


def test_a_second_prompt_starts_from_the_first_answer(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """On one frame the newer prompt counts, with the mask that is there as a rough one."""
    session, fresh = sam2.video(frames), sam2.video(frames)
    session.add(0, 1, **CLICK)
    again = session.add(0, 1, **CORRECTION)
    alone = fresh.add(0, 1, **CORRECTION)

    assert np.abs(again.low_res_logits - alone.low_res_logits).max() > 1e-4
    assert list(session.tracks()[1].conditioning) == [0]


def test_another_kind_of_prompt_takes_the_place_of_the_first(
    sam2: SAM2, frames: list[np.ndarray]
) -> None:
    """A mask after a click is taken as it is, and a click after a mask redraws it."""
    session, fresh = sam2.video(frames), sam2.video(frames)
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:40] = True
    session.add(0, 1, **CLICK)
    ours = session.add(0, 1, mask=mask)
    theirs = fresh.add(0, 1, mask=mask)
    redrawn = session.add(0, 1, **CLICK)

    same([ours], [theirs])
    assert (ours.masks[0] & mask).sum() / (ours.masks[0] | mask).sum() > 0.85
    assert not np.array_equal(redrawn.masks, ours.masks)


def test_an_empty_mask_says_that_the_object_is_away(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Its score is negative, and it is still tracked on other frames."""
    session = sam2.video(frames)
    first = session.add(0, 1, mask=np.zeros((48, 64), bool))

    assert not first.masks.any()
    assert first.object_score_logits[0] < 0
    assert len(list(session.propagate())) == 20


@pytest.mark.parametrize("count", [1, 4, 16])
def test_all_objects_go_through_in_one_call(
    sam2: SAM2, frames: list[np.ndarray], count: int
) -> None:
    """Memory attention, decoder and memory encoder run once a frame, late objects included."""
    session = sam2.video(frames)
    for k in range(count):
        session.add(0 if k < 3 else 2, 100 + k, points=[[4 * k + 1, 20]], labels=[1])
    propagation = session.propagate(start=3)
    with Counted(sam2) as counted:
        for _ in range(10):
            shown = next(propagation)

    assert len(shown.object_ids) == count
    assert counted.calls == dict.fromkeys(
        ("image_encoder.trunk", "memory_attention", "memory_encoder", "decoder"), 10
    )


def test_five_objects_equal_five_runs_of_one(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Objects do not see each other, though they differ in how much is remembered of them."""
    prompts = {k: (3 * k, {"points": [[10 * k + 5, 20]], "labels": [1]}) for k in range(5)}
    together = sam2.video(frames)
    for k, (t, prompt) in prompts.items():
        together.add(t, k, **prompt)
    batched = list(together.propagate(start=0))
    for k, (t, prompt) in prompts.items():
        single = sam2.video(frames)
        single.add(t, k, **prompt)
        for mine, alone in zip(batched, single.propagate(start=0), strict=True):
            np.testing.assert_allclose(
                mine.low_res_logits[k], alone.low_res_logits[0], rtol=0, atol=1e-3
            )

    assert len(batched) == 20


def test_an_object_may_go_and_come_while_propagating(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """The next frame heeds `remove` and `add`; without objects propagation ends."""
    session = sam2.video(frames)
    session.add(0, 1, **CLICK)
    session.add(0, 2, **BOX)
    seen = []
    for frame in session.propagate():
        seen.append(frame.object_ids)
        if frame.index == 3:
            session.remove(1)
        if frame.index == 5:
            session.add(5, 9, **CLICK)
        if frame.index == 7:
            session.remove(2)
            session.remove(9)

    assert seen == [(1, 2)] * 4 + [(2,)] * 2 + [(2, 9)] * 2


def test_reset_ends_a_propagation(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Even if an object is added at once; the session then starts from nothing."""
    session, fresh = sam2.video(frames), sam2.video(frames)
    session.add(0, 1, **BOX)
    propagation = session.propagate()
    next(propagation)
    session.reset()
    ours = session.add(0, 5, **CLICK)
    theirs = fresh.add(0, 5, **CLICK)

    assert list(propagation) == []
    same([ours], [theirs])


def test_streaming_equals_an_offline_session(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """A generator gives the same bits as a list, and no more than a frame ahead is read."""
    read = []

    def camera() -> Iterator[np.ndarray]:
        for t, frame in enumerate(frames):
            read.append(t)
            yield frame

    offline = sam2.video(frames)
    offline.add(0, 1, **CLICK)
    live = sam2.video(camera())
    live.add(0, 1, **CLICK)
    ours = []
    for frame in live.propagate():
        ours.append(frame)
        assert len(read) == frame.index + 1

    same(ours, list(offline.propagate()))


def test_short_clips_are_told_apart_by_their_length(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Five frames from an iterator equal the list where the iterator or the caller tells five."""
    offline = sam2.video(frames[:5])
    listed = sam2.video(iter(frames[:5]))
    told = sam2.video((frame for frame in frames[:5]), frame_count=5)
    untold = sam2.video(frame for frame in frames[:5])
    results = []
    for session in (offline, listed, told, untold):
        session.add(0, 1, **CLICK)
        results.append(list(session.propagate()))

    same(results[1], results[0])
    same(results[2], results[0])
    assert np.abs(results[3][4].low_res_logits - results[0][4].low_res_logits).max() > 0


def test_a_camera_goes_on_where_it_is(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """New objects join at the current frame; going back is refused."""
    session = sam2.video(iter(frames))
    session.add(0, 1, **CLICK)
    propagation = session.propagate()
    for _ in range(10):
        last = next(propagation)
    session.add(last.index, 2, **BOX)
    more = list(session.propagate())

    assert [frame.index for frame in more] == list(range(9, 20))
    assert more[0].object_ids == (1, 2)
    with pytest.raises(InputError, match="expected a source that can go back, got an iterator"):
        session.propagate(reverse=True)
    with pytest.raises(VideoError, match="which is over"):
        session.add(2, 1, **CLICK)


def test_two_sessions_of_one_model_do_not_mix(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """Interleaved frame by frame they give what each gives alone."""
    clips = frames, clip(20, seed=5)

    def begun(index: int) -> VideoSession:
        session = sam2.video(clips[index])
        session.add(0, 1, **(CLICK, BOX)[index])
        return session

    alone = [list(begun(index).propagate()) for index in range(2)]
    turns = list(zip(*(begun(index).propagate() for index in range(2)), strict=True))

    same([first for first, _ in turns], alone[0])
    same([second for _, second in turns], alone[1])


def test_the_state_may_lie_elsewhere(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """What is remembered lies on `state_device`, and frames are read as arrays or tensors."""
    stack = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    session, plain = sam2.video(stack, state_device="cpu"), sam2.video(np.stack(frames))
    for one in (session, plain):
        one.add(0, 1, **CLICK)

    same(list(session.propagate()), list(plain.propagate()))
    with pytest.raises(InputError, match="expected a device of this machine, got 'mps'"):
        sam2.video(stack, state_device="mps").add(0, 1, **CLICK)


def test_filling_is_part_of_every_answer(frames: list[np.ndarray]) -> None:
    """Masks have neither holes nor specks of the configured size, tracked or prompted."""
    config = dataclasses.replace(TINY_SAM2, fill_hole_area=8)
    model = tiny_sam2(config=config)
    plain = tiny_sam2(config=dataclasses.replace(TINY_SAM2, fill_hole_area=0))
    changed = 0
    for seed in range(3):
        shown = []
        for one in (model, plain):
            session = one.video(clip(4, seed))
            session.add(0, 1, **CLICK)
            shown.append(list(session.propagate()))
        for frame, unfilled in zip(*shown, strict=True):
            for wanted in (False, True):
                labels, _ = ndimage.label((frame.low_res_logits[0] > 0) == wanted, np.ones((3, 3)))
                areas = np.bincount(labels.ravel())[1:]
                assert (areas > 8).sum() >= len(areas) - 1
            changed += int(not np.array_equal(frame.low_res_logits, unfilled.low_res_logits))

    assert changed > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"frame_index": 20, **CLICK}, VideoError, "expected a frame number in 0..19 .*got 20"),
        ({"frame_index": -1, **CLICK}, VideoError, "expected a frame number in 0..19 .*got -1"),
        ({"object_id": "car", **CLICK}, InputError, "object_id to be a whole number, got 'car'"),
        ({"object_id": True, **CLICK}, InputError, "object_id to be a whole number, got True"),
        ({}, PromptError, "expected a prompt with points, a box or a mask, got an empty one"),
        ({"points": [[64, 49]]}, PromptError, "expected points inside the image"),
        (
            {"mask": np.zeros((10, 10), bool)},
            PromptError,
            r"expected a bool mask of the frame's size \(48, 64\), got \(10, 10\)",
        ),
        (
            {"mask": np.zeros((10, 10), np.float32)},
            PromptError,
            r"expected mask logits of shape \(16, 16\), got \(10, 10\)",
        ),
        (
            {"mask": np.ones((48, 64), bool), **CLICK},
            PromptError,
            "expected a bool mask alone, which is taken as it is, got points or a box with it",
        ),
        ({"prompt": (5, 5), **CLICK}, InputError, "expected prompt= or its parts, got both"),
    ],
)
def test_a_wrong_prompt_leaves_the_session_as_it_was(
    sam2: SAM2, frames: list[np.ndarray], arguments: Any, error: type, message: str
) -> None:
    """Each mistake is told, and the session goes on as if it had not been made."""
    session, untouched = sam2.video(frames), sam2.video(frames)
    session.add(0, 1, **CLICK)
    untouched.add(0, 1, **CLICK)
    with pytest.raises(error, match=message):
        session.add(**{"frame_index": 2, "object_id": 1, **arguments})

    same(list(session.propagate(stop=5)), list(untouched.propagate(stop=5)))


def test_there_must_be_something_to_track(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """No objects, an unknown id and a stop on the wrong side are told when they are asked for."""
    session = sam2.video(frames)
    with pytest.raises(InputError, match="expected at least one object to track, got none\nhint"):
        session.propagate()
    with pytest.raises(InputError, match=r"expected one of the ids \[\], got 4"):
        session.remove(4)
    session.add(5, 1, **CLICK)

    with pytest.raises(InputError, match="expected stop to be at least start, which is 5, got 2"):
        session.propagate(stop=2)
    with pytest.raises(InputError, match="expected stop to be at most start, which is 5, got 9"):
        session.propagate(stop=9, reverse=True)
    with pytest.raises(VideoError, match=r"expected a frame number in 0\.\.19"):
        session.propagate(start=20)
    with pytest.raises(InputError, match="expected a frame .* object 1 was prompted or tracked"):
        session.object_pointer(1, 6)
    assert [frame.index for frame in session.propagate(stop=8)] == [5, 6, 7]


def test_an_empty_clip_is_refused(sam2: SAM2) -> None:
    """A list at once, an iterator when its first frame is asked for."""
    with pytest.raises(VideoError, match="expected at least one frame, got a list"):
        sam2.video([])
    session = sam2.video(iter([]))
    with pytest.raises(VideoError, match="expected at least one frame|expected a frame number"):
        session.add(0, 1, **CLICK)
    with pytest.raises(InputError, match="input_side to be a whole multiple of 16"):
        sam2.video([np.zeros((8, 8, 3), np.uint8)], input_side=50)


def test_an_iterator_that_raises_leaves_the_session_usable(
    sam2: SAM2, frames: list[np.ndarray]
) -> None:
    """Its error is told with the frame's number; another prompt is still answered."""

    def broken() -> Iterator[np.ndarray]:
        yield from frames[:3]
        raise OSError("the cable came off")

    session = sam2.video(broken())
    session.add(0, 1, **CLICK)
    seen = []
    with pytest.raises(VideoError, match=r"expected frame 3 .*OSError: the cable came off"):
        for frame in session.propagate():
            seen.append(frame.index)

    assert seen == [0, 1, 2]
    assert session.add(2, 1, **CORRECTION).masks.shape == (1, 48, 64)


def test_forgetting_for_want_of_space_is_told(sam2: SAM2) -> None:
    """Where the file is too small, the first frame says so, and a warning does."""
    session = sam2.video(clip(60), history_bytes=4096)
    session.add(0, 1, **CLICK)
    assert [frame.notes for frame in session.propagate()] == [()] * 60
    with pytest.warns(NexusWarning, match="frames before 20 of objects"):
        again = list(session.propagate(start=20, stop=23))

    assert "history_bytes=4096" in again[0].notes[0]
    assert again[1].notes == ()


def test_closing_forgets_and_closes_the_source(sam2: SAM2, frames: list[np.ndarray]) -> None:
    """A session is a context manager; its files go with it."""
    with sam2.video(frames) as session:
        session.add(0, 1, **CLICK)
        list(session.propagate())
        text = repr(session)

    assert text.startswith("VideoSession(tiny, FrameList(")
    assert session.object_ids == ()


def test_half_precision_tracks_and_corrects(frames: list[np.ndarray]) -> None:
    """A bfloat16 session goes through prompts, disk and corrections like any other."""
    session = tiny_sam2().to(torch.bfloat16).video(frames)
    session.add(0, 1, **CLICK)
    session.add(0, 2, mask=np.ones((48, 64), bool))
    list(session.propagate())
    corrected = session.add(5, 1, **CORRECTION)
    after = list(session.propagate(start=5))

    assert corrected.low_res_logits.dtype == np.float32
    assert [frame.index for frame in after] == list(range(5, 20))
    assert np.array_equal(after[0].low_res_logits, corrected.low_res_logits)
