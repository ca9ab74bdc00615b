"""Videos in: files, folders, stacks, lists and cameras all become numbered RGB frames."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from fractions import Fraction
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import InputError, NexusError, VideoError, shown
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike, load_image
from nexus.data.video.file_reader import VideoFile
from nexus.data.video.source import VideoSource, digest_frames

if TYPE_CHECKING:
    import torch

VideoLike: TypeAlias = (
    "str | os.PathLike[str] | NDArray[Any] | torch.Tensor | Iterable[ImageLike] | VideoSource"
)
"""A video file, a folder of frames, a stack or list of frames, or an iterator of frames."""

DEFAULT_RATE = 25.0
"""Frames per second of sources that state no times of their own."""

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"))


def open_video(
    source: VideoLike,
    *,
    rate: float | Fraction | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> VideoSource:
    """Open any kind of video; use it in a `with` block, or close it.

    Args:
        source: A video file (needs the extra `video`); a folder of pictures, taken in the order
            people count (frame2 before frame10); an array (T, H, W, 3), (T, H, W, 1) or
            (T, H, W); a tensor (T, 3, H, W) or (T, H, W, 3); a list of anything `load_image`
            reads; or an iterator of the same, such as a camera, which only goes forward. An open
            `VideoSource` comes back as it is.
        rate: Frames per second of sources without times of their own; None is 25.
        max_pixels: Largest height x width of a frame; None for no limit.

    Raises:
        VideoNotFoundError: There is no such file or folder.
        VideoError: Not a video, without frames, or with frames of different sizes.
        ImageError: Frames of a video file have more than `max_pixels`.
        InputError: A rate that is not above 0, or one given for a file with its own times.
        MissingDependencyError: A video file, and PyAV is not installed.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if isinstance(source, VideoSource) or (
        isinstance(source, (str, os.PathLike)) and not Path(source).is_dir()
    ):
        if rate is not None:
            raise InputError(
                f"expected no rate for a source with times of its own, got rate={rate}",
                hint="leave rate out; to show the result faster, write it with other times",
            )
        if isinstance(source, VideoSource):
            return source
        return VideoFile(source, max_pixels=max_pixels)
    try:
        per_second = DEFAULT_RATE if rate is None else float(rate)
    except (TypeError, ValueError, OverflowError):
        per_second = 0.0
    if not 0 < per_second < float("inf"):
        raise InputError(f"expected rate in frames per second above 0, got {shown(rate)}")
    if path is not None:
        return _open_folder(path, per_second, max_pixels)
    if hasattr(source, "ndim") and hasattr(source, "shape"):
        return _open_stack(source, per_second, max_pixels)
    hint = "make a generator that yields the frames as RGB arrays"
    if isinstance(source, (bytes, bytearray, memoryview, Mapping, Set, Image.Image)):
        hint = "put a single picture in a list; write encoded video to a file"
    elif hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        sequence: Any = source
        _check_paths([item for item in sequence if isinstance(item, (str, os.PathLike))])
        return FrameList(sequence, per_second, max_pixels, "a list of frames")
    elif isinstance(source, Iterable):
        return FrameStream(iter(source), per_second, max_pixels)
    raise VideoError(
        f"expected a video as a path, a stack, a list or an iterator of frames, "
        f"got {type(source).__name__}",
        hint=hint,
    )


class _Frames(VideoSource):
    """Frames whose first one says which size they all have."""

    _max_pixels: int | None
    _size_hw: tuple[int, int] | None = None

    def _load(self, picture: ImageLike, what: str) -> NDArray[np.uint8]:
        """Return a picture as (H, W, 3) uint8 RGB, of the size of the first."""
        try:
            pixels = load_image(picture, max_pixels=self._max_pixels)
        except InputError as error:
            raise VideoError(f"{what}: {error.message}", hint=error.hint) from error
        height, width, _ = pixels.shape
        size_hw = self._size_hw = self._size_hw or (height, width)
        if (height, width) != size_hw:
            raise VideoError(
                f"expected frames of {size_hw[1]} x {size_hw[0]} pixels like the first, "
                f"got {what} with {width} x {height}",
                hint="bring all frames to one size",
            )
        if pixels.dtype == np.uint16:
            return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if pixels.dtype == np.float32:
            return np.rint(pixels * 255).astype(np.uint8)
        return pixels.astype(np.uint8, copy=False)


class FrameList(_Frames):
    """Frames that can be had one by one in any order, each loaded when it is asked for.

    Args:
        pictures: In any form `load_image` reads; anything with a length and places.
        rate: Frames per second.
        max_pixels: Largest height x width of a frame.
        name: What the source is, for messages.

    Raises:
        VideoError: There is no frame, or the first cannot be read.
    """

    def __init__(self, pictures: Any, rate: float, max_pixels: int | None, name: str) -> None:
        super().__init__()
        if not len(pictures):
            raise VideoError(f"expected at least one frame, got {name} with none")
        self.name = name
        self.rate = rate
        self._pictures = pictures
        self._max_pixels = max_pixels
        self.frame(0)

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self._pictures)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of every frame."""
        return self._size_hw or (0, 0)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame, (H, W, 3) uint8 RGB; see `VideoSource.frame`."""
        number = self.checked(index)
        picture = self._pictures[number]
        file = f" ({Path(picture).name})" if isinstance(picture, (str, os.PathLike)) else ""
        return self._load(picture, f"frame {number}{file} of {self.name}")

    def fingerprint(self) -> str:
        """Return a digest of the number of frames and of the first, middle and last one."""
        last = self.frame_count - 1
        return digest_frames(last + 1, *(self.frame(index) for index in (0, last // 2, last)))


class FrameStream(_Frames):
    """Frames of an iterator, such as a camera: each is had once, in order.

    Pictures, rate and limit are as in `FrameList`.
    """

    seekable = False

    def __init__(self, frames: Iterator[ImageLike], rate: float, max_pixels: int | None) -> None:
        super().__init__()
        self.name = "an iterator of frames"
        self.rate = rate
        self._frames = frames
        self._max_pixels = max_pixels
        self._current: NDArray[np.uint8] | None = None
        self._index = -1
        self._ended = False

    @property
    def frame_count(self) -> int | None:
        """Number of frames, None until the iterator has ended."""
        return self._index + 1 if self._ended else None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of every frame; asks for the first frame if there was none yet.

        Raises:
            VideoError: The iterator has no frame, or raises.
        """
        if self._size_hw is None and not self.has(0):
            raise VideoError(f"expected at least one frame, got {self.name} with none")
        return self._size_hw or (0, 0)

    def has(self, index: int) -> bool:
        """Say whether there is a frame of that number, asking the iterator for it if it is next.

        Raises:
            VideoError: The iterator raises.
        """
        with self._lock:
            if index == self._index + 1 and not self._ended:
                self._pull()
            return 0 <= index <= self._index

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return the current frame or the next one; see `VideoSource.frame`."""
        with self._lock:
            number = self.checked(index)
            if not self.has(number):
                self.checked(number)  # the iterator may just have ended
                raise VideoError(
                    f"expected frame {self._index + 1}, the next of {self.name}, got {number}",
                    hint="an iterator goes forward one by one; collect it in a list to jump",
                )
            if number < self._index or self._current is None:
                raise VideoError(
                    f"expected frame {self._index} or the next of {self.name}, got {number}, "
                    "which is over",
                    hint="an iterator goes forward one by one; collect it in a list to go back",
                )
            return self._current

    def fingerprint(self) -> None:
        """Return None: an iterator cannot be read again."""

    def close(self) -> None:
        """Close the iterator if it is a generator, and let go of the last frame."""
        with self._lock:
            self._current = None
            self._ended = True
            if isinstance(self._frames, GeneratorType):
                self._frames.close()

    def _pull(self) -> None:
        """Take the next frame from the iterator."""
        number = self._index + 1
        what = f"frame {number} of {self.name}"
        try:
            picture = next(self._frames)
        except StopIteration:
            self._ended = True
            return
        except NexusError:
            raise
        except Exception as error:  # a caller's iterator may raise anything
            raise VideoError(f"expected {what}, got {type(error).__name__}: {error}") from error
        self._current, self._index = self._load(picture, what), number


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder, in the order people count: frame2 before frame10."""

    def place(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", path.name)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    there = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((path for path in there if path.suffix.lower() in _SUFFIXES), key=place)


def _open_folder(folder: Path, rate: float, max_pixels: int | None) -> FrameList:
    paths = frame_files(folder)
    if not paths:
        raise VideoError(
            f"expected a folder of frames, got {str(folder)!r} without pictures",
            hint=f"frames are files that end in {', '.join(sorted(_SUFFIXES))}",
        )
    for before, after in zip(paths, paths[1:], strict=False):
        if before.stem == after.stem:
            raise VideoError(
                f"expected one file per frame in {str(folder)!r}, got {before.name} and "
                f"{after.name}",
                hint="keep frames and masks in folders of their own",
            )
    _check_paths(paths)
    frames = FrameList(paths, rate, max_pixels, repr(str(folder)))
    frames.path = folder
    return frames


def _open_stack(stack: Any, rate: float, max_pixels: int | None) -> FrameList:
    """Open an array or tensor whose first axis is time."""
    shape = tuple(int(side) for side in stack.shape)
    kind = "tensor" if hasattr(stack, "detach") else "stack"
    channels_first, channels_last = (
        len(shape) == 4 and shape[axis] in (1, 3, 4) for axis in (1, -1)
    )
    hint = "for a video of one frame pass frame[None]" if len(shape) < 4 else None
    if kind == "tensor":
        expected = "a tensor of shape (T, 3, H, W) or (T, H, W, 3)"
        fits = channels_first or channels_last
    else:
        expected = "an array of shape (T, H, W, 3), (T, H, W, 1) or (T, H, W)"
        fits = channels_last or (len(shape) == 3 and shape[2] not in (1, 3, 4))
        if channels_first:
            hint = "channels come last in a NumPy array: frames.transpose(0, 2, 3, 1)"
    if not fits:
        raise VideoError(f"expected {expected}, got shape {shape}", hint=hint)
    return FrameList(stack, rate, max_pixels, f"a {kind} of shape {shape}")


def _check_paths(paths: list[Any]) -> None:
    """Compare the sizes in the headers of picture files, to fail before hours of work.

    Which side is the height is left to `frame`: only decoding tells how a picture is rotated.
    """
    first: tuple[list[int], Any] | None = None
    for path in paths:
        try:
            with warnings.catch_warnings():
                # max_pixels is the limit that counts, and it is checked when a frame is read.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    sides = sorted(image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # the frame's own error says more when it is read
        first = first or (sides, path)
        if sides != first[0]:
            raise VideoError(
                f"expected frames of one size, {first[0][1]} x {first[0][0]} pixels like "
                f"{Path(first[1]).name}, got {Path(path).name} with {sides[1]} x {sides[0]}",
                hint="bring all frames to one size, or move the file elsewhere",
            )
