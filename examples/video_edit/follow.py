"""Where to crop a clip so that the crop follows an actor smoothly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nexus.core.errors import InputError


def smooth_crops(
    boxes_xyxy: NDArray[np.float64],
    size_hw: tuple[int, int],
    shape_wh: tuple[int, int],
    margin: float,
    smooth_frames: float,
) -> NDArray[np.float64]:
    """Return a crop for each frame, (T, 4) XYXY within the frame, all of one shape.

    Args:
        boxes_xyxy: (T, 4) around the actor; zeros where it is not seen, which is bridged.
        size_hw: Of the frames.
        shape_wh: Of the crop; its ratio counts.
        margin: Share of the actor's size left free around it.
        smooth_frames: Standard deviation of the smoothing over time.

    Raises:
        InputError: The actor is in no frame.
    """
    times, seen = np.arange(len(boxes_xyxy)), boxes_xyxy[:, 2] > boxes_xyxy[:, 0]
    if not seen.any():
        raise InputError("expected an actor in at least one frame, got empty masks alone")
    boxes = np.stack([np.interp(times, times[seen], edge[seen]) for edge in boxes_xyxy.T], axis=1)
    ratio = shape_wh[0] / shape_wh[1]
    height = np.maximum(boxes[:, 3] - boxes[:, 1], (boxes[:, 2] - boxes[:, 0]) / ratio)
    # The largest of the frames around, lest the smoothed crop be too small for a moment.
    height = ndimage.maximum_filter1d(height * (1 + 2 * margin), 2 * int(smooth_frames) + 1)
    height = np.minimum(height, min(size_hw[0], size_hw[1] / ratio))
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Going on beyond both ends as it came, so that the crop of a moving actor starts centred.
    pad = min(int(3 * smooth_frames), len(times) - 1)
    ends = np.pad(
        np.column_stack([center, height]), ((pad, pad), (0, 0)), "reflect", reflect_type="odd"
    )
    track = ndimage.gaussian_filter1d(ends, smooth_frames, axis=0)[pad : pad + len(times)]
    half = track[:, 2:] / 2 * (ratio, 1.0)  # (T, 2)
    center = np.clip(track[:, :2], half, np.array(size_hw[::-1]) - half)
    return np.hstack([center - half, center + half])
