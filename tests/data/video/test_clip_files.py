from __future__ import annotations

from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.data.video.clip_files import find_clips, holds_clips
from nexus.data.video.file_reader import VideoNotFoundError


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Return a folder with clips of both kinds, and with what is none."""
    root = tmp_path / "clips"
    for name in ("b.mp4", "a.MOV", "set/b.mp4", ".hidden.mp4", "notes.txt", "out/a/overlay.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "frames").mkdir()
    (root / "frames" / "0.png").touch()
    (root / "frames" / "beside.mp4").touch()
    return root


def test_clips_are_videos_and_folders_of_frames(clips: Path) -> None:
    """They come in the order of their names, each with a name of its own, without the results."""
    found = find_clips(clips, leave_out=clips / "out")

    assert [(clip.file_name, clip.name) for clip in found] == [
        ("a.MOV", "a"),
        ("b.mp4", "b"),
        ("frames", "frames"),
        ("set/b.mp4", "set-b"),
    ]
    assert [clip.path for clip in found] == [clips / clip.file_name for clip in found]


def test_clips_and_folders_may_be_mixed(clips: Path) -> None:
    """A file is taken whatever its ending, once; names start at what all have in common."""
    given = [clips / "notes.txt", clips / "set", clips / "frames", clips / "set" / "b.mp4"]

    assert [(clip.file_name, clip.name) for clip in find_clips(given)] == [
        ("notes.txt", "notes"),
        ("set/b.mp4", "b"),
        ("frames", "frames"),
    ]
    assert [clip.file_name for clip in find_clips(clips / "frames")] == ["frames"]
    assert [clip.file_name for clip in find_clips(clips / "b.mp4")] == ["b.mp4"]


def test_a_folder_of_clips_is_no_clip(clips: Path, tmp_path: Path) -> None:
    """A video file, a folder of frames, an empty folder and nothing at all are not many clips."""
    (tmp_path / "empty").mkdir()

    assert holds_clips(clips)
    assert not any(map(holds_clips, (clips / "b.mp4", clips / "frames", tmp_path / "empty")))
    assert not holds_clips(tmp_path / "no")


def test_what_holds_no_clip_is_named(clips: Path, tmp_path: Path) -> None:
    """A path without anything, an empty folder and an empty list are refused."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(VideoNotFoundError, match=r"got '.*no\.mp4', which does not exist"):
        find_clips([clips / "b.mp4", tmp_path / "no.mp4"])
    with pytest.raises(InputError, match="expected a folder with clips in it, got '.*empty'"):
        find_clips(tmp_path / "empty")
    with pytest.raises(InputError, match="expected at least one clip"):
        find_clips([])
