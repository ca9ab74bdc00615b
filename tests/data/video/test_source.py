from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nexus.core.errors import VideoError
from nexus.data.video.source import FrameIndexError, VideoSource, digest_frames


class Counting(VideoSource):
    """Three frames that hold their own number; frame 2 turns out not to be there."""

    name = "a test"
    rate = 10.0
    frame_count = 3
    size_hw = (1, 2)

    def __init__(self, ends: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.closed = False

    def frame(self, index: int) -> np.ndarray:
        number = self.checked(index)
        if number == 2:
            self.notes = ("it is cut",)
            raise FrameIndexError("expected a frame, got none")
        return np.full((1, 2, 3), number, np.uint8)

    def fingerprint(self) -> str:
        return digest_frames(3, self.frame(0))

    def close(self) -> None:
        self.closed = True


def test_iteration_ends_where_the_video_does() -> None:
    """A frame that turns out not to be there ends the iteration, not the program."""
    assert [int(frame[0, 0, 0]) for frame in Counting()] == [0, 1]


def test_numbers_are_checked() -> None:
    """Numbers out of range, and what is no whole number, are errors that say what there is."""
    video = Counting()

    assert video.checked(np.int64(2)) == 2
    assert video.has(2)
    assert not video.has(3)
    assert not video.has(-1)
    with pytest.raises(FrameIndexError, match=r"in 0\.\.2 for a test, got 3"):
        video.time_s(3)
    with pytest.raises(IndexError, match=r"in 0\.\.2 for a test, got -1"):
        video.frame(-1)
    with pytest.raises(VideoError, match=r"expected a frame number, got 1\.5"):
        video.time_s(1.5)  # type: ignore[arg-type]


def test_items_count_from_the_end_too() -> None:
    """video[-2] is the frame before the last."""
    assert Counting()[-2][0, 0, 0] == 1


def test_a_block_closes_the_source() -> None:
    """A `with` block closes the source at its end."""
    with Counting() as video:
        pass

    assert video.closed  # type: ignore[attr-defined]
    assert repr(video) == "Counting(a test, frame_count=3)"


def test_digests_depend_on_number_shape_and_pixels() -> None:
    """The digest of frames changes with their number, their shape and any pixel."""
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    digests = {
        digest_frames(2, frame),
        digest_frames(3, frame),
        digest_frames(2, frame.reshape(1, 4, 3)),
        digest_frames(2, frame + 1),
        digest_frames(2, frame, frame),
    }

    assert len(digests) == 5
    assert digest_frames(2, frame) == digest_frames(2, np.asfortranarray(frame))
