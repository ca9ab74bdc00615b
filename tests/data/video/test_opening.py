from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nexus.core.errors import InputError, VideoError
from nexus.data.video.file_reader import VideoFile, VideoNotFoundError
from nexus.data.video.opening import FrameList, FrameStream, open_video
from nexus.data.video.source import FrameIndexError, VideoSource

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)


def folder_of(path: Path, names: list[str], frames: np.ndarray = FRAMES) -> Path:
    path.mkdir()
    for name, frame in zip(names, frames, strict=False):
        Image.fromarray(frame).save(path / name)
    return path


def generator() -> Iterator[np.ndarray]:
    yield from FRAMES


def test_every_kind_of_source_gives_the_same_frames(tmp_path: Path) -> None:
    """Folder, stack, tensor, list and iterator of the same pictures give the same frames."""
    folder = folder_of(tmp_path / "frames", [f"{index:05}.png" for index in range(5)])
    paths = sorted(folder.iterdir())
    sources: dict[str, Any] = {
        "folder": folder,
        "folder as str": str(folder),
        "stack": FRAMES,
        "float stack": FRAMES / 255,
        "uint16 stack": FRAMES.astype(np.uint16) * 257,
        "tensor, channels first": torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
        "tensor, channels last": torch.from_numpy(FRAMES),
        "float tensor": torch.from_numpy(FRAMES).permute(0, 3, 1, 2) / 255,
        "list of arrays": list(FRAMES),
        "tuple of pictures": tuple(Image.fromarray(frame) for frame in FRAMES),
        "list of paths": paths,
        "list of names": [str(path) for path in paths],
        "mixed list": [paths[0], *FRAMES[1:3], Image.fromarray(FRAMES[3]), FRAMES[4]],
        "generator": generator(),
        "iterator": iter(list(FRAMES)),
    }

    for kind, source in sources.items():
        with open_video(source) as video:
            assert video.size_hw == (6, 8), kind
            frames = list(video)
        np.testing.assert_array_equal(frames, FRAMES, err_msg=kind)
        assert all(frame.dtype == np.uint8 for frame in frames), kind


def test_grey_stacks_become_rgb() -> None:
    """(T, H, W) and (T, H, W, 1) are repeated over three channels."""
    grey = FRAMES[..., 0]

    for stack in (grey, grey[..., None]):
        np.testing.assert_array_equal(open_video(stack)[2], np.repeat(grey[2, ..., None], 3, 2))


def test_a_file_opens_as_a_video_file(clips: Any, tmp_path: Path) -> None:
    """A path to a file is read with PyAV, with times of its own; an open source stays itself."""
    path = clips.make(tmp_path / "clip.mp4", 10)

    with open_video(str(path)) as video:
        assert isinstance(video, VideoFile)
        assert clips.number(video[7]) == 7
        assert clips.number(video[-1]) == 9
        assert video.time_s(3) == pytest.approx(0.1)
        assert open_video(video) is video


def test_frames_of_a_folder_are_in_the_order_people_count(tmp_path: Path) -> None:
    """frame2 comes before frame10; hidden files and other kinds of file are no frames."""
    names = ["f10.png", "f2.PNG", "f1.png"]
    folder = folder_of(tmp_path / "frames", names)
    (folder / "notes.txt").write_text("x")
    (folder / ".f3.png").write_bytes(b"x")

    with open_video(folder) as video:
        assert video.frame_count == 3
        np.testing.assert_array_equal(list(video), FRAMES[[2, 1, 0]])


def test_sources_without_times_have_a_rate() -> None:
    """Frames without times are `rate` to the second, 25 unless said otherwise."""
    assert open_video(FRAMES).time_s(4) == pytest.approx(4 / 25)
    assert open_video(FRAMES, rate=10).time_s(4) == pytest.approx(0.4)
    assert open_video(iter(FRAMES), rate=10).time_s(4) == pytest.approx(0.4)


def test_a_rate_that_makes_no_sense_is_refused(clips: Any, tmp_path: Path) -> None:
    """A rate of 0 is an error, and so is one for a file with times of its own."""
    with pytest.raises(InputError, match="expected rate in frames per second above 0, got 0"):
        open_video(FRAMES, rate=0)
    with pytest.raises(InputError, match="expected no rate .* got rate=30"):
        open_video(clips.make(tmp_path / "clip.mp4", 3), rate=30)


def test_frames_are_loaded_when_asked_for() -> None:
    """Opening a list reads the first frame only, and every call reads anew."""
    asked = []

    class Lazy:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> np.ndarray:
            if index:
                asked.append(index)
            return FRAMES[index % 5]

    video = FrameList(Lazy(), 25, None, "lazy")
    video.frame(700)

    assert asked == [700]
    assert video.frame_count == 1000


def test_fingerprints_do_not_depend_on_the_form(tmp_path: Path) -> None:
    """The same pictures have the same fingerprint as folder and stack, other pictures another."""
    folder = folder_of(tmp_path / "frames", [f"{index}.png" for index in range(5)])
    changed = FRAMES.copy()
    changed[2, 0, 0, 0] ^= 1

    prints = [open_video(source).fingerprint() for source in (folder, FRAMES, changed, FRAMES[:4])]

    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert open_video(generator()).fingerprint() is None


def test_frames_of_several_sizes_are_refused(tmp_path: Path) -> None:
    """A frame of another size is named: of files when opening, of arrays when reading."""
    folder = folder_of(tmp_path / "frames", ["0.png", "1.png"])
    Image.new("RGB", (9, 9)).save(folder / "2.png")
    Image.new("RGB", (6, 8)).save(tmp_path / "turned.png")

    with pytest.raises(VideoError, match=r"8 x 6 pixels like 0\.png, got 2\.png with 9 x 9"):
        open_video(folder)
    with pytest.raises(VideoError, match=r"8 x 6 pixels .* frame 1 of a list .* with 4 x 6"):
        list(open_video([FRAMES[0], FRAMES[0][:, :4]]))
    with pytest.raises(VideoError, match=r"got frame 1 \(turned\.png\) of a list .* with 6 x 8"):
        list(open_video([folder / "0.png", tmp_path / "turned.png"]))
    with pytest.raises(VideoError, match=r"got frame 1 of an iterator .* with 4 x 6"):
        list(open_video(iter([FRAMES[0], FRAMES[0][:, :4]])))


def test_two_files_for_one_frame_are_refused(tmp_path: Path) -> None:
    """A folder that holds frames and masks under one name is an error that names both."""
    folder = folder_of(tmp_path / "frames", ["0.png", "0.jpg", "1.png"])

    with pytest.raises(VideoError, match=r"one file per frame .* got 0\.jpg and 0\.png"):
        open_video(folder)


def test_empty_sources_are_refused(tmp_path: Path) -> None:
    """No frames is an error for every kind of source."""
    (tmp_path / "nothing").mkdir()

    with pytest.raises(VideoError, match="without pictures"):
        open_video(tmp_path / "nothing")
    with pytest.raises(VideoError, match="at least one frame, got a list of frames with none"):
        open_video([])
    with pytest.raises(VideoError, match="at least one frame, got a stack of shape"):
        open_video(FRAMES[:0])
    with pytest.raises(VideoError, match="at least one frame, got an iterator"):
        _ = open_video(iter([])).size_hw
    assert list(open_video(iter([]))) == []


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (FRAMES[0], "expected an array of shape .* got shape .6, 8, 3.", r"frame\[None\]"),
        (FRAMES.transpose(0, 3, 1, 2), "expected an array of shape", "transpose"),
        (torch.from_numpy(FRAMES[0]), "expected a tensor of shape", r"frame\[None\]"),
        (np.zeros((2, 5, 5, 7), np.uint8), "got shape .2, 5, 5, 7.", None),
        (b"mp4", "got bytes", "to a file"),
        (Image.fromarray(FRAMES[0]), "got Image", "in a list"),
        ({0: FRAMES[0]}, "got dict", None),
        (3, "got int", "generator"),
        (FRAMES.astype(np.int64), "^frame 0 of a stack .*: expected an image of uint8", "uint8"),
        ([FRAMES[0], "missing.png"][1:], r"^frame 0 \(missing.png\) of a list", None),
    ],
)
def test_what_is_no_video_is_refused(source: Any, message: str, hint: str | None) -> None:
    """A source of another form gets an error that says what is expected."""
    with pytest.raises(VideoError, match=message) as caught:
        open_video(source)
    if hint:
        assert caught.match(hint)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    """A path that does not exist is a FileNotFoundError; an address gets a hint."""
    with pytest.raises(VideoNotFoundError, match="which does not exist"):
        open_video(tmp_path / "missing.mp4")
    with pytest.raises(FileNotFoundError, match="download it first"):
        open_video("https://example.org/clip.mp4")


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    """The error about a frame that cannot be read names its number, file and folder."""
    folder = folder_of(tmp_path / "frames", ["0.png", "1.png", "2.png"])
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:60])
    video = open_video(folder)

    with pytest.raises(VideoError, match=r"^frame 1 \(1\.png\) of '.*frames': expected a whole"):
        video.frame(1)
    np.testing.assert_array_equal(video.frame(2), FRAMES[2])


def test_large_pictures_are_refused() -> None:
    """max_pixels holds for every frame of every kind of source."""
    with pytest.raises(VideoError, match="expected at most 40 pixels, got an array of 8 x 6"):
        open_video(FRAMES, max_pixels=40)
    with pytest.raises(VideoError, match="^frame 0 of an iterator .* at most 40 pixels"):
        list(open_video(iter(FRAMES), max_pixels=40))


def test_an_iterator_goes_forward_only() -> None:
    """The current and the next frame of an iterator can be had; nothing else, and errors say so."""
    video = open_video(generator())

    assert isinstance(video, FrameStream)
    assert not video.seekable
    assert video.frame_count is None
    np.testing.assert_array_equal(video.frame(0), FRAMES[0])
    np.testing.assert_array_equal(video.frame(1), FRAMES[1])
    np.testing.assert_array_equal(video.frame(1), FRAMES[1])
    with pytest.raises(VideoError, match="expected frame 1 or the next .* got 0, which is over"):
        video.frame(0)
    with pytest.raises(VideoError, match="expected frame 2, the next .* got 4"):
        video.frame(4)
    assert [video.frame(index)[0, 0, 0] for index in (2, 3, 4)] == FRAMES[2:, 0, 0, 0].tolist()
    with pytest.raises(FrameIndexError, match=r"expected a frame number in 0\.\.4 .* got 5"):
        video.frame(5)
    assert video.frame_count == 5


def test_an_iterator_is_asked_one_frame_at_a_time() -> None:
    """A camera is never read ahead: a frame is taken when it is asked for."""
    taken = []

    def camera() -> Iterator[np.ndarray]:
        for index, frame in enumerate(FRAMES):
            taken.append(index)
            yield frame

    video = open_video(camera())
    seen = [(len(taken), frame.shape) for frame in video]

    assert [count for count, _ in seen] == [1, 2, 3, 4, 5]


def test_an_iterator_that_raises_says_at_which_frame() -> None:
    """The frames before are fine; the error is wrapped with its number, and keeps its cause."""

    def broken() -> Iterator[np.ndarray]:
        yield from FRAMES[:3]
        raise RuntimeError("the cable came off")

    video = open_video(broken())
    seen: list[np.ndarray] = []

    with pytest.raises(
        VideoError, match="expected frame 3 of an iterator .* RuntimeError: the cable came off"
    ) as caught:
        seen.extend(video)
    assert len(seen) == 3
    assert isinstance(caught.value.__cause__, RuntimeError)
    np.testing.assert_array_equal(video.frame(2), FRAMES[2])


def test_closing_an_iterator_ends_its_generator() -> None:
    """A generator is closed with its source, so that a camera behind it is let go."""
    closed = []

    def camera() -> Iterator[np.ndarray]:
        try:
            yield from FRAMES
        finally:
            closed.append(True)

    with open_video(camera()) as video:
        video.frame(0)

    assert closed == [True]


def test_threads_share_an_iterator() -> None:
    """The next frame asked for by several threads at once is taken once."""
    video = open_video(generator())
    got: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: got.append(video.frame(0))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(got) == 8
    assert all(np.array_equal(frame, FRAMES[0]) for frame in got)


def test_videos_need_no_torch() -> None:
    """Importing the module and reading a stack loads neither torch nor PyAV."""
    code = (
        "import sys, numpy, nexus.data.video as videos; "
        "videos.open_video(numpy.zeros((2, 4, 4, 3), 'uint8'))[1]; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'av')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_frames_survive_the_way_through_a_file(shared_data: Path, tmp_path: Path) -> None:
    """DAVIS frames written as mp4 and read back have their number, time and look."""
    from nexus.data.video.video_writer import VideoWriter

    folder = tmp_path / "frames"
    shutil.copytree(shared_data / "davis16_video" / "car-shadow" / "images", folder)
    source: VideoSource = open_video(folder, rate=24)
    with VideoWriter(tmp_path / "clip.mp4", source.size_hw, rate=24) as writer:
        for index, frame in enumerate(source):
            writer.write(frame, source.time_s(index))

    with open_video(tmp_path / "clip.mp4") as video:
        assert video.frame_count == source.frame_count == 40
        assert video.size_hw == source.size_hw == (480, 854)
        for index in (39, 0, 20, 21, 7):
            error = video[index].astype(float) - source[index]
            others = [
                np.square(video[index].astype(float) - source[other]).mean()
                for other in (index - 1, index + 1)
                if 0 <= other < 40
            ]
            assert 10 * np.log10(255**2 / np.square(error).mean()) > 33
            assert np.square(error).mean() < min(others)
            assert video.time_s(index) == pytest.approx(source.time_s(index), abs=1e-5)
