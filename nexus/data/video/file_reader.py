"""Read frames of a video file with PyAV, by number, exactly, and one at a time."""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import NexusWarning, VideoError
from nexus.core.packages import optional_module
from nexus.core.words import be, counted
from nexus.data.images.decoding import check_pixels, turned
from nexus.data.video.packet_index import first_gap, read_index
from nexus.data.video.source import VideoSource

if TYPE_CHECKING:
    import av

_SAMPLE_BYTES = 1 << 16
# Files that hold video, and a few that do not but deserve an error that says what they are. Not
# playlists, which would make the reader open other files and addresses.
_FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,av1,obu,ivf,m4v,flv,asf,ogg,gif,apng,"
    "nut,mxf,dv,yuv4mpegpipe,rm,mjpeg,image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,"
    "wav,mp3,flac,aac"
)
# Where a key frame does not lead to a frame, so many key frames before it are tried.
_ATTEMPTS = 3
# Decoding a few frames that are not wanted is cheaper than a seek.
_SHORT_WAY = 8


class VideoNotFoundError(VideoError, FileNotFoundError):
    """A video file does not exist; also a `FileNotFoundError`."""


class VideoFile(VideoSource):
    """A video file: MP4, MOV, WebM, MKV, AVI, TS and what else FFmpeg reads.

    The packets are read once when it is opened, and nothing but the first frame is decoded then.
    A frame that is not the next one is reached by a seek to the key frame before it and by
    decoding until its own timestamp comes up, so variable frame rates and B-frames are exact. The
    rotation a phone writes into the file is applied; pixels stay as stored otherwise. 10 and 12
    bits become 8, alpha is dropped.

    Args:
        path: The file.
        max_pixels: Largest height x width of a frame; None for no limit.
        cache_mb: Decoded frames to keep, in megabytes; helps when going backward.

    Raises:
        MissingDependencyError: PyAV is not installed.
        VideoNotFoundError: There is no such file.
        VideoError: Not a video, without frames, or in a codec that cannot be decoded.
        ImageError: Its frames are larger than `max_pixels`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_pixels: int | None, cache_mb: int = 64
    ) -> None:
        super().__init__()
        self.name = repr(os.fspath(path))
        self.path: Path = Path(path)
        self._max_pixels = max_pixels
        self._cache_bytes = cache_mb << 20
        self._cached: OrderedDict[int, av.VideoFrame] = OrderedDict()
        self._held_bytes = 0
        self._next: int | None = None
        self._pictures: Iterator[av.VideoFrame] = iter(())
        self._stored_wh: tuple[int, int] | None = None
        self._orientation = (False, False, False)
        self._container, self._stream = self._open()
        try:
            self._reformatter = import_av().video.reformatter.VideoReformatter()
            self._index = read_index(self._container, self._stream, self.path)
            self.rate = float(self._stream.average_rate or self._stream.guessed_rate or 25)
            self._seek(0)
            if count := self._index.damaged:
                self._note(
                    f"{count} of its packets {be(count)} damaged; frames near them may be wrong"
                )
            if self._index.pts is None:
                self._count()
            elif self._index.truncated:
                self._settle_end()
            height, width, _ = self._frame(0).shape
            self._size_hw = (height, width)
        except BaseException:
            self.close()
            raise

    @property
    def frame_count(self) -> int:
        """Number of frames that can be shown."""
        return self._counted if self._index.pts is None else len(self._index.pts)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of every frame, upright."""
        return self._size_hw

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return one frame, (H, W, 3) uint8 RGB; see `VideoSource.frame`."""
        with self._lock:
            return self._frame(self.checked(index))

    def time_s(self, index: int) -> float:
        """Return when a frame is shown, from its own timestamp, in seconds from the start."""
        number = self.checked(index)
        if self._index.pts is None:
            return number / self.rate
        return float((int(self._index.pts[number]) - self._index.origin) * self._time_base)

    def fingerprint(self) -> str:
        """Return a digest of the size of the file and of some of its bytes."""
        size = self.path.stat().st_size
        digest = hashlib.sha256(f"file {size} ".encode())
        with self.path.open("rb") as file:
            for offset in (0, size // 2, max(size - _SAMPLE_BYTES, 0)):
                file.seek(offset)
                digest.update(file.read(_SAMPLE_BYTES))
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file and drop the frames that are kept."""
        with self._lock:
            self._cached.clear()
            self._held_bytes = 0
            self._pictures, self._next = iter(()), None
            if self._container is not None:
                self._container.close()
                self._container = None

    def _open(self) -> tuple[Any, Any]:
        """Open the file; return the container and its video stream."""
        if not self.path.is_file():
            hint = "download it first; for a camera pass an iterator of its frames"
            raise VideoNotFoundError(
                f"expected a video file or a folder of frames, got {self.name}, which "
                f"{'is neither' if self.path.exists() else 'does not exist'}",
                hint=hint if ":/" in str(self.path) else None,
            )
        av = import_av()
        if self.path.stat().st_size == 0:
            raise VideoError(f"expected a video file, got {self.name}, which is empty")
        try:
            container = av.open(
                f"file:{self.path}",
                metadata_errors="replace",
                options={"format_whitelist": _FORMATS},
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoError(
                f"expected a video file, got {self.name}, which cannot be opened: {reason}",
                hint="the file is not a video, or is damaged or cut off before its table of frames",
            ) from error
        try:
            stream = _video_stream(container, self.path, self.name)
            width, height = stream.codec_context.width, stream.codec_context.height
            if width and height:
                check_pixels((height, width), self._max_pixels, f"frames of {self.name}")
        except BaseException:
            container.close()
            raise
        stream.thread_type = "AUTO"
        self._time_base = stream.time_base
        return container, stream

    def _frame(self, number: int) -> NDArray[np.uint8]:
        if self._container is None:
            raise VideoError(f"expected an open video, got {self.name}, which has been closed")
        picture = self._cached.get(number) or self._reach(number)
        if picture is None:
            self._refuse(number)
        return self._upright(picture)

    def _reach(self, number: int) -> av.VideoFrame | None:
        """Decode up to a frame, from where the decoder is if that is on the way to it."""
        starts = self._index.starts(number)[:_ATTEMPTS]
        ahead = -1 if self._next is None else number - self._next
        near = ahead < _SHORT_WAY or self._index.frame_of_packet(starts[0]) <= number - ahead
        for start in [None, *starts] if ahead >= 0 and near else starts:
            if start is not None:
                self._seek(start)
            picture = self._advance(number)
            if picture is not None:
                return picture
        return None

    def _refuse(self, number: int) -> NoReturn:
        """Say that a frame cannot be decoded; if none can from there on, the video ends there."""
        if self._next is None and number > 0:
            self._index = self._index.without(number)
            if self._index.pts is None:
                self._counted = number
            self._note_truncation("the rest cannot be decoded")
            self.checked(number)
        raise VideoError(
            f"expected frame {number} of {self.name}, got data that cannot be decoded",
            hint="the file is damaged there; export it again, or stop before that frame",
        )

    def _advance(self, number: int) -> av.VideoFrame | None:
        """Decode until a frame comes; None if it does not."""
        for picture in self._pictures:
            shown = self._number_of(picture)
            if shown is None:
                continue
            self._next = shown + 1
            self._keep(shown, picture)
            if shown == number:
                return picture
            if shown > number:
                return None
        self._next = None
        return None

    def _number_of(self, picture: av.VideoFrame) -> int | None:
        """Return the number of a decoded frame, None if it is not one to show."""
        if self._index.pts is None:
            return self._next or 0
        return None if picture.pts is None else self._index.frame_at(picture.pts)

    def _seek(self, start: int) -> None:
        """Put the decoder before a packet from which decoding can start."""
        av = import_av()
        self._next = self._index.frame_of_packet(start)
        if start > 0:
            for stamp in self._index.stamps(start):
                try:
                    self._container.seek(stamp, stream=self._stream)
                    packets = self._container.demux(self._stream)
                    first = next(packets)
                except (av.error.FFmpegError, OSError, StopIteration):
                    continue
                position = None if first.pts is None else self._index.packet_at(first.pts)
                if position is not None and position <= start:
                    self._pictures = self._decode(itertools.chain([first], packets), start)
                    return
        # The start of a file, and places its own seek misses, are always reached this way.
        self._container.close()
        self._container, self._stream = self._open()
        self._pictures = self._decode(self._container.demux(self._stream), start)

    def _decode(self, packets: Iterator[Any], start: int) -> Iterator[av.VideoFrame]:
        """Yield the frames of the packets from `start` on, passing over damaged ones."""
        av = import_av()
        begun = start == 0
        try:
            for packet in packets:
                begun = begun or packet.pts == self._index.packet_pts[start]
                if not begun and packet.size:
                    continue
                try:
                    pictures = packet.decode()
                except (av.error.FFmpegError, EOFError):
                    continue
                yield from pictures
        except (av.error.FFmpegError, OSError):  # the file ends in the middle of a packet
            return

    def _keep(self, number: int, picture: av.VideoFrame) -> None:
        """Keep a decoded frame, in the compact form of the codec, and let go of the oldest."""
        if number in self._cached:
            return
        self._cached[number] = picture
        self._held_bytes += _bytes_of(picture)
        while self._held_bytes > self._cache_bytes and len(self._cached) > 1:
            self._held_bytes -= _bytes_of(self._cached.popitem(last=False)[1])

    def _upright(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        """Return a decoded frame as (H, W, 3) RGB, rotated as the file says."""
        stored = (picture.width, picture.height)
        if self._stored_wh is None:
            check_pixels(stored[::-1], self._max_pixels, f"a frame of {self.name}")
            self._stored_wh = stored
            self._orientation = self._read_orientation(picture)
        if stored != self._stored_wh:
            raise VideoError(
                f"expected frames of {self._stored_wh[0]} x {self._stored_wh[1]} pixels "
                f"throughout {self.name}, got one of {stored[0]} x {stored[1]}",
                hint="export the video again with one size",
            )
        converted = self._reformatter.reformat(picture, format="rgb24")
        return np.ascontiguousarray(turned(converted.to_ndarray(), *self._orientation), np.uint8)

    def _read_orientation(self, picture: Any) -> tuple[bool, bool, bool]:
        """Return whether to swap the axes, then mirror left and right, then top and bottom.

        The display matrix takes a stored (column, row) to the screen: a, b, c, d with
        x = a column + c row, y = b column + d row, each in 16.16 fixed point.
        """
        for data in picture.side_data:
            if data.type.name != "DISPLAYMATRIX":
                continue
            a, b, _, c, d = struct.unpack("=9i", bytes(data))[:5]
            if a == d == 0 and b and c:
                return True, c < 0, b < 0
            if b == c == 0 and a and d:
                return False, a < 0, d < 0
            self._note(
                "it is to be shown at an angle that is no quarter turn; frames are as stored"
            )
        return False, False, False

    def _count(self) -> None:
        """Number the frames of a file without timestamps, by decoding it once."""
        self._counted = sum(1 for _ in self._pictures)
        self._seek(0)
        self._note(f"it states no usable timestamps; taken as {self.rate:g} frames per second")
        if self._counted == 0:
            raise VideoError(f"expected a video, got {self.name}, no frame of which can be decoded")
        if self._index.truncated:
            self._note_truncation("the file is cut short")

    def _settle_end(self) -> None:
        """Find the last good frame of a file that is cut short."""
        gap = first_gap(self._index.frames, int(self._index.packet_dts[-1]))
        self._index = self._index.without(gap)
        while True:
            if self.frame_count == 0:
                raise VideoError(
                    f"expected a video, got {self.name}, cut off before its first whole frame"
                )
            start = self._index.starts(self.frame_count - 1)[0]
            self._seek(start)
            seen = {self._number_of(picture) for picture in self._pictures}
            first = self._index.frame_of_packet(start)
            lost = [number for number in range(first, self.frame_count) if number not in seen]
            if lost:
                self._index = self._index.without(lost[0])
            if not lost or lost[0] > first:
                break
        self._seek(0)
        self._note_truncation("the file is cut short")

    def _note(self, text: str) -> None:
        self.notes += (text,)
        warnings.warn(f"{self.name}: {text}", NexusWarning, stacklevel=4)

    def _note_truncation(self, why: str) -> None:
        self.truncated = True
        self._note(f"{why}; it has {counted(self.frame_count, 'good frame')}")


def import_av() -> Any:
    """Import PyAV.

    Raises:
        MissingDependencyError: It is not installed.
    """
    hint = "'nexus-segmentation[video]'; a folder of frames needs no package"
    optional_module("av.video.reformatter", "to read or write a video file", hint)
    return optional_module("av", "to read or write a video file", hint)


def _video_stream(container: Any, path: Path, name: str) -> Any:
    """Return the stream of moving pictures in a file."""
    formats = set(container.format.name.split(","))
    if "image2" in formats or any(known.endswith("_pipe") for known in formats):
        count, kind = _pictures_in(path)
        if count > 1:
            raise VideoError(
                f"expected a video file, got {name}, a {kind} file of {count} pictures, which "
                "FFmpeg does not read as a video",
                hint="save it as GIF, APNG or MP4, or its pictures in a folder",
            )
        raise VideoError(
            f"expected a video file, got {name}, which is a single picture",
            hint="`nexus segment` takes a picture; a folder of pictures is a video",
        )
    kinds_of_still = import_av().stream.Disposition
    still = kinds_of_still.attached_pic | kinds_of_still.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
        cover = " and a cover picture" if len(container.streams.video) else ""
        kinds = "audio" if kinds == "audio, video" else kinds
        raise VideoError(f"expected a video file, got {name} with {kinds}{cover} and no video")
    if streams[0].codec_context is None:
        raise VideoError(
            f"expected a codec that can be decoded, got an unknown one in {name}",
            hint="export the video as H.264",
        )
    # An animated AVIF has the picture to show first as a stream of its own.
    return max(streams, key=lambda each: each.frames) if streams[0].frames == 1 else streams[0]


def _pictures_in(path: Path) -> tuple[int, str]:
    """Return how many pictures Pillow finds in a file, and its format; (1, "") if it reads none."""
    try:
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1), str(picture.format)
    except Exception:  # a parser of foreign bytes may raise anything
        return 1, ""


def _bytes_of(picture: av.VideoFrame) -> int:
    return sum(plane.buffer_size for plane in picture.planes)
