from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.data.video.packet_index import VideoIndex, first_gap, is_cut_short


def index_of(packet_pts: list[int], keys: list[int], pts: list[int] | None = None) -> VideoIndex:
    """Make an index of packets in decoding order."""
    packets = np.array(packet_pts, np.int64)
    shown = np.sort(packets) if pts is None else np.array(pts, np.int64)
    return VideoIndex(shown, packets, np.arange(len(packets)), np.array(keys), 0, False)


def test_decoding_starts_at_the_key_frame_before() -> None:
    """The nearest key frame comes first, then those before it, down to the first."""
    index = index_of([0, 1, 2, 3, 4, 5, 6], keys=[0, 2, 5])

    assert index.starts(6) == [5, 2, 0]
    assert index.starts(5) == [5, 2, 0]
    assert index.starts(4) == [2, 0]
    assert index.starts(0) == [0]


def test_frames_shown_before_a_key_frame_start_before_it() -> None:
    """In an open group of pictures, frames after a key frame in the file may be shown before it."""
    index = index_of([0, 3, 1, 2, 6, 4, 5, 7], keys=[0, 4])

    assert [index.starts(number)[0] for number in range(8)] == [0, 0, 0, 0, 0, 0, 4, 4]


def test_frames_and_packets_are_found_by_time() -> None:
    """A time that no frame has is not found, rather than rounded."""
    index = index_of([0, 30, 10, 20], keys=[0])

    assert [index.frame_at(time) for time in (0, 10, 30, 11, 40)] == [0, 1, 3, None, None]
    assert [index.packet_at(time) for time in (0, 10, 30, 11, 40)] == [0, 2, 1, None, None]
    assert index.stamps(1) == [1, 30]
    assert index.frame_of_packet(3) == 2


def test_the_end_can_be_left_out() -> None:
    """Leaving frames out marks the index as truncated."""
    index = index_of([0, 1, 2, 3], keys=[0]).without(2)

    assert index.frames.tolist() == [0, 1]
    assert index.truncated


def test_a_hole_near_the_end_is_found() -> None:
    """A long step counts as missing frames only where frames may still have been to come."""
    regular = np.arange(0, 100, 10)

    assert first_gap(regular, 90) == 10
    assert first_gap(np.append(regular, 130), 80) == 10
    assert first_gap(np.append(regular, 130), 130) == 11
    assert first_gap(np.array([0, 10]), 0) == 2


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"])
def test_a_file_that_ends_early_is_told_from_a_whole_one(
    name: str, clips: Any, tmp_path: Path
) -> None:
    """Containers that state lengths show whether they are whole; bytes after the end do no harm."""
    codec = "libvpx-vp9" if name.endswith("webm") else "mpeg4"
    path = clips.make(tmp_path / name, 20, codec=codec, b_frames=None, time_base=Fraction(1, 30))
    whole = is_cut_short(path)
    data = path.read_bytes()
    path.write_bytes(data + bytes(4))
    longer = is_cut_short(path)
    path.write_bytes(data[: len(data) * 2 // 3])

    assert not whole
    assert not longer
    assert is_cut_short(path)


def test_unknown_files_are_taken_as_whole(tmp_path: Path) -> None:
    """Nothing can be said about other kinds of file, nor about a stream of unknown length."""
    text = tmp_path / "a.txt"
    text.write_text("abc")
    live = tmp_path / "live.webm"
    live.write_bytes(b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + b"..")

    assert not is_cut_short(text)
    assert not is_cut_short(live)
