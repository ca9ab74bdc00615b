"""Short videos whose frames say which frame they are, made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

BITS, COLUMNS, CELL = 12, 4, 16
CELL_ROWS = BITS // COLUMNS


def picture(number: int, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Draw a number as 12 black or white cells in the top left corner of a grey picture."""
    image = np.full((*size_hw, 3), 128, np.uint8)
    for bit in range(BITS):
        row, column = (CELL * place for place in divmod(bit, COLUMNS))
        image[row : row + CELL, column : column + CELL] = 255 * (number >> bit & 1)
    return image


def number(image: np.ndarray) -> int:
    """Read the number that `picture` drew."""
    cells = image[: CELL_ROWS * CELL, : COLUMNS * CELL].mean(axis=2)
    cells = cells.reshape(CELL_ROWS, CELL, COLUMNS, CELL)[:, 4:12, :, 4:12].mean(axis=(1, 3))
    return sum(1 << bit for bit, value in enumerate(cells.ravel()) if value > 127)


def make_clip(
    path: Path,
    count: int = 60,
    *,
    codec: str = "libx264",
    times: list[Fraction] | None = None,
    size_hw: tuple[int, int] = (48, 64),
    pix_fmt: str = "yuv420p",
    key_every: int = 25,
    b_frames: int | None = 3,
    time_base: Fraction = Fraction(1, 90000),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = picture,
) -> Path:
    """Encode a video with PyAV alone, so that readers are tested against another writer."""
    import av

    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.height, stream.width = size_hw
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = key_every
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(draw(index, size_hw), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            time = times[index] if times else Fraction(index, 30)
            frame.time_base, frame.pts = time_base, round(time / time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_audio(path: Path, *, cover: bool = False) -> Path:
    """Encode one second of a tone, with or without a cover picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.height, art.width, art.pix_fmt = 48, 64, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(picture(1), format="rgb24")
            container.mux(art.encode(image.reformat(format="yuvj420p")))
            container.mux(art.encode(None))
        for block in range(43):
            wave = np.sin(np.arange(1024) * 0.06)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, block * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a rotation into the track header of an MP4 file, as phones do."""
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd")
    start = header + 8 + (32 if data[header + 4] == 1 else 20) + 16
    one = 1 << 16
    values = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    data[start : start + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)
    return path


@pytest.fixture
def clips() -> Any:
    """Give the makers and readers of test videos."""
    return SimpleNamespace(
        picture=picture,
        number=number,
        make=make_clip,
        make_audio=make_audio,
        set_display_matrix=set_display_matrix,
    )
