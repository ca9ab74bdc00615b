"""Write frames as a video that browsers play, each at the time it had in its source."""

from __future__ import annotations

import math
import os
import warnings
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import replacing, uninterrupted
from nexus.data.video.file_reader import import_av

# A multiple of every usual time base: 1/90000, 1001/24000, 1001/30000, 1/1000. MPEG-4 part 2 has
# 16 bits for it.
_TIME_BASE, _TIME_BASE_MPEG4 = Fraction(1, 360_000), Fraction(1, 60_000)
# By suffix, the best first. What comes after the first in .mp4 plays in fewer places.
_CODECS = {
    ".mp4": ("libx264", "libvpx-vp9", "libsvtav1", "mpeg4"),
    ".m4v": ("libx264", "mpeg4"),
    ".mov": ("libx264", "mpeg4"),
    ".mkv": ("libx264", "libvpx-vp9", "libsvtav1", "mpeg4"),
    ".webm": ("libvpx-vp9", "libsvtav1", "libvpx"),
}
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast"},
    "libvpx-vp9": {"b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "libsvtav1": {"preset": "10"},
    "libvpx": {"b": "2M", "deadline": "realtime", "cpu-used": "6"},
}
# The qualities that look like x264's 20.
_CRF = {"libx264": 20, "libvpx-vp9": 30, "libsvtav1": 32, "libvpx": 10}
_BT709, _LIMITED_RANGE = 1, 1


class VideoWriter:
    """Write RGB frames to a video file that appears whole, or not at all.

    What is written goes to a file beside `path` and takes its name in `close`. Used in a `with`
    block, an error or Ctrl-C inside still leaves a valid file of the frames written so far. Frames
    are encoded as they come: memory does not grow with their number. Colours are BT.709, stated in
    the file. 4:2:0 video has even sides, so an odd side is one row or column longer in the file, a
    copy of the last.

    Args:
        path: A name that ends in .mp4, .m4v, .mov, .mkv or .webm. WebM and MKV keep times to the
            millisecond.
        size_hw: Height and width of the frames.
        rate: Frames per second, for frames written without a time of their own.
        codec: FFmpeg's name of an encoder; None takes the best there is, H.264 but for WebM.
        crf: Quality on the encoder's own scale, lower is better; None is good.
        keep_partial: After an error, keep the frames written so far; else leave no file.

    Attributes:
        path: The file.
        codec: The encoder in use.
        frame_count: Frames written.
        notes: What makes the file less than what was asked for.

    Raises:
        InputError: A suffix, size, rate, quality or encoder that cannot be used.
        MissingDependencyError: PyAV is not installed.
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size_hw: tuple[int, int],
        *,
        rate: float | Fraction = 25,
        codec: str | None = None,
        crf: int | None = None,
        keep_partial: bool = True,
    ) -> None:
        self._reformatter = import_av().video.reformatter.VideoReformatter()
        self.path = Path(path)
        height, width = (int(side) for side in size_hw)
        if height < 2 or width < 2:
            raise InputError(f"expected size_hw of at least 2 x 2 pixels, got {tuple(size_hw)}")
        self.size_hw = (height, width)
        if not 0 < rate < math.inf:
            raise InputError(f"expected rate in frames per second above 0, got {rate!r}")
        self.codec, note = _choose_codec(self.path, codec)
        self.notes = (note,) if note else ()
        if note:
            warnings.warn(f"{str(self.path)!r}: {note}", NexusWarning, stacklevel=2)
        self.frame_count = 0
        self.keep_partial = keep_partial
        self._rate = Fraction(rate).limit_denominator(1_001_000)
        self._time_base = _TIME_BASE_MPEG4 if self.codec == "mpeg4" else _TIME_BASE
        self._pts: int | None = None
        self._closed = False
        with ExitStack() as stack:
            self._temporary = stack.enter_context(replacing(self.path))
            self._container, self._stream = self._open(crf)
            self._files = stack.pop_all()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None or (self.keep_partial and self.frame_count):
            self.close()
        else:
            self.discard()

    def write(self, frame: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a frame, wholly: Ctrl-C takes effect after it.

        Args:
            frame: (H, W, 3) uint8 RGB.
            time_s: When it is shown, in seconds from the start, later than the frame before; None
                is one step of `rate` after that.

        Raises:
            InputError: A frame of another shape or type, a time that does not go forward, or a
                file that has been closed.
            OSError: The disk is full, or the file cannot be written.
        """
        if self._closed:
            raise InputError(f"expected an open video, got {str(self.path)!r}, which is closed")
        array = np.asarray(frame)
        if array.shape != (*self.size_hw, 3) or array.dtype != np.uint8:
            raise InputError(
                f"expected a frame of shape {(*self.size_hw, 3)} and uint8, "
                f"got shape {array.shape} and {array.dtype}"
            )
        pts = self._next_pts(time_s)
        with uninterrupted():
            picture = self._picture(array)
            picture.time_base, picture.pts = self._time_base, pts
            self._container.mux(self._stream.encode(picture))
            self._pts = pts
            self.frame_count += 1

    def close(self) -> Path:
        """Finish the file, give it its name and return the path; safe to call twice.

        Raises:
            InputError: No frame was written.
            OSError: The file cannot be written; what `path` held before stays.
        """
        if self._closed:
            return self.path
        with uninterrupted():
            if self.frame_count == 0:
                self.discard()
                raise InputError(
                    f"expected at least one frame for {str(self.path)!r}, got none",
                    hint="no file was written",
                )
            self._closed = True
            with self._files:  # gives the file its name, or removes it if this fails
                try:
                    self._container.mux(self._stream.encode(None))
                finally:
                    self._container.close()
        return self.path

    def discard(self) -> None:
        """Give the file up: nothing of it stays, and what `path` held before does."""
        if self._closed:
            return
        self._closed = True
        with uninterrupted():
            self._container.close()
            with suppress(_DiscardedError), self._files:
                raise _DiscardedError

    def _open(self, crf: int | None) -> tuple[Any, Any]:
        """Start the file; return its container and video stream."""
        av = import_av()
        # Without faststart a browser must load the whole file before it shows anything.
        boxed = self.path.suffix.lower() in (".mp4", ".m4v", ".mov")
        options = {"movflags": "faststart"} if boxed else {}
        container = av.open(str(self._temporary), "w", options=options)
        try:
            stream = container.add_stream(self.codec, rate=self._rate)
            stream.height, stream.width = (side + side % 2 for side in self.size_hw)
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.time_base = self._time_base
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
            quality = _CRF.get(self.codec) if crf is None else crf
            settings = dict(_OPTIONS.get(self.codec, {}))
            if self.codec == "mpeg4":
                context.bit_rate = max(1_000_000, 6 * stream.height * stream.width)
            elif quality is not None:
                settings["crf"] = str(quality)
            stream.options = settings
            container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            container.close()
            raise InputError(
                f"expected settings that encoder {self.codec} takes, got size_hw={self.size_hw}, "
                f"rate={self._rate}, crf={crf}: {error}",
                hint="leave codec and crf out, or scale the frames down",
            ) from error
        return container, stream

    def _next_pts(self, time_s: float | None) -> int:
        """Return the time of the next frame in units of the time base."""
        if time_s is None:
            step = max(round(1 / self._rate / self._time_base), 1)
            return 0 if self._pts is None else self._pts + step
        if not 0 <= time_s < math.inf:
            raise InputError(f"expected time_s in seconds, 0 or later, got {time_s!r}")
        pts = round(time_s / self._time_base)
        if self._pts is not None and pts <= self._pts:
            last_s = float(self._pts * self._time_base)
            raise InputError(
                f"expected a frame later than the one at {last_s:g} s, got time_s={time_s:g}",
                hint="write frames in the order they are shown",
            )
        return pts

    def _picture(self, frame: NDArray[np.uint8]) -> Any:
        """Return a frame in the codec's form."""
        height, width = self.size_hw
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = import_av().VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        return self._reformatter.reformat(
            picture, format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )


class _DiscardedError(Exception):
    """Makes `replacing` remove its file."""


def _choose_codec(path: Path, codec: str | None) -> tuple[str, str | None]:
    """Return the encoder for a file, and what to say if it is not the best for it."""
    wanted = _CODECS.get(path.suffix.lower())
    if wanted is None:
        raise InputError(
            f"expected a name that ends in {', '.join(_CODECS)}, got {path.name!r}",
            hint=".mp4 plays almost everywhere",
        )
    if codec is not None:
        if not has_encoder(codec):
            there = ", ".join(name for name in wanted if has_encoder(name))
            raise InputError(
                f"expected an encoder of this machine's FFmpeg, got {codec!r}",
                hint=f"for {path.suffix} there is {there}" if there else None,
            )
        return codec, None
    best = next(filter(has_encoder, wanted), None)
    if best is None:
        raise InputError(
            f"expected an encoder for {path.suffix}, got an FFmpeg with none of "
            f"{', '.join(wanted)}",
            hint="pip install --force-reinstall av brings an FFmpeg with encoders",
        )
    note = f"it is written with {best}, as there is no encoder {wanted[0]} here; "
    return best, None if best == wanted[0] else note + "some players will not show it"


def has_encoder(name: str) -> bool:
    """Say whether the FFmpeg in use can encode video with the encoder of a name."""
    av = import_av()
    try:
        return bool(av.Codec(name, "w").type == "video")
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False
