"""Which frames a video file holds and where decoding must start for each, from its packets alone.

Nothing is decoded here. Frames are numbered in display order; `pts` is a display time in units of
the stream's time base, `dts` the time at which a packet is fed to the decoder, which differs from
it where there are B-frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import VideoError

if TYPE_CHECKING:
    import av

_NO_TIME = np.iinfo(np.int64).min
_EBML_SEGMENT = b"\x18\x53\x80\x67"
# Containers whose time 0 is the start of what is shown; others start at any number.
_ZERO_BASED = ("mov", "matroska")


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The frames of one video stream.

    Attributes:
        pts: (T,) display times in display order, each once; None if the file states none, in
            which case frames can only be counted from the start.
        packet_pts: (N,) display times of the packets in decoding order.
        packet_dts: (N,) decoding times of the packets; the lowest int64 where none is stated.
        key_packets: Positions in decoding order at which decoding can start.
        origin: Display time that counts as 0 seconds.
        truncated: The file ends before what it announces.
        damaged: Packets that are known to be damaged, but for those at a truncated end.
    """

    pts: NDArray[np.int64] | None
    packet_pts: NDArray[np.int64]
    packet_dts: NDArray[np.int64]
    key_packets: NDArray[np.int64]
    origin: int
    truncated: bool
    damaged: int = 0

    @cached_property
    def packets(self) -> dict[int, int]:
        """Positions of the packets in decoding order by their display time."""
        return {pts: position for position, pts in enumerate(self.packet_pts.tolist())}

    @property
    def frames(self) -> NDArray[np.int64]:
        """(T,) display times; empty if the file states none."""
        return np.zeros(0, np.int64) if self.pts is None else self.pts

    def frame_at(self, pts: int) -> int | None:
        """Return the number of the frame with a display time, None if there is none."""
        place = int(np.searchsorted(self.frames, pts))
        return place if place < len(self.frames) and self.frames[place] == pts else None

    def packet_at(self, pts: int) -> int | None:
        """Return the position of the packet with a display time, None if there is none."""
        return self.packets.get(pts)

    def frame_of_packet(self, position: int) -> int:
        """Return the number of the first frame shown no earlier than a packet's."""
        return int(np.searchsorted(self.frames, self.packet_pts[position]))

    def stamps(self, position: int) -> list[int]:
        """Return the times a seek to a packet may go by: some formats use `dts`, some `pts`."""
        times = (int(self.packet_dts[position]), int(self.packet_pts[position]))
        return [time for time in times if time != _NO_TIME]

    def starts(self, index: int) -> list[int]:
        """Return the packets decoding may start at for one frame, the nearest first.

        A frame shown before a key frame may need what came before that key frame even if it comes
        after it in the file (an open group of pictures), so only key frames that are shown no
        later than the frame count. The first key frame is always last.
        """
        if self.pts is None:
            return [0]
        wanted = int(self.pts[index])
        position = self.packet_at(wanted) or 0
        keys = self.key_packets[self.key_packets <= position]
        nearest: list[int] = keys[self.packet_pts[keys] <= wanted][::-1].tolist()
        first = int(self.key_packets[0])
        return nearest if nearest and nearest[-1] == first else [*nearest, first]

    def without(self, first: int) -> VideoIndex:
        """Return the index with the frames from number `first` on left out."""
        return replace(self, pts=None if self.pts is None else self.pts[:first], truncated=True)


def read_index(container: av.container.InputContainer, stream: Any, path: Path) -> VideoIndex:
    """Read all packets of a stream and return its frames.

    The container is freshly opened and left at its end; whether its file is whole `path` tells.

    Raises:
        VideoError: No packet holds a frame.
    """
    import av

    rows: list[tuple[int, ...]] = []
    broken = False
    try:
        for packet in container.demux(stream):
            if packet.size:
                times = (_NO_TIME if time is None else time for time in (packet.pts, packet.dts))
                rows.append((*times, packet.is_keyframe, packet.is_discard, packet.is_corrupt))
    except (av.error.FFmpegError, OSError):  # what could be read up to here is kept
        broken = True
    while rows and rows[-1][-1]:
        rows.pop()
        broken = True
    truncated = broken or is_cut_short(path)
    if not rows:
        cause = "it is cut off before the first" if truncated else "it is empty"
        raise VideoError(f"expected a video with frames, got {str(path)!r} with none: {cause}")
    pts, dts, key, hidden, corrupt = np.ascontiguousarray(np.array(rows, np.int64).T)
    damaged = int(corrupt.sum())
    origin = 0
    if not any(name in container.format.name for name in _ZERO_BASED):
        start_us = container.start_time or 0
        origin = round(start_us / 1_000_000 / stream.time_base)
    if _NO_TIME in pts or len(np.unique(pts)) < len(pts):
        return VideoIndex(None, pts, dts, np.zeros(1, np.int64), origin, truncated, damaged)
    keys = np.flatnonzero(key) if key.any() else np.zeros(1, np.int64)
    shown = pts[hidden == 0]
    # Frames before the first key frame, in the file or on the screen, miss what they refer to.
    shown = shown[(shown >= pts[keys[0]]) & np.isin(shown, pts[keys[0] :])]
    return VideoIndex(np.sort(shown), pts, dts, keys, origin, truncated, damaged)


def first_gap(pts: NDArray[np.int64], last_dts: int) -> int:
    """Return how many frames there are before the first hole near the end of a cut-off stream.

    Packets come in decoding order, so the last ones of a cut-off file can be frames shown later
    than some that are missing. Frames up to `last_dts`, the decoding time of the last packet, are
    complete; after it a step far longer than usual between display times (T,) is taken for
    missing frames.
    """
    if len(pts) < 3:
        return len(pts)
    steps = np.diff(pts)
    holes = np.flatnonzero((steps > 1.5 * np.median(steps[-30:])) & (pts[1:] > last_dts))
    return int(holes[0]) + 1 if len(holes) else len(pts)


def is_cut_short(path: Path) -> bool:
    """Say whether a file ends inside a part whose length it states.

    MP4 and MOV (boxes), Matroska and WebM (the segment) and AVI (the RIFF chunk) state lengths;
    for others the answer is False.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _boxes_end(file, size) > size
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            return _segment_end(head) > size
        if head[:4] == b"RIFF":
            return int.from_bytes(head[4:8], "little") + 8 > size
    return False


def _boxes_end(file: Any, size: int) -> int:
    """Return where the last box at the top of an MP4 or MOV file says it ends."""
    offset = 0
    while 0 <= offset < size:
        file.seek(offset)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: to the end of the file; else trailing bytes that players ignore
            return size
        offset += length
    return offset


def _segment_end(head: bytes) -> int:
    """Return where the segment of a Matroska file says it ends, 0 if it does not say."""
    start = head.find(_EBML_SEGMENT)
    width = 9 - head[start + 4].bit_length() if 0 <= start < len(head) - 4 else 9
    if width > 8:
        return 0
    unknown = (1 << 7 * width) - 1
    value = int.from_bytes(head[start + 4 : start + 4 + width], "big") & unknown
    return 0 if value == unknown else start + 4 + width + value
