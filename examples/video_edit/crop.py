"""Crop a clip to one actor: the crop follows smoothly, and has one size and shape on screen.

Needs PyAV. Sound is not kept.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.video_edit.clip import write_clip
from examples.video_edit.follow import smooth_crops
from examples.video_edit.masks import ObjectMasks, add_arguments
from nexus.cli.main import run_script
from nexus.data.video.opening import open_video
from nexus.ops.boxes import mask_to_box_xyxy


def main() -> None:
    """Write the cropped clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("W", "H"))
    parser.add_argument("--margin", type=float, default=0.15, help="share of the actor's size")
    parser.add_argument("--smooth", type=float, default=0.4, help="seconds")
    args = parser.parse_args()
    with open_video(args.video) as video:
        masks, count = ObjectMasks(video, args), video.frame_count or 0
        boxes = np.array([mask_to_box_xyxy(masks[index]) for index in range(count)], np.float64)
        smooth = args.smooth * video.rate
        shape_wh = (args.size[0], args.size[1])
        crops = smooth_crops(boxes, video.size_hw, shape_wh, args.margin, smooth)

        def edited(index: int) -> NDArray[np.uint8]:
            frame, crop = Image.fromarray(video.frame(index)), tuple(crops[index])
            return np.asarray(frame.resize(shape_wh, Image.Resampling.LANCZOS, box=crop))

        write_clip(args.out, shape_wh[::-1], video, edited)


if __name__ == "__main__":
    run_script(main)
