from __future__ import annotations

import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError, NexusWarning
from nexus.data.video import video_writer
from nexus.data.video.opening import open_video
from nexus.data.video.video_writer import VideoWriter

COUNT = 30


def numbers_in(path: Path, clips: Any) -> list[int]:
    with open_video(path) as video:
        return [clips.number(frame) for frame in video]


def write_clip(
    path: Path,
    clips: Any,
    after: Callable[[VideoWriter], None] = lambda writer: None,
    **options: Any,
) -> VideoWriter:
    """Write numbered frames, and call `after` after each."""
    with VideoWriter(path, (48, 64), **options) as writer:
        for index in range(COUNT):
            writer.write(clips.picture(index))
            after(writer)
    return writer


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm"])
def test_what_is_written_can_be_read(suffix: str, clips: Any, tmp_path: Path) -> None:
    """Every container holds the frames in order, a `rate`th of a second apart."""
    path = tmp_path / f"clip{suffix}"
    writer = write_clip(path, clips, rate=Fraction(30000, 1001))

    assert numbers_in(path, clips) == list(range(COUNT))
    assert writer.frame_count == COUNT
    assert files_in(tmp_path) == [path.name]
    with open_video(path) as video:
        times = [video.time_s(index) for index in range(COUNT)]
    np.testing.assert_allclose(times, np.arange(COUNT) * 1.001 / 30, atol=6e-4)


def test_times_of_the_source_are_kept(clips: Any, tmp_path: Path) -> None:
    """A variable frame rate and a late start come back as they were."""
    times = [0.25 + index / 30 + (index // 7) * 0.4 for index in range(COUNT)]
    with VideoWriter(tmp_path / "clip.mp4", (48, 64)) as writer:
        for index, time_s in enumerate(times):
            writer.write(clips.picture(index), time_s)

    with open_video(tmp_path / "clip.mp4") as video:
        np.testing.assert_allclose(
            [video.time_s(index) for index in range(COUNT)], times, atol=1e-5
        )


def test_browsers_can_play_it(clips: Any, tmp_path: Path) -> None:
    """MP4 is H.264 in 4:2:0 of 8 bits, its colours are stated, and its table comes first."""
    import av

    path = tmp_path / "clip.mp4"
    writer = write_clip(path, clips)
    data = path.read_bytes()
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        found = (context.name, context.pix_fmt, context.colorspace, context.color_range)
        duration_s = container.duration / 1_000_000

    assert found == ("h264", "yuv420p", 1, 1)
    assert writer.codec == "libx264"
    assert writer.notes == ()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    assert duration_s == pytest.approx(COUNT / 25, abs=0.01)


def test_colours_survive(tmp_path: Path) -> None:
    """What is read back has the colours that were written, to the rounding of 4:2:0 video."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (12, 200, 99), (255, 255, 255), (0, 0, 0)]
    with VideoWriter(tmp_path / "clip.mp4", (64, 64), crf=4) as writer:
        for colour in colours:
            writer.write(np.full((64, 64, 3), colour, np.uint8))

    with open_video(tmp_path / "clip.mp4") as video:
        for colour, frame in zip(colours, video, strict=True):
            assert np.abs(frame[32, 32].astype(int) - colour).max() <= 3


def test_odd_sides_get_a_copy_of_their_edge(clips: Any, tmp_path: Path) -> None:
    """An odd side is one longer in the file: its last row or column twice."""
    image = clips.picture(5, (49, 65))
    image[:, -1] = 255
    with VideoWriter(tmp_path / "clip.mp4", (49, 65), crf=4) as writer:
        writer.write(image)

    with open_video(tmp_path / "clip.mp4") as video:
        assert video.size_hw == (50, 66)
        assert clips.number(video[0]) == 5
        assert video[0][:49, 64:].min() > 240


def test_the_file_appears_whole(clips: Any, tmp_path: Path) -> None:
    """Until `close`, what the path held before stays; then it is the new video."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"before")
    writer = VideoWriter(path, (48, 64))
    writer.write(clips.picture(9))
    before = path.read_bytes()
    closed = writer.close()

    assert before == b"before"
    assert closed == writer.close() == path
    assert numbers_in(path, clips) == [9]
    with pytest.raises(InputError, match=r"clip.mp4', which is closed"):
        writer.write(clips.picture(1))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_what_was_written(
    error: type[BaseException], clips: Any, tmp_path: Path
) -> None:
    """Ctrl-C or an error inside the block leaves a valid file of the frames so far."""

    def fail(writer: VideoWriter) -> None:
        if writer.frame_count == 17:
            raise error

    with pytest.raises(error):
        write_clip(tmp_path / "clip.mp4", clips, fail)

    assert numbers_in(tmp_path / "clip.mp4", clips) == list(range(17))


def test_an_error_leaves_nothing_if_asked(clips: Any, tmp_path: Path) -> None:
    """With keep_partial=False, or before the first frame, an error leaves the folder as it was."""

    def fail(writer: VideoWriter) -> None:
        raise KeyError

    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", (48, 64)):
        raise KeyError
    with pytest.raises(KeyError):
        write_clip(tmp_path / "b.mp4", clips, fail, keep_partial=False)

    assert files_in(tmp_path) == []


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("when", [0, 5, 29])
def test_ctrl_c_during_a_frame_keeps_that_frame(
    when: int, clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of encoding takes effect after the frame, which is in the file."""
    original: Callable[..., Any] = VideoWriter._picture

    def interrupted(self: VideoWriter, frame: np.ndarray) -> Any:
        if self.frame_count == when:
            signal.raise_signal(signal.SIGINT)
        return original(self, frame)

    monkeypatch.setattr(VideoWriter, "_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_clip(tmp_path / "c.mp4", clips)

    assert numbers_in(tmp_path / "c.mp4", clips) == list(range(when + 1))
    assert files_in(tmp_path) == ["c.mp4"]


def test_a_disk_that_fails_leaves_no_broken_file(clips: Any, tmp_path: Path) -> None:
    """If the file cannot be finished, nothing of it stays."""

    class Full:
        def __init__(self, container: Any) -> None:
            self.container = container

        def close(self) -> None:
            self.container.close()

        def mux(self, packets: object) -> None:
            raise OSError(28, "No space left on device")

    def fill_up(writer: VideoWriter) -> None:
        writer._container = Full(writer._container)

    with pytest.raises(OSError, match="No space left"):
        write_clip(tmp_path / "clip.mp4", clips, fill_up)

    assert files_in(tmp_path) == []


def test_no_frames_make_no_file(tmp_path: Path) -> None:
    """A video without frames is an error, and leaves no file."""
    with (
        pytest.raises(InputError, match="at least one frame .*, got none"),
        VideoWriter(tmp_path / "a.mp4", (48, 64)),
    ):
        pass

    assert files_in(tmp_path) == []


@pytest.mark.parametrize("missing", [("libx264",), ("libx264", "libvpx-vp9", "libsvtav1")])
def test_another_encoder_is_said(
    missing: tuple[str, ...], clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without libx264 the next best encoder writes the file, with a warning and a note."""
    monkeypatch.setattr(video_writer, "has_encoder", lambda name: name not in missing)
    expected = "libvpx-vp9" if len(missing) == 1 else "mpeg4"

    with pytest.warns(NexusWarning, match=f"written with {expected}, as there is no encoder"):
        writer = write_clip(tmp_path / "clip.mp4", clips)

    assert writer.codec == expected
    assert "some players will not show it" in writer.notes[0]
    assert numbers_in(tmp_path / "clip.mp4", clips) == list(range(COUNT))


def test_no_encoder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An FFmpeg without any encoder for the suffix is an error that lists what was looked for."""
    monkeypatch.setattr(video_writer, "has_encoder", lambda name: False)

    with pytest.raises(InputError, match="none of libvpx-vp9, libsvtav1, libvpx"):
        VideoWriter(tmp_path / "clip.webm", (48, 64))
    with pytest.raises(InputError, match="an encoder of this machine's FFmpeg, got 'libx264'"):
        VideoWriter(tmp_path / "clip.mp4", (48, 64), codec="libx264")


def test_a_chosen_encoder_is_used(clips: Any, tmp_path: Path) -> None:
    """codec= takes any encoder there is; the error for others names those that fit."""
    writer = write_clip(tmp_path / "clip.mp4", clips, codec="mpeg4")

    assert writer.codec == "mpeg4"
    assert writer.notes == ()
    assert numbers_in(tmp_path / "clip.mp4", clips) == list(range(COUNT))
    with pytest.raises(InputError, match="got 'aac'") as caught:
        VideoWriter(tmp_path / "clip.mp4", (48, 64), codec="aac")
    assert "for .mp4 there is libx264" in str(caught.value.hint)


def test_what_cannot_be_written_is_refused(clips: Any, tmp_path: Path) -> None:
    """Suffix, size, rate, quality, frame and time are checked, and errors say what is expected."""
    for options, message in (
        ({"path": "clip.gif"}, r"ends in \.mp4, .* got 'clip.gif'"),
        ({"size_hw": (1, 64)}, r"at least 2 x 2 pixels, got \(1, 64\)"),
        ({"rate": 0}, "frames per second above 0, got 0"),
        ({"crf": 99, "codec": "libvpx-vp9"}, "settings that encoder libvpx-vp9 takes, .* crf=99"),
    ):
        arguments: dict[str, Any] = {"path": "clip.mp4", "size_hw": (48, 64), **options}
        with pytest.raises(InputError, match=message):
            VideoWriter(tmp_path / arguments.pop("path"), **arguments)
    assert files_in(tmp_path) == []
    with VideoWriter(tmp_path / "clip.mp4", (48, 64)) as writer:
        writer.write(clips.picture(0), 1.0)
        for frame, time_s, message in (
            (clips.picture(0)[:-1], None, r"shape \(48, 64, 3\) and uint8, got shape \(47"),
            (clips.picture(0) / 255, None, "got shape .* and float64"),
            (clips.picture(0), 1.0, "later than the one at 1 s, got time_s=1"),
            (clips.picture(0), -1.0, "0 or later, got -1"),
            (clips.picture(0), float("nan"), "0 or later, got nan"),
        ):
            with pytest.raises(InputError, match=message):
                writer.write(frame, time_s)
        writer.write(clips.picture(1))
    assert numbers_in(tmp_path / "clip.mp4", clips) == [0, 1]
