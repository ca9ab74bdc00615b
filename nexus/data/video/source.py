"""What every video is to the rest of Nexus: numbered frames, each with its time in seconds."""

from __future__ import annotations

import hashlib
import operator
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import VideoError


class FrameIndexError(VideoError, IndexError):
    """A video has no frame of that number; also an `IndexError`."""


class VideoSource(ABC):
    """Frames of one size, numbered from 0, read when they are asked for and never all kept.

    `frame` may be called from several threads. A source is a context manager, and iterating over
    it gives its frames in order.

    Attributes:
        name: What the source is, for messages.
        path: The file or folder it is read from; None if there is none.
        seekable: Whether frames can be read in any order, and again.
        rate: Frames per second, an average where the rate varies.
        truncated: Whether the source turned out to end before what it announces.
        notes: What makes the frames less than what was asked for; empty if nothing does.
    """

    name: str
    path: Path | None = None
    seekable: bool = True
    rate: float
    truncated: bool = False
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @property
    @abstractmethod
    def frame_count(self) -> int | None:
        """Number of frames; None as long as it is not known, as for a camera."""

    @property
    @abstractmethod
    def size_hw(self) -> tuple[int, int]:
        """Height and width of every frame, upright, in pixels."""

    @abstractmethod
    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return a frame by its number, from 0: (H, W, 3) uint8 RGB, upright.

        It may be the caller's own memory; do not write to it.

        Raises:
            FrameIndexError: There is no such frame.
            VideoError: The frame cannot be read, is not of the size of the others, or is behind
                in a source that only goes forward.
        """

    @abstractmethod
    def fingerprint(self) -> str | None:
        """Return a digest that tells this source from others, without reading all of it.

        It is the same in every process, and None where a source cannot be read again.
        """

    def time_s(self, index: int) -> float:
        """Return when a frame is shown, in seconds from the start of the video.

        Raises:
            FrameIndexError: There is no such frame.
        """
        return self.checked(index) / self.rate

    def has(self, index: int) -> bool:
        """Say whether there is a frame of that number."""
        count = self.frame_count
        return count is not None and 0 <= index < count

    def checked(self, index: int) -> int:
        """Return a frame number as int if the video may have it.

        Raises:
            FrameIndexError: It is not a whole number, or out of range.
        """
        try:
            number = operator.index(index)
        except TypeError as error:
            raise FrameIndexError(
                f"expected a frame number, got {index!r}", hint="frames are numbered from 0"
            ) from error
        count = self.frame_count
        if number < 0 or (count is not None and number >= count):
            there = "0 or higher" if count is None else f"in 0..{count - 1}"
            raise FrameIndexError(
                f"expected a frame number {there} for {self.name}, got {number}",
                hint=" ".join(self.notes) or None,
            )
        return number

    def close(self) -> None:  # noqa: B027 - most sources hold nothing that needs closing
        """Release what the source holds; its frames cannot be read afterwards."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return one frame; negative numbers count from the end where that is known."""
        count = self.frame_count
        return self.frame(index + count if index < 0 and count is not None else index)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        index = 0
        while self.has(index):
            try:
                picture = self.frame(index)
            except FrameIndexError:  # its end turned out to be damaged, and a warning said so
                return
            yield picture
            index += 1

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        count = "unknown" if self.frame_count is None else self.frame_count
        return f"{type(self).__name__}({self.name}, frame_count={count})"


def digest_frames(count: int, *frames: NDArray[np.uint8]) -> str:
    """Return a digest of a number of frames and of some of their pixels."""
    digest = hashlib.sha256(f"frames {count}".encode())
    for frame in frames:
        digest.update(f" {frame.shape} ".encode())
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()
