from __future__ import annotations

import random
import sys
import threading
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import (
    ImageError,
    MissingDependencyError,
    NexusWarning,
    VideoError,
)
from nexus.data.video.file_reader import VideoFile, VideoNotFoundError
from nexus.data.video.packet_index import VideoIndex
from nexus.data.video.source import FrameIndexError

COUNT = 60
VFR_S = [Fraction(index * index + 30 * index, 900) for index in range(COUNT)]
# Container and codec, and what is special about it.
KINDS: dict[str, dict[str, Any]] = {
    "cfr.mp4": {},
    "vfr.mp4": {"times": VFR_S},
    "one_key.mp4": {"key_every": 1000},
    "all_keys.mp4": {"key_every": 1},
    "open_gop.mp4": {"key_every": 20, "options": {"x264-params": "open-gop=1:scenecut=0"}},
    "open_gop.mkv": {"key_every": 20, "options": {"x264-params": "open-gop=1:scenecut=0"}},
    "pyramid.mov": {"b_frames": 7, "options": {"x264-params": "b-pyramid=normal:b-adapt=0"}},
    "refresh.mp4": {"options": {"x264-params": "intra-refresh=1"}},
    "b_frames.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9", "b_frames": None, "time_base": Fraction(1, 1000)},
    "hevc.mp4": {"codec": "libx265", "b_frames": None, "options": {"x265-params": "log-level=0"}},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2, "time_base": Fraction(1, 30)},
    "stream.ts": {},
    "ten_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray", "b_frames": None},
    "alpha.webm": {
        "codec": "libvpx-vp9",
        "pix_fmt": "yuva420p",
        "b_frames": None,
        "time_base": Fraction(1, 1000),
    },
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


def opened(path: Path, **options: Any) -> VideoFile:
    return VideoFile(path, **{"max_pixels": None, **options})


def noise(index: int, size_hw: tuple[int, int]) -> np.ndarray:
    """Draw noise, different in each frame, so that the packets are large."""
    return np.random.default_rng(index).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", KINDS)
def test_frames_come_in_order_and_by_number(name: str, clips: Any, tmp_path: Path) -> None:
    """Every frame is the right one forward, backward and at random, whatever the file is like."""
    path = clips.make(tmp_path / name, COUNT, **KINDS[name])
    order = [random.Random(0).randrange(COUNT) for _ in range(40)]

    with opened(path) as video:
        forward = [clips.number(frame) for frame in video]
        backward = [clips.number(video.frame(index)) for index in reversed(range(COUNT))]
    with opened(path, cache_mb=0) as video:
        jumps = [clips.number(video.frame(index)) for index in order]

    assert video.frame_count == COUNT
    assert forward == list(range(COUNT))
    assert backward == list(reversed(range(COUNT)))
    assert jumps == order
    assert not video.truncated
    assert video.notes == ()


def test_times_are_those_of_the_file(clips: Any, tmp_path: Path) -> None:
    """A variable frame rate is kept, to the resolution of the container."""
    with opened(clips.make(tmp_path / "vfr.mp4", times=VFR_S)) as video:
        times = [video.time_s(index) for index in range(COUNT)]
    with opened(clips.make(tmp_path / "vfr.mkv", times=VFR_S)) as coarse:
        rounded = [coarse.time_s(index) for index in range(COUNT)]

    np.testing.assert_allclose(times, [float(time) for time in VFR_S], atol=1e-5)
    np.testing.assert_allclose(rounded, [float(time) for time in VFR_S], atol=6e-4)


def test_a_late_start_is_kept_in_mp4_only(clips: Any, tmp_path: Path) -> None:
    """MP4 time 0 is the start of the video; a transport stream starts at any number."""
    late = [Fraction(index + 15, 30) for index in range(20)]

    with opened(clips.make(tmp_path / "late.mp4", 20, times=late)) as video:
        assert video.time_s(0) == pytest.approx(0.5)
        assert clips.number(video.frame(3)) == 3
    with opened(clips.make(tmp_path / "late.ts", 20, times=late)) as video:
        assert video.time_s(0) == 0
        assert video.time_s(1) == pytest.approx(1 / 30, abs=1e-4)


def test_frames_an_edit_list_hides_do_not_count(clips: Any, tmp_path: Path) -> None:
    """What a trimmed MP4 file keeps before its start for decoding is no frame of it."""
    import av

    path = tmp_path / "trimmed.mp4"
    source = clips.make(tmp_path / "whole.mp4", COUNT, key_every=30, b_frames=0)
    with av.open(str(source)) as whole, av.open(str(path), "w") as trimmed:
        stream = trimmed.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - 30000, packet.dts - 30000
                packet.stream = stream
                trimmed.mux(packet)

    with opened(path) as video:
        numbers = [clips.number(frame) for frame in video]
        first_s = video.time_s(0)
        jump = clips.number(video.frame(5))

    assert numbers == list(range(10, COUNT))
    assert first_s == pytest.approx(0)
    assert jump == 15


@pytest.mark.parametrize("open_gop", [0, 1])
def test_a_recording_starts_at_its_first_key_frame(
    open_gop: int, clips: Any, tmp_path: Path
) -> None:
    """Frames of a stream joined in the middle that nothing leads up to are no frames of it."""
    params = f"open-gop={open_gop}:scenecut=0"
    path = clips.make(tmp_path / "clip.ts", key_every=20, options={"x264-params": params})
    data = path.read_bytes()
    tables, start = data[: 3 * 188], len(data) // 4 // 188 * 188
    path.write_bytes(tables + data[start:])

    with opened(path) as video:
        numbers = [clips.number(frame) for frame in video]
        jumps = [clips.number(video.frame(index)) for index in (7, 0)]

    assert numbers[0] in (20, 40)
    assert numbers == list(range(numbers[0], COUNT))
    assert jumps == [numbers[7], numbers[0]]


def test_reading_on_never_seeks(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One frame after the other is one pass of the decoder; a step ahead is, too."""
    with opened(clips.make(tmp_path / "clip.mp4")) as video:
        seeks: list[int] = []
        monkeypatch.setattr(video, "_seek", seeks.append)
        numbers = [clips.number(frame) for frame in video][:30]
    with opened(tmp_path / "clip.mp4") as video:
        monkeypatch.setattr(video, "_seek", seeks.append)
        steps = [clips.number(video.frame(index)) for index in range(0, COUNT, 4)]

    assert numbers == list(range(30))
    assert steps == list(range(0, COUNT, 4))
    assert seeks == []


def test_a_seek_that_misses_is_made_good(
    clips: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a container's seek lands too late or fails, decoding starts over and is exact."""
    path = clips.make(tmp_path / "clip.mp4", key_every=10)
    with opened(path, cache_mb=0) as video:
        late = int(video._index.packet_pts[50])
        for stamps in ([late], [], [late, -(1 << 62)]):
            monkeypatch.setattr(VideoIndex, "stamps", lambda self, position, s=stamps: s)
            assert [clips.number(video.frame(index)) for index in (33, 5, 47)] == [33, 5, 47]


def test_kept_frames_are_bounded(clips: Any, tmp_path: Path) -> None:
    """However long the video, no more than cache_mb of decoded frames are kept, and one at 0."""
    path = clips.make(tmp_path / "clip.mp4", 20, size_hw=(480, 640), key_every=5)

    with opened(path, cache_mb=1) as video:
        for _ in video:
            held = sum(
                plane.buffer_size for kept in video._cached.values() for plane in kept.planes
            )
            assert held <= 1 << 20
            assert held == video._held_bytes
    with opened(path, cache_mb=0) as video:
        for _ in video:
            assert len(video._cached) == 1


def test_the_rotation_of_a_phone_is_applied(clips: Any, tmp_path: Path) -> None:
    """Quarter turns and mirrorings in the file make upright frames; the size follows."""
    path = clips.make(tmp_path / "clip.mp4", 6, size_hw=(48, 80))
    with opened(path) as video:
        stored = video.frame(5)
    expected = {
        (0, 1, -1, 0): np.rot90(stored, -1),
        (0, -1, 1, 0): np.rot90(stored, 1),
        (-1, 0, 0, -1): np.rot90(stored, 2),
        (-1, 0, 0, 1): stored[:, ::-1],
        (1, 0, 0, -1): stored[::-1],
        (0, 1, 1, 0): stored.swapaxes(0, 1),
    }

    for matrix, upright in expected.items():
        with opened(clips.set_display_matrix(path, *matrix)) as video:
            assert video.size_hw == upright.shape[:2]
            np.testing.assert_array_equal(video.frame(5), upright)


def test_an_angle_that_is_no_quarter_turn_is_said(clips: Any, tmp_path: Path) -> None:
    """Frames to be shown at another angle come as stored, with a warning and a note."""
    path = clips.set_display_matrix(clips.make(tmp_path / "clip.mp4", 6), 1, 1, -1, 1)

    with pytest.warns(NexusWarning, match="no quarter turn"), opened(path) as video:
        number = clips.number(video.frame(3))

    assert number == 3
    assert "no quarter turn" in video.notes[0]


@pytest.mark.parametrize("matrix", ["bt709", "bt470bg"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 200, 0), (10, 20, 250)])
def test_the_stated_colours_are_used(
    matrix: str, colour: tuple[int, int, int], clips: Any, tmp_path: Path
) -> None:
    """The colour matrix that the file states is the one frames are converted with."""
    import av

    path = tmp_path / "colour.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1"})
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = {"bt709": 1, "bt470bg": 5}[matrix]
        image = np.full((64, 64, 3), colour, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format="yuv420p", dst_colorspace={"bt709": "ITU709", "bt470bg": "ITU601"}[matrix]
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    with opened(path) as video:
        pixel = video.frame(0)[32, 32].astype(int)

    assert np.abs(pixel - colour).max() <= 4


def test_a_file_without_timestamps_is_counted(clips: Any, tmp_path: Path) -> None:
    """A bare H.264 stream states no times: frames are counted, exactly, and a note says so."""
    path = clips.make(tmp_path / "bare.h264", 30)

    with pytest.warns(NexusWarning, match="no usable timestamps"), opened(path) as video:
        numbers = [clips.number(video.frame(index)) for index in (0, 29, 3, 17, 4)]

    assert video.frame_count == 30
    assert numbers == [0, 29, 3, 17, 4]
    assert video.time_s(10) == pytest.approx(10 / video.rate)


@pytest.mark.parametrize(
    ("suffix", "codec", "b_frames"),
    [
        (".mp4", "libx264", 3),
        (".mkv", "libx264", 3),
        # Decoders that make a picture of half a packet without a word.
        (".mp4", "mpeg4", 0),
        (".mp4", "libvpx-vp9", None),
    ],
)
@pytest.mark.parametrize("part", [0.3, 0.55, 0.8])
def test_a_cut_off_file_gives_its_good_frames(
    suffix: str, codec: str, b_frames: int | None, part: float, clips: Any, tmp_path: Path
) -> None:
    """A truncated tail is found when opening: length, warning and notes agree on what is left."""
    import av

    whole = clips.make(
        tmp_path / f"whole{suffix}",
        codec=codec,
        b_frames=b_frames,
        time_base=Fraction(1, 30),
        draw=noise,
        container_options={"movflags": "faststart"} if suffix == ".mp4" else None,
    )
    path = tmp_path / f"cut{suffix}"
    cut = int(whole.stat().st_size * part)
    path.write_bytes(whole.read_bytes()[:cut])
    with av.open(str(whole)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    there = sum(end <= cut for end in ends)

    with pytest.warns(NexusWarning, match=r"cut short; it has \d+ good frames"):
        video = opened(path)
    with video, opened(whole) as complete:
        frames = list(video)
        again = video.frame(len(frames) - 1)
        expected = [complete.frame(index) for index in range(len(frames))]

    assert video.truncated
    assert f"{len(frames)} good frames" in video.notes[0]
    assert there - 4 <= len(frames) <= there
    np.testing.assert_array_equal(frames, expected)
    np.testing.assert_array_equal(again, frames[-1])
    with pytest.raises(FrameIndexError, match=f"(?s)in 0..{len(frames) - 1} for .*cut short"):
        video.checked(len(frames))


def test_a_file_cut_before_its_first_frame_is_refused(clips: Any, tmp_path: Path) -> None:
    """With no whole frame left there is nothing to yield, and the error says why."""
    options = {"movflags": "faststart"}
    whole = clips.make(tmp_path / "whole.mp4", draw=noise, container_options=options).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: whole.find(b"mdat") + 100])

    with pytest.raises(VideoError, match="with none: it is cut off before the first"):
        opened(path)


def test_a_file_cut_before_its_table_of_frames_is_refused(clips: Any, tmp_path: Path) -> None:
    """An MP4 file whose table stood at its end cannot be read once that is gone."""
    path = clips.make(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(VideoError, match="which cannot be opened") as caught:
        opened(path)
    assert "cut off before its table of frames" in str(caught.value.hint)


def damage(path: Path, first: int, last: int) -> Path:
    """Overwrite the packets of frames `first` to `last`; key frames only, so order is no matter."""
    import av

    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for index, packet in enumerate(container.demux(video=0)):
            if packet.size and first <= index <= last:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    return path


def test_a_damaged_frame_is_refused_and_the_others_are_not(clips: Any, tmp_path: Path) -> None:
    """A frame in the middle that cannot be decoded is an error; the rest stays readable."""
    path = damage(clips.make(tmp_path / "clip.mp4", 20, key_every=1, b_frames=0), 8, 8)

    with opened(path) as video:
        with pytest.raises(VideoError, match=r"expected frame 8 of .* cannot be decoded"):
            video.frame(8)
        numbers = [clips.number(video.frame(index)) for index in (7, 9, 19)]

    assert numbers == [7, 9, 19]
    assert video.frame_count == 20


def test_a_damaged_tail_ends_the_video(clips: Any, tmp_path: Path) -> None:
    """Where nothing more can be decoded, iteration ends with a warning and the length shrinks."""
    path = damage(clips.make(tmp_path / "clip.mp4", 20, key_every=1, b_frames=0), 15, 19)

    with opened(path) as video:
        with pytest.warns(NexusWarning, match="rest cannot be decoded; it has 15 good frames"):
            numbers = [clips.number(frame) for frame in video]
        with pytest.raises(FrameIndexError, match=r"in 0\.\.14"):
            video.frame(15)

    assert numbers == list(range(15))
    assert video.truncated
    assert video.frame_count == 15


def test_threads_get_the_frames_they_ask_for(clips: Any, tmp_path: Path) -> None:
    """Frames asked for by several threads at once are the right ones."""
    wrong: list[tuple[int, int]] = []
    with opened(clips.make(tmp_path / "clip.mp4"), cache_mb=0) as video:

        def read(seed: int) -> None:
            for _ in range(25):
                index = random.Random(seed).randrange(COUNT)
                seed += 7
                got = clips.number(video.frame(index))
                if got != index:
                    wrong.append((index, got))

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


def test_fingerprints_tell_files_apart(clips: Any, tmp_path: Path) -> None:
    """A copy has the fingerprint of the original, another video has not."""
    first = clips.make(tmp_path / "first.mp4", 20)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(first.read_bytes())
    other = clips.make(tmp_path / "other.mp4", 21)

    prints = []
    for path in (first, copy, other):
        with opened(path) as video:
            prints.append(video.fingerprint())

    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64


def test_large_frames_are_refused_before_decoding(clips: Any, tmp_path: Path) -> None:
    """Frames above max_pixels are refused from the header."""
    path = clips.make(tmp_path / "clip.mp4", 3)

    with pytest.raises(ImageError, match="expected at most 1,000 pixels, got frames of"):
        opened(path, max_pixels=1000)


def test_a_change_of_size_is_refused(clips: Any, tmp_path: Path) -> None:
    """A stream that changes its size on the way names both sizes."""
    path = tmp_path / "two.ts"
    small = clips.make(tmp_path / "small.ts", 5).read_bytes()
    large = clips.make(tmp_path / "large.ts", 5, size_hw=(96, 128), times=None).read_bytes()
    path.write_bytes(small + large)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NexusWarning)  # the times of the second part start again
        with (
            opened(path) as video,
            pytest.raises(VideoError, match="expected frames of 64 x 48 .* got one of 128 x 96"),
        ):
            list(video)


@pytest.mark.parametrize("cover", [False, True])
def test_audio_alone_is_refused(cover: bool, clips: Any, tmp_path: Path) -> None:
    """A sound file is no video, not even with a cover picture."""
    path = clips.make_audio(tmp_path / f"sound.{'mp4' if cover else 'm4a'}", cover=cover)

    with pytest.raises(VideoError, match="with audio.* and no video"):
        opened(path)


def test_what_is_no_video_is_refused(clips: Any, tmp_path: Path) -> None:
    """Text, nothing, a single picture and a missing file each get an error of their own."""
    from PIL import Image

    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    Image.fromarray(clips.picture(1)).save(tmp_path / "still.png")

    with pytest.raises(VideoError, match="which cannot be opened: Invalid data"):
        opened(tmp_path / "text.mp4")
    with pytest.raises(VideoError, match="which is empty"):
        opened(tmp_path / "empty.mp4")
    with pytest.raises(VideoError, match="which is a single picture"):
        opened(tmp_path / "still.png")
    with pytest.raises(VideoNotFoundError, match="which does not exist") as caught:
        opened(tmp_path / "missing.mp4")
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("kind", ["webp", "tiff"])
def test_many_pictures_in_a_file_are_not_called_one(tmp_path: Path, kind: str) -> None:
    """An animation that FFmpeg does not know is told by what it is, and what to do with it."""
    from PIL import Image

    first, *rest = (Image.new("RGB", (32, 32), (40 * i, 0, 0)) for i in range(3))
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=rest)

    with pytest.raises(VideoError, match=rf"a {kind.upper()} file of 3 pictures.*\n.*GIF") as got:
        opened(tmp_path / f"a.{kind}")
    assert "single" not in str(got.value)


def test_an_animated_avif_is_read_whole(tmp_path: Path) -> None:
    """The picture shown first, a stream of its own in such files, is not taken for the video."""
    from PIL import Image, features

    if not features.check("avif"):
        pytest.skip("needs a Pillow that writes AVIF")
    first, *rest = (Image.new("RGB", (32, 32), (40 * i, 0, 0)) for i in range(5))
    first.save(tmp_path / "a.avif", save_all=True, append_images=rest)

    with opened(tmp_path / "a.avif") as video:
        assert video.frame_count == 5
        assert video.frame(4)[..., 0].mean() == pytest.approx(160, abs=3)


def test_messages_have_the_path_as_it_was_given(tmp_path: Path) -> None:
    """An address keeps both slashes, and a path its dots."""
    for given in ("https://example.org/a//b.mp4", "./missing.mp4"):
        with pytest.raises(VideoNotFoundError) as caught:
            VideoFile(given, max_pixels=None)

        assert repr(given) in str(caught.value)


def test_a_playlist_is_not_followed(clips: Any, tmp_path: Path) -> None:
    """A playlist that is passed as a video cannot make the reader open other files."""
    clips.make(tmp_path / "a.ts", 30)
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n"
    for name in ("list.m3u8", "list.mp4"):
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError, match="which cannot be opened"):
            opened(tmp_path / name)


def test_damaged_packets_in_the_middle_are_said(clips: Any, tmp_path: Path) -> None:
    """Where the container knows of damage that decoders hide, a note and a warning say so."""
    path = clips.make(tmp_path / "clip.ts", b_frames=0)
    data = path.read_bytes()
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    video_packets = [place for place, packet in enumerate(packets) if packet[1] & 0x1F == 1]
    del packets[video_packets[len(video_packets) // 2]]
    path.write_bytes(b"".join(packets))

    with pytest.warns(NexusWarning, match="1 of its packets is damaged"), opened(path) as video:
        first = clips.number(video.frame(0))

    assert first == 0
    assert not video.truncated
    assert "may be wrong" in video.notes[0]


def test_a_closed_video_is_refused(clips: Any, tmp_path: Path) -> None:
    """After close, frames are gone and the error says so; closing twice is fine."""
    video = opened(clips.make(tmp_path / "clip.mp4", 3))
    video.close()
    video.close()

    with pytest.raises(VideoError, match="which has been closed"):
        video.frame(0)


def test_without_pyav_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyAV a video file asks for the extra `video`."""
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"a")

    with pytest.raises(MissingDependencyError, match="expected the package 'av'") as caught:
        opened(tmp_path / "clip.mp4")
    assert "nexus-segmentation[video]" in str(caught.value.hint)
