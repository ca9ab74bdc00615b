"""Write an edited clip, frame by frame, each at the time it had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexus.core.progress import Progress
from nexus.data.video.source import VideoSource
from nexus.data.video.video_writer import VideoWriter


def write_clip(
    path: Path,
    size_hw: tuple[int, int],
    video: VideoSource,
    edited: Callable[[int], NDArray[np.uint8]],
) -> None:
    """Write a video file and print its path.

    Args:
        path: The file.
        size_hw: Of the edited frames.
        video: Where they come from; one whose end is known.
        edited: Makes a frame (H, W, 3) by its number.
    """
    count = video.frame_count or 0
    with (
        VideoWriter(path, size_hw, rate=video.rate) as out,
        Progress(count, label=path.name) as progress,
    ):
        for index in range(count):
            out.write(edited(index), video.time_s(index))
            progress.advance()
    print(path)
